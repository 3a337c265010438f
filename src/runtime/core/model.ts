import type { EndpointConfig } from "../../contract/schemas/endpoint.ts";

/**
 * The records the daemon keeps. Times are integer milliseconds of the daemon's own clock (ports/clock.ts);
 * fields that hold JSON text end in `Json` and are never parsed on the hot path.
 */

declare const brand: unique symbol;
type Brand<Name extends string> = { readonly [brand]: Name };

export type EndpointId = string & Brand<"EndpointId">;
export type JobId = string & Brand<"JobId">;
/** One incarnation of a worker: a worker id is used once, ever (INV-6). */
export type WorkerId = string & Brand<"WorkerId">;
export type KeyId = string & Brand<"KeyId">;

// --- Jobs -----------------------------------------------------------------------------------------------

/** Job states as on the wire (RunPod, job states). */
export const JOB_STATES = [
  "IN_QUEUE",
  "IN_PROGRESS",
  "COMPLETED",
  "FAILED",
  "CANCELLED",
  "TIMED_OUT",
] as const;
export type JobState = (typeof JOB_STATES)[number];
export type TerminalState = Exclude<JobState, "IN_QUEUE" | "IN_PROGRESS">;

/** Why a job failed, for people and filters. `handler`: the handler's own error. */
export type FailureKind =
  | "handler"
  | "worker_lost"
  | "execution_timeout"
  | "ttl"
  | "invalid_result"
  | "result_too_large"
  | "stream_too_large";

/** One delivery of a job to one worker. `startedAtMs` is null while a prefetched job waits behind another. */
export type Lease = {
  readonly workerId: WorkerId;
  readonly takenAtMs: number;
  readonly startedAtMs: number | null;
};

/** How a job ended. `delayMs` is the queue wait before the last attempt, `executionMs` pickup to finish. */
export type JobEnd = {
  readonly atMs: number;
  readonly workerId: WorkerId | null;
  readonly delayMs: number;
  readonly executionMs: number;
  readonly failure: FailureKind | null;
  /** Until when clients can read the job; later `/v2` answers 404. */
  readonly retainUntilMs: number;
};

/** What a job asks for, fixed at submission. */
export type JobPolicy = {
  readonly executionTimeoutMs: number;
  /** Counted from submission, queue and run time together. */
  readonly ttlMs: number;
  /** Never triggers a scale-up; handed out after all others. */
  readonly lowPriority: boolean;
  /** Times that a handler's own error is tried again. */
  readonly handlerRetries: number;
  readonly retention: Retention;
  /** The release that alone may run it: tests of one that is not live. Absent: the live one, whichever that is. */
  readonly pinned?: number;
};

/** How long a finished job's input and output stay readable, in ms, by how it ended. */
export type Retention = { readonly completedMs: number; readonly failedMs: number };

type JobBase = {
  readonly id: JobId;
  readonly endpointId: EndpointId;
  /** Whose key submitted it. */
  readonly owner: string;
  /** Grows with each `/retry`; one terminal result per generation (INV-2). */
  readonly generation: number;
  /** Deliveries that count, in this generation. */
  readonly attempts: number;
  /** Every delivery ever: the fencing token that first-party workers echo. */
  readonly deliveries: number;
  readonly policy: JobPolicy;
  readonly createdAtMs: number;
  /** Start of the present wait, or of the wait before the present lease. */
  readonly queuedAtMs: number;
  readonly expiresAtMs: number;
  readonly webhookUrl: string | null;
};

/** Not before `availableAtMs` is the job handed out (backoff of opt-in retries). */
export type QueuedJob = JobBase & { readonly state: "IN_QUEUE"; readonly availableAtMs: number };
export type RunningJob = JobBase & { readonly state: "IN_PROGRESS"; readonly lease: Lease };
export type EndedJob = JobBase & { readonly state: TerminalState; readonly end: JobEnd };
export type Job = QueuedJob | RunningJob | EndedJob;

/** What the handler is given and what came back, as raw JSON text. */
export type JobPayload = {
  readonly inputJson: string;
  /** Every other top-level member of the request as a JSON object text. */
  readonly extrasJson: string;
  /** Final output, or the latest progress value while the job runs. */
  readonly outputJson: string | null;
  readonly error: string | null;
};

// --- Endpoints and releases -----------------------------------------------------------------------------

/** Settings that need no new release when they change, in the order of rpx.toml. */
export type EndpointSettings = {
  readonly workers: {
    readonly min: number;
    readonly max: number;
    readonly idleTimeoutMs: number;
    readonly flashboot: boolean;
    readonly prefetch: number;
    /** Workers above max while the queue waits too long. */
    readonly extra: number;
    /** Boot a worker once when a release goes live, so that the next job finds a parked one. */
    readonly prewarm: boolean;
  };
  readonly scale: {
    readonly by: "queue-delay" | "request-count";
    /** Seconds for queue-delay, requests per worker for request-count. */
    readonly threshold: number;
    /** 0: no limit. */
    readonly maxQueued: number;
  };
  readonly limits: {
    readonly executionTimeoutMs: number;
    readonly ttlMs: number;
    readonly startTimeoutMs: number;
    readonly retries: number;
  };
  readonly retention: { readonly asyncMs: number; readonly syncMs: number; readonly failedMs: number };
  /** Names the secret that signs webhooks, or null. */
  readonly webhookSecret: string | null;
};

