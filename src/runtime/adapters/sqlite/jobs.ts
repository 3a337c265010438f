import type { DatabaseSync } from "node:sqlite";
import { isTerminal, type JobInput, next } from "../../core/job-machine.ts";
import type { Job, JobCounts, JobId, JobState, RunningJob } from "../../core/model.ts";
import type {
  Applied,
  Delivery,
  Enqueued,
  JobFilter,
  JobStore,
  LeaseRef,
  Result,
  Submission,
} from "../../ports/store.ts";
import type { Counts } from "./counts.ts";
import type { GroupCommit } from "./group-commit.ts";
import type { JournalWriter } from "./journal.ts";
import { createPayloads } from "./payloads.ts";
import { jobColumns, jobOf, type Row } from "./rows.ts";

export type JobsOptions = {
  readonly db: DatabaseSync;
  readonly commit: GroupCommit;
  readonly journal: JournalWriter;
  readonly counts: Counts;
};

/** A stored job with its row number. */
type Stored = { readonly seq: number; readonly job: Job };

const COUNT_OF_STATE = {
  IN_QUEUE: "inQueue",
  IN_PROGRESS: "inProgress",
  COMPLETED: "completed",
  FAILED: "failed",
  CANCELLED: "cancelled",
  TIMED_OUT: "timedOut",
} as const satisfies Record<JobState, keyof JobCounts>;

const NOT_APPLIED = { applied: false } as const;
const IDEMPOTENCY_KEPT_MS = 24 * 3_600_000;
/** Jobs that one take expires at most: after a long stop of the daemon a whole queue may be over its time. */
const MAX_EXPIRED_BY_TAKE = 500;
/** Rows at the head of a queue among which the oldest wait is looked for: more than come back at once. */
const OLDEST_AMONG = 100;

/**
 * Jobs in SQLite. Every change goes through `transition`: the job table decides the new record, one guarded UPDATE
 * stores it, and counts, journal and outbox follow in the same transaction.
 */
