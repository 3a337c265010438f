import { RpxError } from "../../contract/error.ts";
import { jobIdOf } from "../core/job-id.ts";
import { isTerminal } from "../core/job-machine.ts";
import type {
  Endpoint,
  EndpointId,
  Job,
  JobCounts,
  JobId,
  JobPolicy,
  JobState,
  QueuedJob,
} from "../core/model.ts";
import type { Clock } from "../ports/clock.ts";
import type { Random } from "../ports/random.ts";
import type { ChunkPage, JobView, Store } from "../ports/store.ts";
import type { Events } from "./events.ts";

/** An endpoint as one caller sees it: `owner` is null for all its jobs, else only that owner's exist. */
export type Visible = { readonly endpoint: Endpoint; readonly owner: string | null };

/** A request to run, its JSON cut out as raw text and judged by the border. */
export type RunRequest = {
  readonly inputJson: string;
  /** Every other top-level member, for the handler. */
  readonly extrasJson: string;
  readonly webhookUrl: string | null;
  readonly policy: {
    readonly executionTimeoutMs?: number;
    readonly ttlMs?: number;
    readonly lowPriority?: boolean;
  };
  readonly operation: "run" | "runsync";
  /** The caller gave `wait`: the result is kept five minutes instead of one. */
  readonly waitGiven: boolean;
  readonly idempotency: { readonly key: string; readonly bodyDigest: string } | null;
};

/**
 * What a submission came to. `isReadable` is false for the repeat of an idempotency key whose job's result is no longer
 * kept: its id and state are the answer still.
 */
export type Submitted = { readonly jobId: JobId; readonly state: JobState; readonly isReadable: boolean };

/** The client's side of jobs. Unknown and invisible jobs are the same `not_found`. */
export type Jobs = {
  submit(visible: Visible, owner: string, request: RunRequest): Promise<Submitted>;
  view(visible: Visible, jobId: JobId): JobView;
  /** Waits until the job has ended; the view as it is then or when the time is over. */
  waitForEnd(visible: Visible, jobId: JobId, waitMs: number, signal: AbortSignal): Promise<JobView>;
  /** Waits for chunks or the end, then takes the chunks off the job's cursor. */
  readStream(visible: Visible, jobId: JobId, waitMs: number, signal: AbortSignal): Promise<ChunkPage>;
  rewindStream(jobId: JobId, cursor: number): Promise<void>;
  setRetention(visible: Visible, jobId: JobId, retainMs: number): Promise<void>;
  /** The job after the cancel; one that had ended is returned as it is. */
  cancel(visible: Visible, jobId: JobId): Promise<Job>;
  retry(visible: Visible, jobId: JobId): Promise<Job>;
  purge(visible: Visible): Promise<number>;
  counts(visible: Visible): JobCounts;
  newest(visible: Visible, limit: number): readonly Job[];
};

/** Refuses new work for a reason that is not the caller's: the daemon stops, or its disk is full. */
export type Admission = () => void;

export type JobsOptions = {
  readonly store: Store;
  readonly clock: Clock;
  readonly random: Random;
  readonly events: Events;
  readonly admit: Admission;
  /** Thaws a worker for a job that is on its way into the store, where one sleeps (D21). */
  readonly wake: (endpointId: EndpointId) => void;
};

const PURGE_BATCH = 500;
/** A /runsync result is kept this long when the caller gave `wait`. */
const SYNC_WAITED_RETENTION_MS = 300_000;
/** Text of chunks in one /stream reply. */
const STREAM_PAGE_BYTES = 8_000_000;