/** Where workers run. A release names its pool, and never changes it by itself (D7). */
export const POOL_KINDS = ["process", "docker"] as const;
export type PoolKind = (typeof POOL_KINDS)[number];

/**
 * Where a release's code lies: the user's own folder (rpx dev), an immutable copy in the data directory, or an image that brings
 * its own, by the reference that the user gave.
 */
export type ReleaseSource =
  | { readonly kind: "folder"; readonly path: string }
  | { readonly kind: "bundle"; readonly digest: string }
  | { readonly kind: "image"; readonly reference: string };

/** What a worker asks of its machine. */
export type Hardware = Pick<EndpointConfig, "gpu" | "volumes"> & {
  readonly limits?: Pick<NonNullable<EndpointConfig["limits"]>, "memory" | "cpus" | "pids" | "shm" | "disk">;
};

/** What a worker may use at most; null: what its pool gives by itself. */
export type WorkerLimits = {
  readonly memoryBytes: number | null;
  readonly cpus: number | null;
  readonly pids: number;
  readonly shmBytes: number | null;
  readonly diskBytes: number | null;
};

/** How an image is made and started, as the table `[image]` of rpx.toml spells it. */
export type ImageSettings = {
  /** What a generated Dockerfile begins with; absent: by the handler's language. */
  readonly base?: string;
  /** Replaces the image's own entrypoint or command. */
  readonly entrypoint?: readonly string[];
  readonly command?: readonly string[];
  /** Name of the stored registry login that pulls it. */
  readonly registry?: string;
};

/** What a worker is made of: a change makes a new release. */
export type ReleaseSpec = {
  readonly pool: PoolKind;
  readonly source: ReleaseSource;
  /** Path of the handler file inside the source; null where the image or its Dockerfile says what runs. */
  readonly handler: string | null;
  /** Interpreter asked for, or null to look for one. Process pool only. */
  readonly python: string | null;
  /** Path of the Dockerfile inside the source; null: one is generated. Docker pool only. */
  readonly dockerfile: string | null;
  readonly image: ImageSettings;
  /** Settings of the machine under it, as rpx.toml spells them: kept, and enforced where the pool can. */
  readonly hardware: Hardware;
  readonly env: Readonly<Record<string, string>>;
};

/** How to start a worker of a release: made once by the builder, kept with the release. */
export type BuiltRelease = BuiltProcess | BuiltImage;

type Built = {
  /** What the code needs beside the protocol's variables (PATH, PYTHONPATH, NODE_OPTIONS). */
  readonly env: Readonly<Record<string, string>>;
  /** What was chosen, in words: "python 3.11.2 (/usr/bin/python3)". */
  readonly runtime: string;
  /** Things the user should know: a stand-in used, a limit that this pool cannot enforce. */
  readonly warnings: readonly string[];
};

/** A program of this machine. */
export type BuiltProcess = Built & {
  readonly kind: "process";
  readonly file: string;
  readonly args: readonly string[];
  readonly cwd: string;
};

/** A container's image. */
export type BuiltImage = Built & {
  readonly kind: "image";
  /** What containers are made from: `name@sha256:...`, or the id of an image that was built here. Never a tag: tags move. */
  readonly image: string;
  /** The same for people: the reference asked for, or the tag given to what was built. */
  readonly reference: string;
  /** Name of the stored registry login that pulls it, or null. */
  readonly registry: string | null;
  /** Null: the image's own. */
  readonly entrypoint: readonly string[] | null;
  readonly command: readonly string[] | null;
  /** Folders of this machine that its workers see, in place (rpx dev, and the SDK stand-in). */
  readonly mounts: readonly BuiltMount[];
};

export type BuiltMount = { readonly source: string; readonly target: string; readonly readOnly: boolean };

/**
 * building: being made; proving: its first worker has to become ready, and its tests to pass, before it serves; live: serves;
 * superseded: a newer one took its place; failed: never served.
 */
export const RELEASE_STATES = ["building", "proving", "live", "superseded", "failed"] as const;
export type ReleaseState = (typeof RELEASE_STATES)[number];

/** At what a release failed: at its build, at its first worker, or at one of its tests. */
export const RELEASE_FAILURES = ["build", "worker", "test"] as const;
export type ReleaseFailure = (typeof RELEASE_FAILURES)[number];

/** A field that differs from the release before, both sides as text. */
export type ReleaseChange = {
  readonly field: string;
  readonly old: string | null;
  readonly new: string | null;
};

/** A job that a release has to end well before it serves; `expectedJson`: what its output must equal. */
export type ReleaseTest = {
  readonly name: string;
  readonly inputJson: string;
  readonly timeoutMs: number;
  readonly expectedJson: string | null;
};

