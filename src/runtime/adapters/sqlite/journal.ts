import type { DatabaseSync } from "node:sqlite";
import type { JournalEvent } from "../../core/model.ts";
import type { JournalFilter, JournalStore } from "../../ports/store.ts";
import type { GroupCommit } from "./group-commit.ts";
import { eventOf, type Row } from "./rows.ts";

/** A journal row to be; `resultOf` is set on the row that ends a generation of a job. */
export type JournalEntry = Omit<JournalEvent, "seq"> & { readonly resultOf?: string };

/** Writes journal rows inside the running transaction and collects them for the announcement after it. */
export type JournalWriter = {
  begin(): void;
  record(entry: JournalEntry): void;
  written(): readonly JournalEvent[];
};

export function createJournalWriter(db: DatabaseSync): JournalWriter {
  const insert = db.prepare(
    `INSERT INTO journal (at_ms, kind, endpoint_id, owner, job_id, worker_id, result_of, data)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  let events: JournalEvent[] = [];
  return {
    begin: () => {
      events = [];
    },
    record: ({ resultOf, ...event }) => {
      const { atMs, kind, endpointId, owner, jobId, workerId, data } = event;
      const row = insert.run(
        atMs,
        kind,
        endpointId,
        owner,
        jobId,
        workerId,
        resultOf ?? null,
        JSON.stringify(data),
      );
      events.push({ seq: Number(row.lastInsertRowid), ...event });
    },
    written: () => events,
  };
}

export function createJournalStore(db: DatabaseSync, commit: GroupCommit): JournalStore {
  const newest = db.prepare("SELECT max(seq) AS seq FROM journal");
  // Rows are in order of time, so the oldest have the smallest numbers; the newest row stays, so that numbers never repeat.
  const prune = db.prepare(
    `DELETE FROM journal WHERE seq IN (SELECT seq FROM journal ORDER BY seq LIMIT ?)
     AND at_ms < ? AND seq < (SELECT max(seq) FROM journal)`,
  );
  return {
    read: (filter) => readEvents(db, filter),
    newestSeq: () => Number(newest.get()?.seq ?? 0),
    prune: (beforeMs, limit) => commit.run("unsynced", () => Number(prune.run(limit, beforeMs).changes)),
  };
}

function readEvents(db: DatabaseSync, filter: JournalFilter): JournalEvent[] {
  const where = ["seq > ?"];
  const values: (string | number)[] = [filter.afterSeq ?? 0];
  if (filter.jobId) {
    where.push("job_id = ?");
    values.push(filter.jobId);
  }
  if (filter.workerId) {
    where.push("worker_id = ?");
    values.push(filter.workerId);
  }
  if (filter.endpointId) {
    where.push("endpoint_id = ?");
    values.push(filter.endpointId);
  }
  const statement = db.prepare(`SELECT * FROM journal WHERE ${where.join(" AND ")} ORDER BY seq LIMIT ?`);
  return statement.all(...values, filter.limit).map((row) => eventOf(row as Row));
}
