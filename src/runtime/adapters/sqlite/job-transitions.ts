import { isTerminal, type JobInput, next } from "../../core/job-machine.ts";
import type { Job, JobCounts, JobId, JobState, RunningJob } from "../../core/model.ts";
import type { LeaseRef } from "../../ports/store.ts";
import type { Counts } from "./counts.ts";
import { JOB_COLUMNS, type JobStatements } from "./job-statements.ts";
import type { JournalWriter } from "./journal.ts";
import type { Payloads } from "./payloads.ts";
import { jobColumns, jobOf, type Row } from "./rows.ts";

/** A stored job with its row number. */
export type Stored = { readonly seq: number; readonly job: Job };

const COUNT_OF_STATE = {
  IN_QUEUE: "inQueue",
  IN_PROGRESS: "inProgress",
  COMPLETED: "completed",
  FAILED: "failed",
  CANCELLED: "cancelled",
  TIMED_OUT: "timedOut",
} as const satisfies Record<JobState, keyof JobCounts>;

export type TransitionsOptions = {
  readonly sql: JobStatements;
  readonly journal: JournalWriter;
  readonly counts: Counts;
  readonly payloads: Payloads;
};

/**
 * The one way in which a stored job changes: the job table decides the new record, one guarded UPDATE stores it, and counts, journal
 * and outbox follow in the same transaction.
 */
export function createJobTransitions({ sql, journal, counts, payloads }: TransitionsOptions) {
  const storedOf = (row: Row | undefined): Stored | null =>
    row ? { seq: row.seq as number, job: jobOf(row) } : null;
  const load = (id: JobId): Stored | null => storedOf(sql.byId.get(id));

  /** Applies an input to a stored job; null when the job table refuses. */
  function transition(
    stored: Stored,
    input: JobInput,
    nowMs: number,
    facts: Record<string, string | number> = {},
  ): Job | null {
    const step = next(stored.job, input, nowMs);
    if (!step.ok) return null;
    const { seq, job: before } = stored;
    const columns = jobColumns(step.job);
    const values = JOB_COLUMNS.map((column) => columns[column] ?? null);
    const { changes } = sql.updateJob.run(...values, seq, before.state, before.generation, before.deliveries);
    if (changes !== 1) throw new Error(`job ${before.id} changed under its transition`);
    count(before, step.job, input);
    journalStep(before, step.job, input, facts, nowMs);
    if (isTerminal(step.job.state) && step.job.webhookUrl !== null) {
      sql.insertOutbox.run(before.id, before.endpointId, step.job.generation, step.job.webhookUrl, nowMs);
    }
    if (before.state === "IN_PROGRESS" && step.job.state !== "IN_PROGRESS")
      leaseEnded(seq, before, step.job, nowMs);
    return step.job;
  }

  function count(before: Job, after: Job, input: JobInput): void {
    const { endpointId, owner } = before;
    if (before.state !== after.state) {
      counts.add(endpointId, owner, COUNT_OF_STATE[before.state], -1);
      counts.add(endpointId, owner, COUNT_OF_STATE[after.state], 1);
    }
    const repeated = before.state === "IN_PROGRESS" && after.state === "IN_QUEUE" && input.kind !== "return";
    if (repeated || input.kind === "retry") counts.add(endpointId, owner, "retried", 1);
  }

  function journalStep(
    before: Job,
    after: Job,
    input: JobInput,
    facts: Record<string, string | number>,
    nowMs: number,
  ): void {
    const workerId =
      after.state === "IN_PROGRESS"
        ? after.lease.workerId
        : before.state === "IN_PROGRESS"
          ? before.lease.workerId
          : null;
    const terminal = isTerminal(after.state);
    journal.record({
      atMs: nowMs,
      kind: `job.${input.kind}`,
      endpointId: after.endpointId,
      owner: after.owner,
      jobId: after.id,
      workerId,
      data: {
        from: before.state,
        to: after.state,
        ...(waitsOnBackoff(before) && { fromDelayed: true }),
        ...(waitsOnBackoff(after) && { delayed: true }),
        generation: after.generation,
        attempts: after.attempts,
        ...pinOf(after),
        ...("end" in after && after.end.failure && { failure: after.end.failure }),
        ...(terminal && after.webhookUrl !== null && { webhook: true }),
        ...facts,
      },
      ...(terminal && { resultOf: `${after.id}/${after.generation}` }),
    });
  }

  /** Drops a job's chunks, and with them cursor and size: numbers of deleted chunks are given again. */
  function clearStream(seq: number): void {
    payloads.dropChunks(seq);
    sql.resetStream.run(seq);
  }

  /** What a lease leaves behind: the chunks of a delivery that did not end the job, and a prefetched job whose turn has come. */
  function leaseEnded(seq: number, before: RunningJob, after: Job, nowMs: number): void {
    if (after.state === "IN_QUEUE") clearStream(seq);
    if (before.lease.startedAtMs === null) return;
    const stored = storedOf(sql.prefetched.get(before.lease.workerId));
    if (stored) transition(stored, { kind: "start" }, nowMs);
  }

  /** The job if this worker's lease is the one in force (INV-4), else null. */
  function held({ jobId, workerId, delivery }: LeaseRef): (Stored & { job: RunningJob }) | null {
    const stored = load(jobId);
    if (stored?.job.state !== "IN_PROGRESS" || stored.job.lease.workerId !== workerId) return null;
    if (delivery !== null && delivery !== stored.job.deliveries) return null;
    return { seq: stored.seq, job: stored.job };
  }

  function endWith(
    stored: Stored,
    input: JobInput,
    nowMs: number,
    facts: Record<string, string | number> = {},
  ): Job | null {
    const job = transition(stored, input, nowMs, facts);
    if (!job) return null;
    if (job.state === "IN_QUEUE") payloads.dropResult(stored.seq);
    else payloads.writeError(stored.seq, errorText(job, facts.reason));
    return job;
  }

  return { load, held, transition, endWith, clearStream };
}

/** Of a pinned job its journal rows say to which release: it waits in a queue of its own. */
export function pinOf({ policy: { pinned } }: Pick<Job, "policy">): { pinned?: number } {
  return pinned ? { pinned } : {};
}

function waitsOnBackoff(job: Job): boolean {
  return job.state === "IN_QUEUE" && job.availableAtMs > job.queuedAtMs;
}

/** What the client reads as `error` of a job that no handler ended. */
function errorText(job: Job, reason: string | number | undefined): string | null {
  if (!("end" in job)) return null;
  switch (job.end.failure) {
    case "execution_timeout":
      return `job timed out after ${job.attempts - 1} retries`;
    case "ttl":
      return "job timed out: its time to live was over before it finished";
    case "worker_lost":
      return `worker_lost: ${job.attempts} deliveries ended without a result${reason ? `; the last: ${reason}` : ""}`;
    default:
      return null;
  }
}
