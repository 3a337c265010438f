import type {
  FailureKind,
  Job,
  JobEnd,
  JobState,
  QueuedJob,
  RunningJob,
  TerminalState,
  WorkerId,
} from "./model.ts";

/** What can happen to a job. Each kind is one row of {@link JOB_TABLE}. */
export type JobInput =
  /** Handed to a worker; `started` is false for a prefetched job that waits behind another. */
  | { readonly kind: "take"; readonly workerId: WorkerId; readonly started: boolean }
  /** A prefetched job's turn has come. */
  | { readonly kind: "start" }
  | { readonly kind: "complete" }
  /** The handler's own error; tried again while the policy's retries last. */
  | { readonly kind: "fail"; readonly retryDelayMs: number }
  /** A result that cannot be kept. */
  | { readonly kind: "reject"; readonly failure: "invalid_result" | "result_too_large" | "stream_too_large" }
  /** The delivery is lost with its worker, or its result was. */
  | { readonly kind: "lose" }
  /** The delivery never began, or ends without anybody's fault: it does not count. */
  | { readonly kind: "return" }
  /** The execution time is used up. */
  | { readonly kind: "overrun" }
  /** The time to live is used up. */
  | { readonly kind: "expire" }
  | { readonly kind: "cancel" }
  | { readonly kind: "purge" }
  /** The client's `/retry`. */
  | { readonly kind: "retry" };

export type JobInputKind = JobInput["kind"];

/** State -> input -> the states it can lead to. What is absent is refused: terminal states absorb (INV-2). */
export const JOB_TABLE = {
  IN_QUEUE: { take: ["IN_PROGRESS"], expire: ["TIMED_OUT"], cancel: ["CANCELLED"], purge: ["CANCELLED"] },
  IN_PROGRESS: {
    start: ["IN_PROGRESS"],
    complete: ["COMPLETED"],
    fail: ["FAILED", "IN_QUEUE"],
    reject: ["FAILED"],
    lose: ["IN_QUEUE", "FAILED"],
    return: ["IN_QUEUE"],
    overrun: ["FAILED"],
    expire: ["TIMED_OUT"],
    cancel: ["CANCELLED"],
  },
  COMPLETED: {},
  FAILED: { retry: ["IN_QUEUE"] },
  CANCELLED: {},
  TIMED_OUT: { retry: ["IN_QUEUE"] },
} as const satisfies Record<JobState, Partial<Record<JobInputKind, readonly JobState[]>>>;

/** Deliveries that count, in all, before a job whose workers die is given up (F-15). */
export const MAX_ATTEMPTS = 3;

/** From the stop signal until a worker has let go of a job, or is killed: a synchronous handler cannot see the signal (F-16). */
export const LET_GO_MS = 10_000;

/**
 * From the end of a stopped job until its retry is handed out. Longer than {@link LET_GO_MS}: that time is slept and this one is read
 * off a wall clock that may run half a percent fast, and the end of a worker takes its time too.
 */
export const RETRY_AFTER_STOP_MS = 12_000;

export type JobStep =
  | { readonly ok: true; readonly job: Job }
  | { readonly ok: false; readonly state: JobState };

/** The states in which an input is accepted: the guard of the SQL that applies it. */
export function statesAccepting(kind: JobInputKind): JobState[] {
  return (Object.keys(JOB_TABLE) as JobState[]).filter((state) => kind in JOB_TABLE[state]);
}

/** Whether a state is final. */
export function isTerminal(state: JobState): state is TerminalState {
  return state !== "IN_QUEUE" && state !== "IN_PROGRESS";
}

/** Applies an input: the new record, or a refusal that names the state the job is in. Never throws. */
export function next(job: Job, input: JobInput, nowMs: number): JobStep {
  if (!(input.kind in JOB_TABLE[job.state])) return { ok: false, state: job.state };
  return { ok: true, job: apply(job, input, nowMs) };
}