export function createJobStore({ db, commit, journal, counts }: JobsOptions): JobStore {
  const byId = db.prepare("SELECT * FROM jobs WHERE id = ?");
  const insertJob = db.prepare(
    `INSERT INTO jobs (id, endpoint_id, owner, state, generation, attempts, deliveries, policy, low_priority, created_at_ms,
       queued_at_ms, expires_at_ms, webhook_url, delayed, available_at_ms)
     VALUES (?, ?, ?, 'IN_QUEUE', ?, 0, 0, ?, ?, ?, ?, ?, ?, 0, ?)`,
  );
  const COLUMNS = [
    "state",
    "generation",
    "attempts",
    "deliveries",
    "queued_at_ms",
    "expires_at_ms",
    "delayed",
    "available_at_ms",
    "worker_id",
    "taken_at_ms",
    "started_at_ms",
    "deadline_ms",
    "ended_at_ms",
    "delay_ms",
    "execution_ms",
    "failure",
    "retain_until_ms",
  ] as const;
  // The guard: the row is still what the job table judged (INV-4).
  const updateJob = db.prepare(
    `UPDATE jobs SET ${COLUMNS.map((column) => `${column} = ?`).join(", ")}
     WHERE seq = ? AND state = ? AND generation = ? AND deliveries = ?`,
  );
  // jobs_ready: the first rows of one endpoint's queue.
  const head = db.prepare(
    `SELECT * FROM jobs WHERE endpoint_id = ? AND state = 'IN_QUEUE' AND delayed = 0 ORDER BY low_priority, seq LIMIT ?`,
  );
  // chunks_by_job: one look behind the cursor.
  const unreadChunks = db.prepare(
    "SELECT 1 FROM jobs JOIN chunks ON chunks.seq = jobs.seq AND chunks.id > jobs.stream_cursor WHERE jobs.id = ? LIMIT 1",
  );
  const workerReady = db.prepare(
    "SELECT 1 FROM workers WHERE id = ? AND endpoint_id = ? AND state = 'ready'",
  );
  // A job that came back keeps its place and waits anew: the first of the queue may have waited less than those behind it.
  const oldestNormal = db.prepare(
    `SELECT min(queued_at_ms) AS at FROM (SELECT queued_at_ms FROM jobs
     WHERE endpoint_id = ? AND state = 'IN_QUEUE' AND delayed = 0 AND low_priority = 0 ORDER BY seq LIMIT ${OLDEST_AMONG})`,
  );
  const queuedLow = db.prepare(
    `SELECT count(*) AS n FROM jobs WHERE endpoint_id = ? AND state = 'IN_QUEUE' AND delayed = 0 AND low_priority = 1`,
  );
  const queuedLater = db.prepare(
    `SELECT count(*) AS n FROM jobs WHERE state = 'IN_QUEUE' AND delayed = 1 AND endpoint_id = ?`,
  );
  // In the order of their delivery: jobs of one take are handed over in queue order.
  const leased = db.prepare(
    "SELECT * FROM jobs WHERE worker_id = ? AND state = 'IN_PROGRESS' ORDER BY taken_at_ms, low_priority, seq",
  );
  const prefetched = db.prepare(
    `SELECT * FROM jobs WHERE worker_id = ? AND state = 'IN_PROGRESS' AND started_at_ms IS NULL
     ORDER BY taken_at_ms, low_priority, seq LIMIT 1`,
  );
  const expired = db.prepare(
    `SELECT * FROM jobs WHERE expires_at_ms <= ? AND state IN ('IN_QUEUE', 'IN_PROGRESS') ORDER BY expires_at_ms LIMIT ?`,
  );
  const overrun = db.prepare(
    "SELECT * FROM jobs WHERE deadline_ms <= ? AND state = 'IN_PROGRESS' ORDER BY deadline_ms LIMIT ?",
  );
  const delayedDue = db.prepare(
    `SELECT * FROM jobs WHERE available_at_ms <= ? AND state = 'IN_QUEUE' AND delayed = 1 ORDER BY available_at_ms LIMIT ?`,
  );
  // The backoff is no wait for a worker: the wait begins when it is over.
  const undelay = db.prepare("UPDATE jobs SET delayed = 0, queued_at_ms = available_at_ms WHERE seq = ?");
  const dueTimes = db.prepare(
    `SELECT min(at) AS at FROM (
       SELECT min(expires_at_ms) AS at FROM jobs WHERE state IN ('IN_QUEUE', 'IN_PROGRESS')
       UNION ALL SELECT min(deadline_ms) FROM jobs WHERE state = 'IN_PROGRESS'
       UNION ALL SELECT min(available_at_ms) FROM jobs WHERE state = 'IN_QUEUE' AND delayed = 1)`,
  );
  const purgeable = db.prepare(
    `SELECT * FROM jobs WHERE endpoint_id = ? AND state = 'IN_QUEUE' AND seq <= ? AND (? IS NULL OR owner = ?) ORDER BY seq LIMIT ?`,
  );
  const aheadOf = db.prepare(
    `SELECT count(*) AS n FROM (
       SELECT 1 FROM jobs WHERE endpoint_id = ? AND state = 'IN_QUEUE' AND delayed = 0
         AND (low_priority, seq) < (?, ?) LIMIT ?)`,
  );
  const setRetainUntil = db.prepare(
    "UPDATE jobs SET retain_until_ms = ? WHERE id = ? AND ended_at_ms IS NOT NULL",
  );
  const readCursor = db.prepare("SELECT stream_cursor, stream_bytes FROM jobs WHERE seq = ?");
  const moveCursor = db.prepare("UPDATE jobs SET stream_cursor = ? WHERE seq = ?");
  // Only backwards: the chunks may have been dropped since, and the numbers of the next ones be lower.
  const rewindCursor = db.prepare("UPDATE jobs SET stream_cursor = min(stream_cursor, ?) WHERE id = ?");
  const addStreamBytes = db.prepare("UPDATE jobs SET stream_bytes = stream_bytes + ? WHERE seq = ?");
  const resetStream = db.prepare("UPDATE jobs SET stream_bytes = 0, stream_cursor = 0 WHERE seq = ?");
  const insertOutbox = db.prepare(
    "INSERT INTO outbox (job_id, endpoint_id, generation, url, next_try_at_ms) VALUES (?, ?, ?, ?, ?)",
  );
  const seenKey = db.prepare(
    "SELECT body_digest, job_id FROM idempotency WHERE scope = ? AND key = ? AND (created_at_ms > ? OR EXISTS (SELECT 1 FROM jobs WHERE id = job_id))",
  );
  const insertKey = db.prepare(
    "INSERT OR REPLACE INTO idempotency (scope, key, body_digest, job_id, created_at_ms) VALUES (?, ?, ?, ?, ?)",
  );
  const newestSeq = db.prepare("SELECT max(seq) AS seq FROM jobs");
  const retained = db.prepare(
    "SELECT seq FROM jobs WHERE retain_until_ms <= ? AND has_payload = 1 AND ended_at_ms IS NOT NULL ORDER BY retain_until_ms LIMIT ?",
  );
  const dropPayload = db.prepare("UPDATE jobs SET has_payload = 0 WHERE seq = ?");
  // jobs_emptied: jobs whose payload is gone, by their end.
  const deleteOld = db.prepare(
    `DELETE FROM jobs WHERE seq IN (SELECT seq FROM jobs WHERE has_payload = 0 AND ended_at_ms < ? ORDER BY ended_at_ms LIMIT ?)`,
  );
  const deleteKeys = db.prepare(
    `DELETE FROM idempotency WHERE (scope, key) IN (SELECT scope, key FROM idempotency WHERE created_at_ms < ?
       AND NOT EXISTS (SELECT 1 FROM jobs WHERE id = job_id) ORDER BY created_at_ms LIMIT ?)`,
  );
  const payloads = createPayloads(db);

  const storedOf = (row: Row | undefined): Stored | null =>
    row ? { seq: row.seq as number, job: jobOf(row) } : null;
  const load = (id: JobId): Stored | null => storedOf(byId.get(id));

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
    const values = COLUMNS.map((column) => columns[column] ?? null);
    const { changes } = updateJob.run(...values, seq, before.state, before.generation, before.deliveries);
    if (changes !== 1) throw new Error(`job ${before.id} changed under its transition`);
    count(before, step.job, input);
    journalStep(before, step.job, input, facts, nowMs);
    if (isTerminal(step.job.state) && step.job.webhookUrl !== null) {
      insertOutbox.run(before.id, before.endpointId, step.job.generation, step.job.webhookUrl, nowMs);
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
    resetStream.run(seq);
  }

  /** What a lease leaves behind: the chunks of a delivery that did not end the job, and a prefetched job whose turn has come. */
  function leaseEnded(seq: number, before: RunningJob, after: Job, nowMs: number): void {
    if (after.state === "IN_QUEUE") clearStream(seq);
    if (before.lease.startedAtMs === null) return;
    const stored = storedOf(prefetched.get(before.lease.workerId));
    if (stored) transition(stored, { kind: "start" }, nowMs);
  }

  /** The job if this worker's lease is the one in force (INV-4), else null. */
  function held({ jobId, workerId, delivery }: LeaseRef): (Stored & { job: RunningJob }) | null {
    const stored = load(jobId);
    if (stored?.job.state !== "IN_PROGRESS" || stored.job.lease.workerId !== workerId) return null;
    if (delivery !== null && delivery !== stored.job.deliveries) return null;
    return { seq: stored.seq, job: stored.job };
  }

  const superseded = (jobId: JobId): Applied => ({ ...NOT_APPLIED, job: load(jobId)?.job ?? null });

  function enqueue(
    { job, payload, idempotency, maxQueued, maxOwnerQueued }: Submission,
    nowMs: number,
  ): Enqueued {
    if (idempotency) {
      const seen = seenKey.get(idempotency.scope, idempotency.key, nowMs - IDEMPOTENCY_KEPT_MS);
      if (seen) {
        const same = seen.body_digest === idempotency.bodyDigest;
        return same ? { kind: "repeated", jobId: seen.job_id as JobId } : { kind: "key_conflict" };
      }
    }
    if (maxQueued > 0 && counts.read(job.endpointId, null).inQueue >= maxQueued)
      return { kind: "endpoint_full" };
    if (maxOwnerQueued > 0 && counts.ownerQueued(job.owner) >= maxOwnerQueued) return { kind: "owner_full" };
    insertQueued(job, payload);
    if (idempotency) insertKey.run(idempotency.scope, idempotency.key, idempotency.bodyDigest, job.id, nowMs);
    return { kind: "accepted" };
  }

  function insertQueued(job: Submission["job"], payload: Submission["payload"]): void {
    const {
      id,
      endpointId,
      owner,
      generation,
      policy,
      createdAtMs,
      queuedAtMs,
      expiresAtMs,
      webhookUrl,
      availableAtMs,
    } = job;
    const low = policy.lowPriority ? 1 : 0;
    const policyJson = JSON.stringify(policy);
    const row = insertJob.run(
      id,
      endpointId,
      owner,
      generation,
      policyJson,
      low,
      createdAtMs,
      queuedAtMs,
      expiresAtMs,
      webhookUrl,
      availableAtMs,
    );
    payloads.insertInput(Number(row.lastInsertRowid), payload);
    counts.add(endpointId, owner, "inQueue", 1);
    counts.add(endpointId, owner, "accepted", 1);
    const data = { from: null, to: "IN_QUEUE", generation, attempts: 0 };
    journal.record({
      atMs: createdAtMs,
      kind: "job.submit",
      endpointId,
      owner,
      jobId: id,
      workerId: null,
      data,
    });
  }

  function take(options: Parameters<JobStore["take"]>[0], nowMs: number): Delivery[] {
    const { endpointId, workerId, max, startable } = options;
    const deliveries: Delivery[] = [];
    let expiries = 0;
    if (!workerReady.get(workerId, endpointId)) return deliveries;
    while (deliveries.length < max && expiries < MAX_EXPIRED_BY_TAKE) {
      const rows = head.all(endpointId, max - deliveries.length);
      if (rows.length === 0) break;
      for (const row of rows) {
        const stored = { seq: row.seq as number, job: jobOf(row) };
        if (stored.job.expiresAtMs <= nowMs) {
          endWith(stored, { kind: "expire" }, nowMs);
          expiries += 1;
          continue;
        }
        const job = transition(
          stored,
          { kind: "take", workerId, started: deliveries.length < startable },
          nowMs,
        );
        if (job?.state === "IN_PROGRESS") deliveries.push({ job, payload: payloads.readInput(stored.seq) });
      }
    }
    return deliveries;
  }

  function finish(lease: LeaseRef, result: Result, nowMs: number): Applied {
    const stored = held(lease);
    if (!stored) return superseded(lease.jobId);
    const job = transition(stored, inputOf(result), nowMs);
    if (job?.state === "IN_QUEUE") payloads.dropResult(stored.seq);
    else
      payloads.writeResult(
        stored.seq,
        "outputJson" in result ? result.outputJson : null,
        "error" in result ? result.error : null,
      );
    return { applied: true, job };
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

  function endOverdue(nowMs: number, limit: number): Job[] {
    const ended: Job[] = [];
    const end = (row: Row, input: JobInput) => {
      const job = endRow(row, input, nowMs);
      if (job) ended.push(job);
    };
    for (const row of expired.all(nowMs, limit)) end(row, { kind: "expire" });
    for (const row of overrun.all(nowMs, limit - ended.length)) end(row, { kind: "overrun" });
    return ended;
  }

  /** The job as it was before its end: whoever held it has to be stopped. */
  function endRow(row: Row, input: JobInput, nowMs: number): Job | null {
    // Read again: the end of the job before it may have started this one.
    const stored = load(row.id as JobId);
    return stored && endWith(stored, input, nowMs) && stored.job;
  }

  return {
    enqueue: (submission, nowMs) => commit.run("synced", () => enqueue(submission, nowMs)),
    take: (options, nowMs) => commit.run("unsynced", () => take(options, nowMs)),
    finish: (lease, result, nowMs) => commit.run("essential", () => finish(lease, result, nowMs)),
    progress: (lease, outputJson) =>
      commit.run("unsynced", () => {
        const stored = held(lease);
        if (!stored) return superseded(lease.jobId);
        payloads.writeResult(stored.seq, outputJson, null);
        return { applied: true, job: stored.job };
      }),
    appendChunks: (lease, chunksJson, maxBytes) =>
      commit.run("unsynced", () => {
        const stored = held(lease);
        if (!stored) return { ...superseded(lease.jobId), tooLarge: false };
        const bytes = chunksJson.reduce((sum, chunk) => sum + Buffer.byteLength(chunk), 0);
        if (Number(readCursor.get(stored.seq)?.stream_bytes) + bytes > maxBytes)
          return { applied: false, job: stored.job, tooLarge: true };
        for (const chunk of chunksJson) payloads.insertChunk(stored.seq, chunk);
        addStreamBytes.run(bytes, stored.seq);
        return { applied: true, job: stored.job, tooLarge: false };
      }),
    readChunks: (jobId, maxBytes) =>
      commit.run("unsynced", () => {
        const stored = load(jobId);
        if (!stored) return null;
        const cursor = Number(readCursor.get(stored.seq)?.stream_cursor);
        const page = payloads.readChunks(stored.seq, cursor, maxBytes);
        if (page.last !== cursor) moveCursor.run(page.last, stored.seq);
        return { state: stored.job.state, chunksJson: page.chunksJson, more: page.more, cursor };
      }),
    rewindChunks: (jobId, cursor) =>
      commit.run("unsynced", () => {
        rewindCursor.run(cursor, jobId);
      }),
    endLeases: (workerId, kind, reason, nowMs) =>
      commit.run("essential", () => {
        const rows = leased.all(workerId) as Row[];
        // Latest first: no prefetched job starts on a worker whose leases are all ending.
        return rows.reverse().flatMap((row) => {
          const stored = { seq: row.seq as number, job: jobOf(row) };
          const ending = hasBegun(stored.job) ? kind : "return";
          const job = endWith(stored, { kind: ending }, nowMs, { reason });
          return job ? [job] : [];
        });
      }),
    endLease: (lease, kind, reason, nowMs) =>
      commit.run("essential", () => {
        const stored = held(lease);
        if (!stored) return superseded(lease.jobId);
        return { applied: true, job: endWith(stored, { kind }, nowMs, { reason }) };
      }),
    cancel: (jobId, nowMs) =>
      commit.run("essential", () => {
        const stored = load(jobId);
        if (!stored) return { ...NOT_APPLIED, job: null };
        const job = transition(stored, { kind: "cancel" }, nowMs);
        return job ? { applied: true, job } : { ...NOT_APPLIED, job: stored.job };
      }),
    retry: (jobId, nowMs) =>
      commit.run("synced", () => {
        const stored = load(jobId);
        if (!stored || !payloads.hasInput(stored.seq)) return { ...NOT_APPLIED, job: stored?.job ?? null };
        const job = transition(stored, { kind: "retry" }, nowMs);
        if (!job) return { ...NOT_APPLIED, job: stored.job };
        payloads.dropResult(stored.seq);
        clearStream(stored.seq);
        return { applied: true, job };
      }),
    purge: ({ endpointId, owner, upToSeq, limit }, nowMs) =>
      commit.run("essential", () => {
        const rows = purgeable.all(endpointId, upToSeq, owner, owner, limit) as Row[];
        for (const row of rows)
          transition({ seq: row.seq as number, job: jobOf(row) }, { kind: "purge" }, nowMs);
        return rows.length;
      }),
    endOverdue: (nowMs, limit) => commit.run("essential", () => endOverdue(nowMs, limit)),
    releaseDelayed: (nowMs, limit) =>
      commit.run("essential", () => {
        const rows = delayedDue.all(nowMs, limit) as Row[];
        for (const row of rows) {
          const job = jobOf(row);
          undelay.run(row.seq as number);
          const { endpointId, owner, id: jobId, generation, attempts } = job;
          const data = { from: null, to: "IN_QUEUE", generation, attempts };
          journal.record({
            atMs: nowMs,
            kind: "job.available",
            endpointId,
            owner,
            jobId,
            workerId: null,
            data,
          });
        }
        return rows.length;
      }),
    setRetention: (jobId, retainMs, nowMs) =>
      commit.run("unsynced", () => {
        setRetainUntil.run(nowMs + retainMs, jobId);
      }),
    hasChunks: (jobId) => unreadChunks.get(jobId) !== undefined,
    find: (jobId) => load(jobId)?.job ?? null,
    view: (jobId) => {
      const stored = load(jobId);
      return stored && { job: stored.job, payload: payloads.read(stored.seq) };
    },
    list: (filter) => listJobs(db, filter),
    leases: (workerId) => leased.all(workerId).map((row) => jobOf(row) as RunningJob),
    counts: (endpointId, owner) => counts.read(endpointId, owner),
    sample: (endpointId) => {
      const { inQueue, inProgress } = counts.read(endpointId, null);
      const low = Number(queuedLow.get(endpointId)?.n);
      const later = inQueue > low ? Number(queuedLater.get(endpointId)?.n) : 0;
      const oldest = oldestNormal.get(endpointId)?.at;
      return {
        inQueue,
        inQueueNormal: inQueue - low - later,
        inProgress,
        oldestQueuedAtMs: (oldest as number | null | undefined) ?? null,
      };
    },
    delayed: (endpointId) => Number(queuedLater.get(endpointId)?.n),
    ahead: (jobId, limit) => {
      const stored = load(jobId);
      if (stored?.job.state !== "IN_QUEUE") return 0;
      const { endpointId, policy } = stored.job;
      return Number(aheadOf.get(endpointId, policy.lowPriority ? 1 : 0, stored.seq, limit)?.n);
    },
    newestSeq: () => Number(newestSeq.get()?.seq ?? 0),
    nextDueMs: () => (dueTimes.get()?.at as number | null) ?? null,
    prune: ({ metadataBeforeMs, limit }, nowMs) =>
      commit.run("unsynced", () => {
        const rows = retained.all(nowMs, limit);
        for (const row of rows) {
          payloads.drop(row.seq as number);
          dropPayload.run(row.seq as number);
        }
        const jobs = Number(deleteOld.run(metadataBeforeMs, limit).changes);
        const keys = Number(deleteKeys.run(nowMs - IDEMPOTENCY_KEPT_MS, limit).changes);
        return rows.length + jobs + keys;
      }),
  };
}

function waitsOnBackoff(job: Job): boolean {
  return job.state === "IN_QUEUE" && job.availableAtMs > job.queuedAtMs;
}

/** A prefetched job waits behind another: what ends its worker is not its doing, and a poison job takes no attempt of its neighbours. */
function hasBegun(job: Job): boolean {
  return job.state === "IN_PROGRESS" && job.lease.startedAtMs !== null;
}

function inputOf(result: Result): JobInput {
  if (result.kind === "output") return { kind: "complete" };
  if (result.kind === "error") return { kind: "fail", retryDelayMs: result.retryDelayMs };
  return { kind: "reject", failure: result.failure };
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

function listJobs(db: DatabaseSync, filter: JobFilter): (Job & { seq: number })[] {
  const where = ["1 = 1"];
  const values: (string | number)[] = [];
  const add = (condition: string, ...bound: (string | number)[]) => {
    where.push(condition);
    values.push(...bound);
  };
  if (filter.beforeSeq !== undefined) add("seq < ?", filter.beforeSeq);
  if (filter.endpointId) add("endpoint_id = ?", filter.endpointId);
  if (filter.owner !== undefined) add("owner = ?", filter.owner);
  if (filter.workerId) add("worker_id = ?", filter.workerId);
  if (filter.states?.length) add(`state IN (${filter.states.map(() => "?").join(", ")})`, ...filter.states);
  if (filter.idPrefix) add("id >= ? AND id < ?", filter.idPrefix, `${filter.idPrefix}\u{10FFFF}`);
  const statement = db.prepare(`SELECT * FROM jobs WHERE ${where.join(" AND ")} ORDER BY seq DESC LIMIT ?`);
  return statement.all(...values, filter.limit).map((row) => ({ ...jobOf(row), seq: row.seq as number }));
}
