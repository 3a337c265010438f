import type { DatabaseSync } from "node:sqlite";
import type { JobInput } from "../../core/job-machine.ts";
import type { Job, JobId, RunningJob } from "../../core/model.ts";
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
import { prepareJobStatements } from "./job-statements.ts";
import { createJobTransitions, pinOf } from "./job-transitions.ts";
import type { JournalWriter } from "./journal.ts";
import { createPayloads } from "./payloads.ts";
import { JOB_ROW, jobOf, type Row } from "./rows.ts";

export type JobsOptions = {
  readonly db: DatabaseSync;
  readonly commit: GroupCommit;
  readonly journal: JournalWriter;
  readonly counts: Counts;
};

const NOT_APPLIED = { applied: false } as const;
const IDEMPOTENCY_KEPT_MS = 24 * 3_600_000;

/** Jobs in SQLite: each method of the port is one operation of a group commit. */
export function createJobStore({ db, commit, journal, counts }: JobsOptions): JobStore {
  const sql = prepareJobStatements(db);
  const payloads = createPayloads(db);

  const { load, held, transition, endWith, clearStream } = createJobTransitions({
    sql,
    journal,
    counts,
    payloads,
  });
  const superseded = (jobId: JobId): Applied => ({ ...NOT_APPLIED, job: load(jobId)?.job ?? null });

  function enqueue(
    { job, payload, idempotency, maxQueued, maxOwnerQueued }: Submission,
    nowMs: number,
  ): Enqueued {
    if (idempotency) {
      const seen = sql.seenKey.get(idempotency.scope, idempotency.key, nowMs - IDEMPOTENCY_KEPT_MS);
      if (seen) {
        const same = seen.body_digest === idempotency.bodyDigest;
        return same ? { kind: "repeated", jobId: seen.job_id as JobId } : { kind: "key_conflict" };
      }
    }
    if (maxQueued > 0 && counts.read(job.endpointId, null).inQueue >= maxQueued)
      return { kind: "endpoint_full" };
    if (maxOwnerQueued > 0 && counts.ownerQueued(job.owner) >= maxOwnerQueued) return { kind: "owner_full" };
    insertQueued(job, payload);
    if (idempotency)
      sql.insertKey.run(idempotency.scope, idempotency.key, idempotency.bodyDigest, job.id, nowMs);
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
    const row = sql.insertJob.run(
      id,
      endpointId,
      owner,
      generation,
      policyJson,
      low,
      policy.pinned ?? 0,
      createdAtMs,
      queuedAtMs,
      expiresAtMs,
      webhookUrl,
      availableAtMs,
    );
    payloads.insertInput(Number(row.lastInsertRowid), payload);
    counts.add(endpointId, owner, "inQueue", 1);
    counts.add(endpointId, owner, "accepted", 1);
    const data = { from: null, to: "IN_QUEUE", generation, attempts: 0, ...pinOf(job) };
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
    const worker = sql.workerReady.get(workerId, endpointId);
    if (!worker) return [];
    const isLive = worker.release === worker.live_release;
    if (isLive && worker.paused === 1) return [];
    const pinned = isLive ? 0 : (worker.release as number);
    return sql.head.all(endpointId, pinned, nowMs, max).flatMap((row, index) => {
      const stored = { seq: row.seq as number, job: jobOf(row) };
      const job = transition(stored, { kind: "take", workerId, started: index < startable }, nowMs);
      return job?.state === "IN_PROGRESS" ? [{ job, payload: payloads.readInput(stored.seq) }] : [];
    });
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

  function endOverdue(nowMs: number, limit: number): Job[] {
    const ended: Job[] = [];
    const end = (row: Row, input: JobInput) => {
      const job = endRow(row, input, nowMs);
      if (job) ended.push(job);
    };
    for (const row of sql.expired.all(nowMs, limit)) end(row, { kind: "expire" });
    for (const row of sql.overrun.all(nowMs, limit - ended.length)) end(row, { kind: "overrun" });
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
    appendChunk: (lease, { chunkJson, part }, maxBytes) =>
      commit.run("unsynced", () => {
        const stored = held(lease);
        if (!stored) return { ...superseded(lease.jobId), tooLarge: false };
        const stream = sql.readStream.get(stored.seq);
        // Posted again after a lost reply: it is there.
        if (part !== null && part < Number(stream?.stream_parts))
          return { applied: true, job: stored.job, tooLarge: false };
        const bytes = Buffer.byteLength(chunkJson);
        if (Number(stream?.stream_bytes) + bytes > maxBytes)
          return { applied: false, job: stored.job, tooLarge: true };
        payloads.insertChunk(stored.seq, chunkJson);
        sql.growStream.run(bytes, stored.seq);
        return { applied: true, job: stored.job, tooLarge: false };
      }),
    readChunks: (jobId, maxBytes) =>
      commit.run("unsynced", () => {
        const stored = load(jobId);
        if (!stored) return null;
        const cursor = Number(sql.readStream.get(stored.seq)?.stream_cursor);
        const page = payloads.readChunks(stored.seq, cursor, maxBytes);
        if (page.last !== cursor) sql.moveCursor.run(page.last, stored.seq);
        return { state: stored.job.state, chunksJson: page.chunksJson, more: page.more, cursor };
      }),
    rewindChunks: (jobId, cursor) =>
      commit.run("unsynced", () => {
        sql.rewindCursor.run(cursor, jobId);
      }),
    endLeases: (workerId, kind, reason, nowMs) =>
      commit.run("essential", () => {
        const rows = sql.leased.all(workerId) as Row[];
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
        if (!stored || stored.job.policy.pinned || !payloads.hasInput(stored.seq))
          return { ...NOT_APPLIED, job: stored?.job ?? null };
        const job = transition(stored, { kind: "retry" }, nowMs);
        if (!job) return { ...NOT_APPLIED, job: stored.job };
        payloads.dropResult(stored.seq);
        clearStream(stored.seq);
        return { applied: true, job };
      }),
    purge: ({ endpointId, owner, upToSeq, limit }, nowMs) =>
      commit.run("essential", () => {
        const rows = sql.purgeable.all(endpointId, upToSeq, owner, owner, limit) as Row[];
        for (const row of rows)
          transition({ seq: row.seq as number, job: jobOf(row) }, { kind: "purge" }, nowMs);
        return rows.length;
      }),
    endOverdue: (nowMs, limit) => commit.run("essential", () => endOverdue(nowMs, limit)),
    releaseDelayed: (nowMs, limit) =>
      commit.run("essential", () => {
        const rows = sql.delayedDue.all(nowMs, limit) as Row[];
        for (const row of rows) {
          const job = jobOf(row);
          sql.undelay.run(row.seq as number);
          const { endpointId, owner, id: jobId, generation, attempts } = job;
          const data = { from: null, to: "IN_QUEUE", generation, attempts, ...pinOf(job) };
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
        sql.setRetainUntil.run(nowMs + retainMs, jobId);
        sql.keepFor.run(JSON.stringify({ completedMs: retainMs, failedMs: retainMs }), jobId);
      }),
    hasChunks: (jobId) => sql.unreadChunks.get(jobId) !== undefined,
    find: (jobId) => load(jobId)?.job ?? null,
    view: (jobId) => {
      const stored = load(jobId);
      return stored && { job: stored.job, payload: payloads.read(stored.seq) };
    },
    list: (filter) => listJobs(db, filter),
    leases: (workerId) => sql.leased.all(workerId).map((row) => jobOf(row) as RunningJob),
    counts: (endpointId, owner) => counts.read(endpointId, owner),
    sample: (endpointId) => {
      const all = counts.read(endpointId, null);
      const pinned = sql.pinnedCounts.get(endpointId);
      const inQueue = all.inQueue - Number(pinned?.queued);
      const inProgress = all.inProgress - Number(pinned?.running);
      // Counting thousands takes 0.4 ms: only where the counters do not tell.
      const inQueueNormal = sql.anyUnhurried.get(endpointId)
        ? Number(sql.queuedNormal.get(endpointId)?.n)
        : inQueue;
      const oldest = sql.oldestNormal.get(endpointId)?.at;
      return {
        inQueue,
        inQueueNormal,
        inProgress,
        oldestQueuedAtMs: (oldest as number | null | undefined) ?? null,
      };
    },
    delayed: (endpointId) => Number(sql.queuedLater.get(endpointId)?.n),
    ahead: (jobId, limit) => {
      const stored = load(jobId);
      if (stored?.job.state !== "IN_QUEUE") return 0;
      const { endpointId, policy } = stored.job;
      const { pinned = 0, lowPriority } = policy;
      return Number(sql.aheadOf.get(endpointId, pinned, lowPriority ? 1 : 0, stored.seq, limit)?.n);
    },
    ready: (endpointId) =>
      new Map(sql.readyByQueue.all(endpointId).map(({ pinned, n }) => [pinned as number, n as number])),
    pinnedTo: ({ endpointId, version }) => sql.pinnedTo.all(endpointId, version).map((row) => jobOf(row)),
    newestSeq: () => Number(sql.newestSeq.get()?.seq ?? 0),
    nextDueMs: () => (sql.dueTimes.get()?.at as number | null) ?? null,
    prune: ({ metadataBeforeMs, limit }, nowMs) =>
      commit.run("unsynced", () => {
        const rows = sql.retained.all(nowMs, limit);
        for (const row of rows) {
          payloads.drop(row.seq as number);
          sql.dropPayload.run(row.seq as number);
        }
        const jobs = Number(sql.deleteOld.run(metadataBeforeMs, limit).changes);
        const keys = Number(sql.deleteKeys.run(nowMs - IDEMPOTENCY_KEPT_MS, limit).changes);
        return rows.length + jobs + keys;
      }),
  };
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
  const statement = db.prepare(
    `SELECT ${JOB_ROW} FROM jobs WHERE ${where.join(" AND ")} ORDER BY seq DESC LIMIT ?`,
  );
  return statement.all(...values, filter.limit).map((row) => ({ ...jobOf(row), seq: row.seq as number }));
}
