import type {
  EndpointId,
  FailureKind,
  Job,
  JobCounts,
  JobId,
  JobPayload,
  JobState,
  JournalEvent,
  Key,
  KeyId,
  QueuedJob,
  RunningJob,
  Secret,
  WorkerId,
} from "../core/model.ts";
import type { FleetStore, ReleaseRef } from "./fleet-store.ts";
import type { RegistryStore } from "./registry-store.ts";

export type { FleetStore, ReleaseDraft, ReleaseRef } from "./fleet-store.ts";

/**
 * The durable state. Methods that change something are whole transitions: each commits on its own or in one
 * transaction with others of the same turn of the event loop (group commit), and resolves after the commit.
 * No connection or transaction type leaks out. Every change writes its journal row in the same transaction.
 */
export type Store = {
  readonly jobs: JobStore;
  readonly fleet: FleetStore;
  readonly journal: JournalStore;
  readonly outbox: OutboxStore;
  readonly keys: KeyStore;
  readonly secrets: SecretStore;
  readonly registries: RegistryStore;
  /** Newest time in the store, in ms; 0 when empty. The clock starts from it. */
  newestTimeMs(): number;
  /** Calls back synchronously after each commit with its journal rows, in order; returns the unsubscriber. */
  onCommit(listener: (events: readonly JournalEvent[]) => void): () => void;
  /** Waits for the running commit, checkpoints and closes. */
  close(): Promise<void>;
};

// --- Jobs -----------------------------------------------------------------------------------------------

/** A job that was accepted by validation, with the limits that only the store can judge without a race. */
export type Submission = {
  readonly job: QueuedJob;
  readonly payload: Pick<JobPayload, "inputJson" | "extrasJson">;
  readonly idempotency: { readonly scope: string; readonly key: string; readonly bodyDigest: string } | null;
  /** Most jobs that may wait on the endpoint; 0: no limit. */
  readonly maxQueued: number;
  /** Most jobs that the owner may have waiting, on all endpoints; 0: no limit. */
  readonly maxOwnerQueued: number;
};

export type Enqueued =
  | { readonly kind: "accepted" }
  /** The idempotency key was seen with the same body: this is the job it made. */
  | { readonly kind: "repeated"; readonly jobId: JobId }
  /** The idempotency key was seen with another body. */
  | { readonly kind: "key_conflict" }
  | { readonly kind: "endpoint_full" }
  | { readonly kind: "owner_full" };

/** A job with all that clients can read of it. */
export type JobView = { readonly job: Job; readonly payload: JobPayload };

/** A delivery as the worker gets it. */
export type Delivery = {
  readonly job: RunningJob;
  readonly payload: Pick<JobPayload, "inputJson" | "extrasJson">;
};

/** What a worker reported as the end of a job, already judged. */
export type Result =
  | { readonly kind: "output"; readonly outputJson: string | null }
  | {
      readonly kind: "error";
      readonly error: string;
      readonly outputJson: string | null;
      readonly retryDelayMs: number;
    }
  | { readonly kind: "rejected"; readonly failure: RejectedFailure; readonly error: string };

export type RejectedFailure = Extract<
  FailureKind,
  "invalid_result" | "result_too_large" | "stream_too_large"
>;

/** Who writes: the fence of INV-4. `delivery` is checked when the worker can echo it. */
export type LeaseRef = {
  readonly jobId: JobId;
  readonly workerId: WorkerId;
  readonly delivery: number | null;
};

/** `applied` is false for a superseded, unknown or finished job: the write changed nothing. */
export type Applied = { readonly applied: boolean; readonly job: Job | null };

/** Chunks since the last read, and whether more remain for a later reply. */
export type ChunkPage = {
  readonly state: JobState;
  readonly chunksJson: readonly string[];
  readonly more: boolean;
  /** Give this to `rewindChunks` when the reply could not be written. */
  readonly cursor: number;
};

export type JobFilter = {
  readonly endpointId?: EndpointId;
  /** Only this owner's jobs. */
  readonly owner?: string;
  readonly states?: readonly JobState[];
  readonly workerId?: WorkerId;
  readonly idPrefix?: string;
  /** Newest first, below this sequence number. */
  readonly beforeSeq?: number;
  readonly limit: number;
};

