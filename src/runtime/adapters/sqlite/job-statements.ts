import type { DatabaseSync } from "node:sqlite";
import { JOB_ROW } from "./rows.ts";

/** Rows at the head of a queue among which the oldest wait is looked for: more than come back at once. */
const OLDEST_AMONG = 100;
/** Waiting jobs counted for a scaling decision. */
const COUNTED_AT_MOST = 10_000;

/** The columns of `jobs` that a transition writes. */
export const JOB_COLUMNS = [
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

export type JobStatements = ReturnType<typeof prepareJobStatements>;

/** The prepared statements of jobs, each with the index that it reads by. */
export function prepareJobStatements(db: DatabaseSync) {
  const byId = db.prepare(`SELECT ${JOB_ROW} FROM jobs WHERE id = ?`);
  const insertJob = db.prepare(
    `INSERT INTO jobs (id, endpoint_id, owner, state, generation, attempts, deliveries, policy, low_priority, pinned, created_at_ms,
       queued_at_ms, expires_at_ms, webhook_url, delayed, available_at_ms)
     VALUES (?, ?, ?, 'IN_QUEUE', ?, 0, 0, ?, ?, ?, ?, ?, ?, ?, 0, ?)`,
  );
  // The guard: the row is still what the job table judged (INV-4).
  const updateJob = db.prepare(
    `UPDATE jobs SET ${JOB_COLUMNS.map((column) => `${column} = ?`).join(", ")}
     WHERE seq = ? AND state = ? AND generation = ? AND deliveries = ?`,
  );
  // jobs_ready: the first rows of one endpoint's queue. A bare `LIMIT ?` is planned anew each time it is bound: 7 µs (measured).
  const head = db.prepare(
    `SELECT ${JOB_ROW} FROM jobs WHERE endpoint_id = ? AND pinned = ? AND state = 'IN_QUEUE' AND delayed = 0 AND expires_at_ms > ?
     ORDER BY low_priority, seq LIMIT ? + 0`,
  );
  // chunks_by_job: one look behind the cursor.
  const unreadChunks = db.prepare(
    "SELECT 1 FROM jobs JOIN chunks ON chunks.seq = jobs.seq AND chunks.id > jobs.stream_cursor WHERE jobs.id = ? LIMIT 1",
  );
  const workerReady = db.prepare(
    `SELECT w.release, e.live_release, e.paused FROM workers w JOIN endpoints e ON e.id = w.endpoint_id
     WHERE w.id = ? AND w.endpoint_id = ? AND w.state = 'ready'`,
  );
  // A job that came back keeps its place and waits anew: the first of the queue may have waited less than those behind it.
  const oldestNormal = db.prepare(
    `SELECT min(queued_at_ms) AS at FROM (SELECT queued_at_ms FROM jobs
     WHERE endpoint_id = ? AND pinned = 0 AND state = 'IN_QUEUE' AND delayed = 0 AND low_priority = 0 ORDER BY seq LIMIT ${OLDEST_AMONG})`,
  );
  // jobs_ready: counted no further than a scaling decision can use.
  const queuedNormal = db.prepare(
    `SELECT count(*) AS n FROM (SELECT 1 FROM jobs
     WHERE endpoint_id = ? AND pinned = 0 AND state = 'IN_QUEUE' AND delayed = 0 AND low_priority = 0 LIMIT ${COUNTED_AT_MOST})`,
  );
  // jobs_ready, jobs_delayed: whether any waiting job is one that starts no worker: of low priority, pinned to a release, or on backoff
  // on any endpoint.
  const anyUnhurried = db.prepare(
    `SELECT 1 WHERE EXISTS (SELECT 1 FROM jobs WHERE endpoint_id = ?1 AND pinned = 0 AND state = 'IN_QUEUE' AND delayed = 0 AND low_priority > 0)
       OR EXISTS (SELECT 1 FROM jobs WHERE endpoint_id = ?1 AND pinned > 0 AND state = 'IN_QUEUE' AND delayed = 0)
       OR EXISTS (SELECT 1 FROM jobs INDEXED BY jobs_delayed WHERE state = 'IN_QUEUE' AND delayed = 1)`,
  );
  // Named, or SQLite reads every job that the endpoint ever had.
  const queuedLater = db.prepare(
    `SELECT count(*) AS n FROM jobs INDEXED BY jobs_delayed WHERE state = 'IN_QUEUE' AND delayed = 1 AND endpoint_id = ?`,
  );
  // jobs_ready: one count per queue, at start.
  const readyByQueue = db.prepare(
    `SELECT pinned, count(*) AS n FROM jobs WHERE endpoint_id = ? AND state = 'IN_QUEUE' AND delayed = 0 GROUP BY pinned`,
  );
  // jobs_pinned: tests of releases are few.
  const pinnedTo = db.prepare(
    `SELECT ${JOB_ROW} FROM jobs WHERE endpoint_id = ? AND pinned = ? AND pinned > 0 AND state IN ('IN_QUEUE', 'IN_PROGRESS') ORDER BY seq`,
  );
  // jobs_pinned: so are those that have not ended.
  const pinnedCounts = db.prepare(
    `SELECT sum(state = 'IN_QUEUE') AS queued, sum(state = 'IN_PROGRESS') AS running FROM jobs INDEXED BY jobs_pinned
     WHERE endpoint_id = ? AND pinned > 0 AND state IN ('IN_QUEUE', 'IN_PROGRESS')`,
  );
  // In the order of their delivery: jobs of one take are handed over in queue order.
  const leased = db.prepare(
    `SELECT ${JOB_ROW} FROM jobs WHERE worker_id = ? AND state = 'IN_PROGRESS' ORDER BY taken_at_ms, low_priority, seq`,
  );
  const prefetched = db.prepare(
    `SELECT ${JOB_ROW} FROM jobs WHERE worker_id = ? AND state = 'IN_PROGRESS' AND started_at_ms IS NULL
     ORDER BY taken_at_ms, low_priority, seq LIMIT 1`,
  );
  const expired = db.prepare(
    `SELECT ${JOB_ROW} FROM jobs WHERE expires_at_ms <= ? AND state IN ('IN_QUEUE', 'IN_PROGRESS') ORDER BY expires_at_ms LIMIT ?`,
  );
  const overrun = db.prepare(
    `SELECT ${JOB_ROW} FROM jobs WHERE deadline_ms <= ? AND state = 'IN_PROGRESS' ORDER BY deadline_ms LIMIT ?`,
  );
  const delayedDue = db.prepare(
    `SELECT ${JOB_ROW} FROM jobs WHERE available_at_ms <= ? AND state = 'IN_QUEUE' AND delayed = 1 ORDER BY available_at_ms LIMIT ?`,
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
    `SELECT ${JOB_ROW} FROM jobs WHERE endpoint_id = ? AND state = 'IN_QUEUE' AND seq <= ? AND (? IS NULL OR owner = ?) ORDER BY seq LIMIT ?`,
  );
  const aheadOf = db.prepare(
    `SELECT count(*) AS n FROM (
       SELECT 1 FROM jobs WHERE endpoint_id = ? AND pinned = ? AND state = 'IN_QUEUE' AND delayed = 0
         AND (low_priority, seq) < (?, ?) LIMIT ?)`,
  );
  const setRetainUntil = db.prepare(
    "UPDATE jobs SET retain_until_ms = ? WHERE id = ? AND ended_at_ms IS NOT NULL",
  );
  const keepFor = db.prepare(
    "UPDATE jobs SET policy = json_set(policy, '$.retention', json(?)) WHERE id = ? AND ended_at_ms IS NULL",
  );
  const readStream = db.prepare("SELECT stream_cursor, stream_bytes, stream_parts FROM jobs WHERE seq = ?");
  const moveCursor = db.prepare("UPDATE jobs SET stream_cursor = ? WHERE seq = ?");
  // Only backwards: the chunks may have been dropped since, and the numbers of the next ones be lower.
  const rewindCursor = db.prepare("UPDATE jobs SET stream_cursor = min(stream_cursor, ?) WHERE id = ?");
  const growStream = db.prepare(
    "UPDATE jobs SET stream_bytes = stream_bytes + ?, stream_parts = stream_parts + 1 WHERE seq = ?",
  );
  const resetStream = db.prepare(
    "UPDATE jobs SET stream_bytes = 0, stream_cursor = 0, stream_parts = 0 WHERE seq = ?",
  );
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
  // A webhook that is still to be sent needs what it tells of (by the outbox's key of jobs).
  const retained = db.prepare(
    `SELECT seq FROM jobs WHERE retain_until_ms <= ? AND has_payload = 1 AND ended_at_ms IS NOT NULL
     AND NOT EXISTS (SELECT 1 FROM outbox WHERE job_id = jobs.id AND outbox.state = 'pending') ORDER BY retain_until_ms LIMIT ?`,
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
  return {
    byId,
    insertJob,
    updateJob,
    head,
    unreadChunks,
    workerReady,
    oldestNormal,
    anyUnhurried,
    queuedLater,
    readyByQueue,
    pinnedTo,
    pinnedCounts,
    leased,
    prefetched,
    expired,
    overrun,
    delayedDue,
    undelay,
    dueTimes,
    purgeable,
    aheadOf,
    setRetainUntil,
    readStream,
    moveCursor,
    rewindCursor,
    growStream,
    resetStream,
    insertOutbox,
    seenKey,
    insertKey,
    newestSeq,
    retained,
    dropPayload,
    deleteOld,
    deleteKeys,
    queuedNormal,
    keepFor,
  };
}