export function createJobs({ store, clock, random, events, admit, wake }: JobsOptions): Jobs {
  async function submit(visible: Visible, owner: string, request: RunRequest): Promise<Submitted> {
    admit();
    const { endpoint } = visible;
    const nowMs = clock.nowMs();
    const job = newJob(endpoint, owner, request, nowMs);
    const submission = {
      job,
      payload: { inputJson: request.inputJson, extrasJson: request.extrasJson },
      idempotency: request.idempotency && {
        scope: `${owner}/${endpoint.id}/${request.operation}`,
        ...request.idempotency,
      },
      maxQueued: endpoint.settings.scale.maxQueued,
      maxOwnerQueued: store.keys.ownerMaxQueued(owner),
    };
    const enqueued = store.jobs.enqueue(submission, nowMs);
    if (!endpoint.paused && !job.policy.lowPriority) wake(endpoint.id);
    const outcome = await enqueued;
    switch (outcome.kind) {
      case "accepted":
        return { jobId: job.id, state: job.state, isReadable: true };
      case "repeated":
        return repeated(outcome.jobId);
      case "key_conflict":
        throw new RpxError("conflict", "this Idempotency-Key was used with another body", {
          hint: "use a new key for a new request",
        });
      case "endpoint_full":
        throw full(`the queue of "${endpoint.name}" holds its limit of ${submission.maxQueued} jobs`);
      case "owner_full":
        throw full(`${owner} has the limit of ${submission.maxOwnerQueued} jobs waiting`);
    }
  }

  function repeated(jobId: JobId): Submitted {
    const job = store.jobs.find(jobId);
    if (!job) throw unknownJob(jobId);
    return { jobId, state: job.state, isReadable: isKept(job, clock.nowMs()) };
  }

  function newJob(endpoint: Endpoint, owner: string, request: RunRequest, nowMs: number): QueuedJob {
    const policy = policyOf(endpoint, request);
    return {
      id: jobIdOf(request.operation, random.uuid(), nowMs),
      endpointId: endpoint.id,
      owner,
      generation: 1,
      attempts: 0,
      deliveries: 0,
      policy,
      createdAtMs: nowMs,
      queuedAtMs: nowMs,
      expiresAtMs: nowMs + policy.ttlMs,
      webhookUrl: request.webhookUrl,
      state: "IN_QUEUE",
      availableAtMs: nowMs,
    };
  }

  function visibleView({ endpoint, owner }: Visible, jobId: JobId): JobView {
    const view = store.jobs.view(jobId);
    if (!view || !isVisible(view.job, endpoint, owner, clock.nowMs())) throw unknownJob(jobId);
    return view;
  }

  function visibleJob({ endpoint, owner }: Visible, jobId: JobId): Job {
    const job = store.jobs.find(jobId);
    if (!job || !isVisible(job, endpoint, owner, clock.nowMs())) throw unknownJob(jobId);
    return job;
  }

  const stateOf = (jobId: JobId): JobState | null => store.jobs.find(jobId)?.state ?? null;
  const hasEnded = (jobId: JobId) => {
    const state = stateOf(jobId);
    return state === null || isTerminal(state);
  };

  async function readStream(
    visible: Visible,
    jobId: JobId,
    waitMs: number,
    signal: AbortSignal,
  ): Promise<ChunkPage> {
    visibleJob(visible, jobId);
    await events.untilJob(jobId, () => store.jobs.hasChunks(jobId) || hasEnded(jobId), {
      timeoutMs: waitMs,
      signal,
    });
    const page = await store.jobs.readChunks(jobId, STREAM_PAGE_BYTES);
    if (!page) throw unknownJob(jobId);
    return page;
  }

  async function purge({ endpoint, owner }: Visible): Promise<number> {
    const upToSeq = store.jobs.newestSeq();
    let removed = 0;
    for (;;) {
      const batch = await store.jobs.purge(
        { endpointId: endpoint.id, owner, upToSeq, limit: PURGE_BATCH },
        clock.nowMs(),
      );
      removed += batch;
      if (batch < PURGE_BATCH) return removed;
    }
  }

  return {
    submit,
    view: visibleView,
    waitForEnd: async (visible, jobId, waitMs, signal) => {
      visibleJob(visible, jobId);
      await events.untilJob(jobId, () => hasEnded(jobId), { timeoutMs: waitMs, signal });
      return visibleView(visible, jobId);
    },
    readStream,
    rewindStream: (jobId, cursor) => store.jobs.rewindChunks(jobId, cursor),
    setRetention: async (visible, jobId, retainMs) => {
      visibleJob(visible, jobId);
      await store.jobs.setRetention(jobId, retainMs, clock.nowMs());
    },
    cancel: async (visible, jobId) => {
      visibleJob(visible, jobId);
      const { job } = await store.jobs.cancel(jobId, clock.nowMs());
      if (!job) throw unknownJob(jobId);
      return job;
    },
    retry: async (visible, jobId) => {
      admit();
      visibleJob(visible, jobId);
      const { applied, job } = await store.jobs.retry(jobId, clock.nowMs());
      if (!job) throw unknownJob(jobId);
      if (!applied)
        throw new RpxError(
          "bad_request",
          `job ${jobId} is ${job.state}: only FAILED and TIMED_OUT jobs can be retried`,
        );
      return job;
    },
    purge,
    counts: ({ endpoint, owner }) => store.jobs.counts(endpoint.id, owner),
    newest: ({ endpoint, owner }, limit) =>
      store.jobs.list({ endpointId: endpoint.id, limit, ...(owner !== null && { owner }) }),
  };
}

function policyOf(endpoint: Endpoint, request: RunRequest): JobPolicy {
  const { limits, retention } = endpoint.settings;
  const syncMs = request.waitGiven ? Math.max(SYNC_WAITED_RETENTION_MS, retention.syncMs) : retention.syncMs;
  return {
    executionTimeoutMs: request.policy.executionTimeoutMs ?? limits.executionTimeoutMs,
    ttlMs: request.policy.ttlMs ?? limits.ttlMs,
    lowPriority: request.policy.lowPriority ?? false,
    handlerRetries: limits.retries,
    retention: {
      completedMs: request.operation === "runsync" ? syncMs : retention.asyncMs,
      failedMs: retention.failedMs,
    },
  };
}

/** A job outside the caller's view, on another endpoint or past its retention does not exist (404). */
function isVisible(job: Job, endpoint: Endpoint, owner: string | null, nowMs: number): boolean {
  if (job.endpointId !== endpoint.id || (owner !== null && job.owner !== owner)) return false;
  return isKept(job, nowMs);
}

function isKept(job: Job, nowMs: number): boolean {
  return !("end" in job) || job.end.retainUntilMs > nowMs;
}

function unknownJob(jobId: JobId): RpxError {
  return new RpxError("not_found", `no job "${jobId}" on this endpoint`, {
    why: "the id is wrong, or the result is no longer kept",
  });
}

function full(message: string): RpxError {
  return new RpxError("rate_limited", message, { hint: "wait for jobs to finish", retryAfterSeconds: 5 });
}