function apply(job: Job, input: JobInput, nowMs: number): Job {
  switch (input.kind) {
    case "take":
      return takeJob(job, input, nowMs);
    case "start":
      return job.state === "IN_PROGRESS" ? { ...job, lease: { ...job.lease, startedAtMs: nowMs } } : job;
    case "complete":
      return end(job, "COMPLETED", null, nowMs);
    case "fail":
      return job.attempts <= job.policy.handlerRetries
        ? requeue(job, nowMs, nowMs + input.retryDelayMs)
        : end(job, "FAILED", "handler", nowMs);
    case "reject":
      return end(job, "FAILED", input.failure, nowMs);
    case "lose":
      return job.attempts >= attemptLimit(job)
        ? end(job, "FAILED", "worker_lost", nowMs)
        : requeue(job, nowMs, nowMs);
    case "return":
      return requeue({ ...job, attempts: job.attempts - 1 }, nowMs, nowMs);
    case "overrun":
      return end(job, "FAILED", "execution_timeout", nowMs);
    case "expire":
      return end(job, "TIMED_OUT", "ttl", nowMs);
    case "cancel":
    case "purge":
      return end(job, "CANCELLED", null, nowMs);
    case "retry":
      return {
        ...requeue({ ...job, attempts: 0 }, nowMs, Math.max(nowMs, letGoAtMs(job))),
        generation: job.generation + 1,
        expiresAtMs: nowMs + job.policy.ttlMs,
      };
  }
}

/** Ends at which a worker may still be running the job: it is told to stop. */
const STOPPED: readonly (FailureKind | null)[] = ["execution_timeout", "ttl", "stream_too_large"];

/** When nobody runs a stopped job any more: before, it could come to the worker that has not let go of it (INV-6). */
function letGoAtMs(job: Job): number {
  if (!("end" in job) || job.end.workerId === null || !STOPPED.includes(job.end.failure)) return 0;
  return job.end.atMs + RETRY_AFTER_STOP_MS;
}

function attemptLimit(job: Job): number {
  return Math.max(MAX_ATTEMPTS, 1 + job.policy.handlerRetries);
}

function takeJob(job: Job, input: Extract<JobInput, { kind: "take" }>, nowMs: number): RunningJob {
  return {
    ...base(job),
    state: "IN_PROGRESS",
    attempts: job.attempts + 1,
    deliveries: job.deliveries + 1,
    lease: { workerId: input.workerId, takenAtMs: nowMs, startedAtMs: input.started ? nowMs : null },
  };
}

function requeue(job: Job, nowMs: number, availableAtMs: number): QueuedJob {
  return { ...base(job), state: "IN_QUEUE", queuedAtMs: nowMs, availableAtMs };
}

function end(job: Job, state: TerminalState, failure: FailureKind | null, nowMs: number): Job {
  return { ...base(job), state, end: jobEnd(job, state, failure, nowMs) };
}

function jobEnd(job: Job, state: TerminalState, failure: FailureKind | null, nowMs: number): JobEnd {
  const lease = job.state === "IN_PROGRESS" ? job.lease : null;
  const pickedUpAtMs = lease?.startedAtMs ?? lease?.takenAtMs ?? nowMs;
  const keptMs =
    state === "COMPLETED" || state === "CANCELLED"
      ? job.policy.retention.completedMs
      : job.policy.retention.failedMs;
  return {
    atMs: nowMs,
    workerId: lease?.workerId ?? null,
    delayMs: pickedUpAtMs - job.queuedAtMs,
    executionMs: nowMs - pickedUpAtMs,
    failure,
    retainUntilMs: nowMs + keptMs,
  };
}

/** The members that every state has: a lease or an end of the former state does not leak into the next. */
function base(job: Job) {
  const {
    id,
    endpointId,
    owner,
    generation,
    attempts,
    deliveries,
    policy,
    createdAtMs,
    queuedAtMs,
    expiresAtMs,
    webhookUrl,
  } = job;
  return {
    id,
    endpointId,
    owner,
    generation,
    attempts,
    deliveries,
    policy,
    createdAtMs,
    queuedAtMs,
    expiresAtMs,
    webhookUrl,
  };
}