export type Release = {
  readonly endpointId: EndpointId;
  readonly version: number;
  readonly state: ReleaseState;
  /** A sentence: why it is in this state. */
  readonly reason: string;
  /** At what it failed; absent unless it has. */
  readonly failure?: ReleaseFailure;
  readonly spec: ReleaseSpec;
  /** Null until it was built. */
  readonly built: BuiltRelease | null;
  /** What differs from the release that it follows. */
  readonly diff: readonly ReleaseChange[];
  /** What made it, in words: "deploy", "update", "rollback to 3". */
  readonly origin: string;
  readonly tests: readonly ReleaseTest[];
  readonly createdAtMs: number;
  /** When it went live; null before. */
  readonly liveAtMs: number | null;
};

/** A release that can be started. */
export type BuiltVersion = Release & { readonly built: BuiltRelease };

/** What the autoscaler wants and why; only the reconciler acts on it. */
export type Desired = { readonly workers: number; readonly reason: string };

/** The number that stands for no release. */
export const NO_RELEASE = 0;

export type Endpoint = {
  readonly id: EndpointId;
  readonly name: string;
  readonly owner: string;
  readonly settings: EndpointSettings;
  /** NO_RELEASE until the first one has gone live. */
  readonly liveRelease: number;
  /** The one that is being built or proven; null: none. */
  readonly candidateRelease: number | null;
  /** Jobs are accepted and wait; none is handed out. */
  readonly paused: boolean;
  readonly desired: Desired;
  readonly createdAtMs: number;
};

/** Live counts of one endpoint, kept in the transactions that change them. */
export type JobCounts = {
  readonly inQueue: number;
  readonly inProgress: number;
  readonly completed: number;
  readonly failed: number;
  readonly cancelled: number;
  readonly timedOut: number;
  readonly retried: number;
  readonly accepted: number;
};

// --- Workers --------------------------------------------------------------------------------------------

/**
 * Stored worker states. Shown ones are derived: a `ready` worker with a lease is running, one of an older release
 * than the live one is outdated.
 */
export const WORKER_STATES = ["wanted", "starting", "ready", "parked", "draining", "failed", "gone"] as const;
export type WorkerState = (typeof WORKER_STATES)[number];

/** What a start does: fetch the image, make the worker, wait for its first take. */
export const START_PHASES = ["pull", "create", "boot"] as const;
export type StartPhase = (typeof START_PHASES)[number];

/** How deep a parked worker sleeps: held still in memory, or ended with its container kept. */
export type SleepDepth = "frozen" | "stopped";

/** How a worker ended: its exit code or signal, and what ended it where that is known. */
export type WorkerEnd = {
  readonly code: number | null;
  readonly signal: string | null;
  readonly cause: "oom" | "disk" | "removed" | null;
};

export type Worker = {
  readonly id: WorkerId;
  readonly endpointId: EndpointId;
  readonly release: number;
  readonly pool: PoolKind;
  readonly state: WorkerState;
  /** A sentence, in every state. */
  readonly reason: string;
  readonly createdAtMs: number;
  /** First take. */
  readonly readyAtMs: number | null;
  readonly endedAtMs: number | null;
  /** The pool's own name for it: a process id, a container's id. */
  readonly handle: string | null;
  /** How far its start has come; null before and after. */
  readonly phase: StartPhase | null;
  /** When its program began to run: the start timeout counts from here. */
  readonly bootedAtMs: number | null;
  /** How deep it sleeps while it is parked, and since when. */
  readonly asleep: SleepDepth | null;
  readonly parkedAtMs: number | null;
  /** How it ended, where its pool saw it. */
  readonly exit: WorkerEnd | null;
};

// --- Keys -----------------------------------------------------------------------------------------------

/** Scopes, each with the ones before it. */
export const SCOPES = ["read", "run", "deploy", "admin"] as const;
export type Scope = (typeof SCOPES)[number];

export type Key = {
  readonly id: KeyId;
  readonly name: string;
  readonly owner: string;
  readonly scope: Scope;
  /** Shared endpoints that this key may use beside its owner's. */
  readonly endpointIds: readonly EndpointId[];
  /** First characters, to tell keys apart in lists. */
  readonly prefix: string;
  readonly createdAtMs: number;
  readonly lastUsedAtMs: number | null;
  readonly revokedAtMs: number | null;
};

// --- Secrets --------------------------------------------------------------------------------------------

/** A value that is stored under a name and never shown: what can be said of it. */
export type Secret = {
  readonly owner: string;
  readonly name: string;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
};

// --- Journal --------------------------------------------------------------------------------------------

/** One state change, never with a payload. `seq` is the only event number there is. */
export type JournalEvent = {
  readonly seq: number;
  readonly atMs: number;
  readonly kind: string;
  readonly endpointId: EndpointId | null;
  readonly owner: string | null;
  readonly jobId: JobId | null;
  readonly workerId: WorkerId | null;
  /** Small facts of the change: states, numbers, reasons. */
  readonly data: Readonly<Record<string, string | number | boolean | null>>;
};
