import type {
  BuiltRelease,
  EndpointId,
  PoolKind,
  ReleaseSpec,
  SleepDepth,
  WorkerId,
  WorkerLimits,
} from "../core/model.ts";

export type { BuiltRelease, SleepDepth } from "../core/model.ts";

/** Turns a release's source into something that starts at once. */
export type ReleaseBuilder = {
  /** Says each step through `onStep`; rejects with an RpxError that tells what to install or to mend. Idempotent. */
  build(request: BuildRequest, onStep: OnStep, signal: AbortSignal): Promise<BuiltRelease>;
};

export type BuildRequest = {
  readonly endpointId: EndpointId;
  readonly version: number;
  readonly spec: ReleaseSpec;
};

/** One step of a build in words; `percent` (0 to 100) where the size of the work is known. */
export type OnStep = (text: string, percent?: number) => void;

export type WorkerStart = {
  readonly workerId: WorkerId;
  readonly endpointId: EndpointId;
  readonly release: number;
  readonly built: BuiltRelease;
  /** The protocol's variables and the endpoint's own, secrets filled in. */
  readonly env: Readonly<Record<string, string>>;
  readonly limits: WorkerLimits;
};

/** The pools and builders of a daemon by their kind; what it does not have is not there. */
export type Pools = Readonly<Partial<Record<PoolKind, WorkerPool>>>;
export type Builders = Readonly<Partial<Record<PoolKind, ReleaseBuilder>>>;

/** How far a start has come. `percent` of a pull is null while its size is unknown. */
export type StartStep =
  | { readonly phase: "pull"; readonly percent: number | null }
  | { readonly phase: "create" }
  | { readonly phase: "boot" };

/** Why a worker ended, as the pool saw it. `reason` is a sentence. */
export type WorkerExit = {
  readonly workerId: WorkerId;
  readonly code: number | null;
  readonly signal: string | null;
  readonly reason: string;
  /** What ended it, where the pool knows: memory or disk over its limit, removed or stopped by hand. */
  readonly cause?: "oom" | "disk" | "removed";
};

export type PoolWorker = {
  readonly workerId: WorkerId;
  readonly handle: string;
  /** Null: it runs. */
  readonly asleep: SleepDepth | null;
  readonly exit: WorkerExit | null;
};

/** What keeps workers from this host and from each other, as every listing says it, and why it is not more. */
export type Isolation = { readonly level: "none" | "partial" | "full"; readonly reason: string };

/**
 * Where workers find the worker listener. `listenHost` is an address of this host to listen on, null where the listener on
 * loopback serves them; `urlHost` is the host in the URL that they are given.
 */
export type WorkerAddress = { readonly listenHost: string | null; readonly urlHost: string };

/**
 * Where workers run. Only the reconciler calls what changes it. While the pool is away its calls reject, and nothing is concluded
 * about its workers (F-18).
 */
export type WorkerPool = {
  readonly kind: PoolKind;
  /** How its workers can sleep, lightest first. */
  readonly sleeps: readonly SleepDepth[];
  isolation(): Isolation;
  /** A sentence why it cannot be reached now; null when it can. */
  away(): string | null;
  /** Where its workers find the listener; null while it is not known. */
  address(): WorkerAddress | null;
  /** Workers are wanted: what they need of this host beside the engine (a network, its rules) is made. Idempotent; waits for nothing. */
  prepare(): void;
  /** Calls back whenever what `away`, `address` or `isolation` say has changed. */
  onChange(listener: () => void): () => void;
  /**
   * Starts a worker. A start that is aborted, or rejects, leaves nothing behind. It resolves once the worker's program runs; until
   * then `onPhase` tells how far it is.
   */
  start(
    worker: WorkerStart,
    onPhase: (step: StartStep) => void,
    signal: AbortSignal,
  ): Promise<{ readonly handle: string }>;
  /** Asks the worker to end (SIGTERM): only after it was drained. */
  stop(workerId: WorkerId): Promise<void>;
  /** Ends the worker and all it started, now. */
  kill(workerId: WorkerId): Promise<void>;
  /** Puts an idle worker to sleep. Depths that a pool does not have reject. */
  park(workerId: WorkerId, depth: SleepDepth): Promise<void>;
  /** Wakes a parked worker; resolves when it runs. */
  wake(workerId: WorkerId): Promise<void>;
  /** Every worker of this daemon that exists, ended ones not yet forgotten included: the truth for adoption. */
  list(): Promise<readonly PoolWorker[]>;
  /** Drops an ended worker, and what is left of it, once its end is recorded. */
  forget(workerId: WorkerId): Promise<void>;
  onExit(listener: (exit: WorkerExit) => void): () => void;
};