/**
 * An endpoint's own queue; jobs that are pinned to a release are not of it. `inQueueNormal` and `oldestQueuedAtMs` ignore low-priority
 * jobs too: they never scale anything up.
 */
export type QueueSample = {
  readonly inQueue: number;
  readonly inQueueNormal: number;
  readonly inProgress: number;
  readonly oldestQueuedAtMs: number | null;
};

export type JobStore = {
  enqueue(submission: Submission, nowMs: number): Promise<Enqueued>;
  /**
   * Leases up to `max` jobs in queue order to a worker; the first `startable` of them start at once, the others are
   * prefetched. Jobs whose time to live is over are passed by; a worker that is not ready gets none, judged in
   * the same transaction (F-42). A worker of the live release gets the endpoint's jobs, unless it is paused; one of another release
   * those pinned to its own. Committed without a sync.
   */
  take(
    options: { endpointId: EndpointId; workerId: WorkerId; max: number; startable: number },
    nowMs: number,
  ): Promise<readonly Delivery[]>;
  /** Records the end of a job; starts the worker's next prefetched job in the same transaction. */
  finish(lease: LeaseRef, result: Result, nowMs: number): Promise<Applied>;
  /** Latest progress value. Not synced. */
  progress(lease: LeaseRef, outputJson: string, nowMs: number): Promise<Applied>;
  /**
   * Appends a stream chunk (raw JSON). Not synced. `part` is its number in the delivery where the worker gives one: a repeat changes
   * nothing. `tooLarge`: the job's stream passed `maxBytes` and the chunk was not kept.
   */
  appendChunk(
    lease: LeaseRef,
    chunk: { readonly chunkJson: string; readonly part: number | null },
    maxBytes: number,
  ): Promise<Applied & { readonly tooLarge: boolean }>;
  /** Takes the chunks since the last read off the job's cursor, at most `maxBytes` (at least one). Not synced. */
  readChunks(jobId: JobId, maxBytes: number): Promise<ChunkPage | null>;
  /** Puts the cursor back after a reply that did not leave. */
  rewindChunks(jobId: JobId, cursor: number): Promise<void>;
  /** Ends all leases of a worker: `lose` counts for those that had begun (prefetched ones had not), `return` does not. */
  endLeases(
    workerId: WorkerId,
    input: "lose" | "return",
    reason: string,
    nowMs: number,
  ): Promise<readonly Job[]>;
  /** Ends single leases of a worker, as `endLeases`. */
  endLease(lease: LeaseRef, input: "lose" | "return", reason: string, nowMs: number): Promise<Applied>;
  cancel(jobId: JobId, nowMs: number): Promise<Applied>;
  /** A new generation of a FAILED or TIMED_OUT job whose input is still kept; not of one that was pinned to a release. */
  retry(jobId: JobId, nowMs: number): Promise<Applied>;
  /** Cancels up to `limit` queued jobs accepted up to `upToSeq`; returns how many. */
  purge(
    options: { endpointId: EndpointId; owner: string | null; upToSeq: number; limit: number },
    nowMs: number,
  ): Promise<number>;
  /** Ends up to `limit` jobs whose time to live or execution time is over; returns them as they were. */
  endOverdue(nowMs: number, limit: number): Promise<readonly Job[]>;
  /** Makes up to `limit` jobs whose backoff is over available. */
  releaseDelayed(nowMs: number, limit: number): Promise<number>;
  /** How long the job stays readable, counted from now, or from its end when that is still to come. */
  setRetention(jobId: JobId, retainMs: number, nowMs: number): Promise<void>;

  /** Whether chunks wait behind the job's cursor. */
  hasChunks(jobId: JobId): boolean;
  find(jobId: JobId): Job | null;
  view(jobId: JobId): JobView | null;
  list(filter: JobFilter): readonly (Job & { readonly seq: number })[];
  /** Leases that a worker holds, oldest first. */
  leases(workerId: WorkerId): readonly RunningJob[];
  counts(endpointId: EndpointId, owner: string | null): JobCounts;
  sample(endpointId: EndpointId): QueueSample;
  /** Queued jobs whose backoff runs. */
  delayed(endpointId: EndpointId): number;
  /** Queued jobs without a backoff, by the release that they are pinned to (0: the live one). */
  ready(endpointId: EndpointId): ReadonlyMap<number, number>;
  /** Jobs pinned to a release that have not ended. */
  pinnedTo(ref: ReleaseRef): readonly Job[];
  /** Jobs ahead of this one in its queue; counted up to `limit`. */
  ahead(jobId: JobId, limit: number): number;
  newestSeq(): number;
  /** Earliest time at which endOverdue or releaseDelayed has work, or null. */
  nextDueMs(): number | null;

  /** Deletes payloads past their retention and metadata past `metadataBeforeMs`; returns rows touched. */
  prune(options: { metadataBeforeMs: number; limit: number }, nowMs: number): Promise<number>;
};

