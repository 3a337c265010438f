import type { BuiltRelease, EndpointId, ReleaseSpec, WorkerId } from "../core/model.ts";

export type { BuiltRelease } from "../core/model.ts";

/** Turns a release's source into something that starts at once. */
export type ReleaseBuilder = {
  /** Says each step through `onLine`; rejects with an RpxError that tells what to install. Idempotent. */
  build(spec: ReleaseSpec, onLine: (line: string) => void, signal: AbortSignal): Promise<BuiltRelease>;
};

export type WorkerStart = {
  readonly workerId: WorkerId;
  readonly endpointId: EndpointId;
  readonly built: BuiltRelease;
  /** The protocol's variables and the endpoint's own. */
  readonly env: Readonly<Record<string, string>>;
};

/** Why a worker ended, as the pool saw it. `reason` is a sentence. */
export type WorkerExit = {
  readonly workerId: WorkerId;
  readonly code: number | null;
  readonly signal: string | null;
  readonly reason: string;
};

export type PoolWorker = {
  readonly workerId: WorkerId;
  readonly handle: string;
  readonly exit: WorkerExit | null;
};

/** Where workers run. Only the reconciler calls what changes it. */
export type WorkerPool = {
  readonly kind: "process";
  /** What keeps workers from this host and each other, as every listing says it. */
  readonly isolation: "none" | "partial" | "full";
  start(worker: WorkerStart): Promise<{ readonly handle: string }>;
  /** Asks the worker to end (SIGTERM): only after it was drained. */
  stop(workerId: WorkerId): Promise<void>;
  /** Ends the worker and all it started, now. */
  kill(workerId: WorkerId): Promise<void>;
  /** Holds the worker still in memory; `resume` undoes it. */
  freeze(workerId: WorkerId): Promise<void>;
  resume(workerId: WorkerId): Promise<void>;
  /** Every worker of this daemon that exists, ended ones not yet forgotten included: the truth for adoption. */
  list(): Promise<readonly PoolWorker[]>;
  /** Drops an ended worker once its end is recorded. */
  forget(workerId: WorkerId): Promise<void>;
  onExit(listener: (exit: WorkerExit) => void): () => void;
};
