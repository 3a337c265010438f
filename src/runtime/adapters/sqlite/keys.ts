import type { DatabaseSync } from "node:sqlite";
import type { KeyStore } from "../../ports/store.ts";
import type { GroupCommit } from "./group-commit.ts";
import type { JournalWriter } from "./journal.ts";
import { keyOf, type Row } from "./rows.ts";

export type KeysOptions = {
  readonly db: DatabaseSync;
  readonly commit: GroupCommit;
  readonly journal: JournalWriter;
};

/** API keys (digests only) and the limits of their owners. */
export function createKeyStore({ db, commit, journal }: KeysOptions): KeyStore {
  const insert = db.prepare(
    `INSERT INTO keys (id, name, owner, scope, endpoint_ids, prefix, digest, created_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  const live = db.prepare("SELECT id FROM keys WHERE name = ? AND revoked_at_ms IS NULL");
  const revoke = db.prepare("UPDATE keys SET revoked_at_ms = ? WHERE id = ? AND revoked_at_ms IS NULL");
  const touch = db.prepare("UPDATE keys SET last_used_at_ms = ? WHERE id = ?");
  const all = db.prepare("SELECT * FROM keys ORDER BY created_at_ms DESC, id");
  const setLimit = db.prepare(
    "INSERT INTO owners (owner, max_queued) VALUES (?, ?) ON CONFLICT DO UPDATE SET max_queued = excluded.max_queued",
  );
  // Asked for on each submit; only this store writes it.
  const limits = new Map<string, number>(
    db
      .prepare("SELECT owner, max_queued FROM owners")
      .all()
      .map((row) => [row.owner as string, row.max_queued as number]),
  );
  const record = (kind: string, owner: string | null, data: Record<string, string>, nowMs: number) =>
    journal.record({ atMs: nowMs, kind, endpointId: null, owner, jobId: null, workerId: null, data });
  return {
    addKey: (key, digest, nowMs) =>
      commit.run("synced", () => {
        if (live.get(key.name)) return "name_taken";
        const { id, name, owner, scope, endpointIds, prefix, createdAtMs } = key;
        insert.run(id, name, owner, scope, JSON.stringify(endpointIds), prefix, digest, createdAtMs);
        record("key.create", owner, { name, scope }, nowMs);
        return "created";
      }),
    revokeKey: (id, nowMs) =>
      commit.run("essential", () => {
        if (revoke.run(nowMs, id).changes !== 1) return false;
        record("key.revoke", null, { key: id }, nowMs);
        return true;
      }),
    touchKey: (id, nowMs) =>
      commit.run("unsynced", () => {
        touch.run(nowMs, id);
      }),
    keys: () => all.all().map((row) => keyOf(row as Row)),
    setOwnerMaxQueued: async (owner, maxQueued) => {
      await commit.run("synced", () => {
        setLimit.run(owner, maxQueued);
      });
      limits.set(owner, maxQueued);
    },
    ownerMaxQueued: (owner) => limits.get(owner) ?? 0,
  };
}