// --- Journal, outbox, keys ------------------------------------------------------------------------------

export type JournalFilter = {
  readonly afterSeq?: number;
  readonly jobId?: JobId;
  readonly workerId?: WorkerId;
  readonly endpointId?: EndpointId;
  readonly limit: number;
};

export type JournalStore = {
  /** In order of `seq`. */
  read(filter: JournalFilter): readonly JournalEvent[];
  newestSeq(): number;
  /** Deletes up to `limit` rows older than a time; returns how many. */
  prune(beforeMs: number, limit: number): Promise<number>;
};

/** One webhook to send: its row was written in the transaction that ended the job (F-06). */
export type OutboxEntry = {
  readonly id: number;
  readonly jobId: JobId;
  readonly endpointId: EndpointId;
  readonly generation: number;
  readonly url: string;
  readonly tries: number;
  readonly nextTryAtMs: number;
};

export type OutboxStore = {
  /** Entries due, oldest first. */
  due(nowMs: number, limit: number): readonly OutboxEntry[];
  /** Records a try: delivered, to be tried again at a time, or given up. */
  recordTry(
    id: number,
    outcome: { kind: "delivered" | "given_up" | "retry"; status: string; nextTryAtMs: number },
    nowMs: number,
  ): Promise<void>;
  nextDueMs(): number | null;
  /** Deletes up to `limit` settled entries whose last try was before a time; returns how many. */
  prune(beforeMs: number, limit: number): Promise<number>;
};

export type KeyStore = {
  addKey(key: Key, digest: string, nowMs: number): Promise<"created" | "name_taken">;
  revokeKey(id: KeyId, nowMs: number): Promise<boolean>;
  touchKey(id: KeyId, nowMs: number): Promise<void>;
  keys(): readonly (Key & { readonly digest: string })[];
  /** Most jobs an owner may have waiting; 0: no limit. */
  setOwnerMaxQueued(owner: string, maxQueued: number): Promise<void>;
  ownerMaxQueued(owner: string): number;
};

/** How many secrets an owner may have, and how many replaced values of one are kept. */
export type SecretLimits = { readonly maxSecrets: number; readonly maxReplaced: number };

/** Secrets by owner and name. Values come in sealed and go out sealed (ports/secret-box.ts); no journal row has one. */
export type SecretStore = {
  /** A value that it replaces is set aside. */
  setSecret(
    secret: Pick<Secret, "owner" | "name"> & { readonly sealed: string },
    limits: SecretLimits,
    nowMs: number,
  ): Promise<"created" | "changed" | "too_many">;
  /** Forgets a secret; its value is set aside. */
  unsetSecret(
    owner: string,
    name: string,
    limits: Pick<SecretLimits, "maxReplaced">,
    nowMs: number,
  ): Promise<boolean>;
  /** All, in order of owner and name. */
  secrets(): readonly Secret[];
  sealed(owner: string, name: string): string | null;
  /** All that are there, or of which a value is set aside. */
  remembered(): readonly Pick<Secret, "owner" | "name">[];
  /** Values set aside, newest first: workers that had one may have printed it. */
  replaced(owner: string, name: string): readonly string[];
  /** Deletes up to `limit` values that were set aside before any worker that is remembered was made; returns how many. */
  pruneReplaced(nowMs: number, limit: number): Promise<number>;
};
