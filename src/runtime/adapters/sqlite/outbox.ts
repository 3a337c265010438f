import type { DatabaseSync } from "node:sqlite";
import type { EndpointId, JobId } from "../../core/model.ts";
import type { OutboxEntry, OutboxStore } from "../../ports/store.ts";
import type { GroupCommit } from "./group-commit.ts";
import type { JournalWriter } from "./journal.ts";
import type { Row } from "./rows.ts";

export type OutboxOptions = {
  readonly db: DatabaseSync;
  readonly commit: GroupCommit;
  readonly journal: JournalWriter;
};

/** Webhooks to send. Their rows are written with the end of their job (sqlite/jobs.ts). */
export function createOutboxStore({ db, commit, journal }: OutboxOptions): OutboxStore {
  // outbox_due: pending rows in order of time.
  const due = db.prepare(
    "SELECT * FROM outbox WHERE state = 'pending' AND next_try_at_ms <= ? ORDER BY next_try_at_ms LIMIT ?",
  );
  const nextDue = db.prepare("SELECT min(next_try_at_ms) AS at FROM outbox WHERE state = 'pending'");
  const byId = db.prepare("SELECT * FROM outbox WHERE id = ?");
  const record = db.prepare(
    "UPDATE outbox SET state = ?, tries = tries + 1, last_status = ?, next_try_at_ms = ? WHERE id = ? AND state = 'pending'",
  );
  const prune = db.prepare(
    "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE state <> 'pending' AND next_try_at_ms < ? ORDER BY id LIMIT ?)",
  );
  return {
    due: (nowMs, limit) => due.all(nowMs, limit).map((row) => entryOf(row as Row)),
    recordTry: (id, outcome, nowMs) =>
      commit.run("essential", () => {
        const row = byId.get(id);
        const state = outcome.kind === "retry" ? "pending" : outcome.kind;
        if (record.run(state, outcome.status, outcome.nextTryAtMs, id).changes !== 1 || !row) return;
        const { jobId, endpointId, tries } = entryOf(row as Row);
        const data = { outcome: outcome.kind, status: outcome.status, tries: tries + 1 };
        journal.record({
          atMs: nowMs,
          kind: "webhook.try",
          endpointId,
          owner: null,
          jobId,
          workerId: null,
          data,
        });
      }),
    nextDueMs: () => (nextDue.get()?.at as number | null) ?? null,
    prune: (beforeMs, limit) => commit.run("unsynced", () => Number(prune.run(beforeMs, limit).changes)),
  };
}

function entryOf(row: Row): OutboxEntry {
  return {
    id: row.id as number,
    jobId: row.job_id as JobId,
    endpointId: row.endpoint_id as EndpointId,
    generation: row.generation as number,
    url: row.url as string,
    tries: row.tries as number,
    nextTryAtMs: row.next_try_at_ms as number,
  };
}
