import type { DatabaseSync } from "node:sqlite";
import type { SecretStore } from "../../ports/store.ts";
import type { GroupCommit } from "./group-commit.ts";
import type { JournalWriter } from "./journal.ts";
import { type Row, secretOf } from "./rows.ts";

export type SecretsOptions = {
  readonly db: DatabaseSync;
  readonly commit: GroupCommit;
  readonly journal: JournalWriter;
};

/** Sealed values under their owners' names. The journal gets names alone. */
export function createSecretStore({ db, commit, journal }: SecretsOptions): SecretStore {
  const find = db.prepare("SELECT sealed FROM secrets WHERE owner = ? AND name = ?");
  const count = db.prepare("SELECT count(*) AS count FROM secrets WHERE owner = ?");
  const insert = db.prepare(
    "INSERT INTO secrets (owner, name, sealed, created_at_ms, updated_at_ms) VALUES (?, ?, ?, ?, ?)",
  );
  const change = db.prepare("UPDATE secrets SET sealed = ?, updated_at_ms = ? WHERE owner = ? AND name = ?");
  const remove = db.prepare("DELETE FROM secrets WHERE owner = ? AND name = ?");
  const all = db.prepare("SELECT * FROM secrets ORDER BY owner, name");
  const keepReplaced = db.prepare(
    "INSERT INTO replaced_secrets (owner, name, sealed, replaced_at_ms) VALUES (?, ?, ?, ?)",
  );
  // By the index on owner, name and id: the newest are a walk from its end.
  const replaced = db.prepare(
    "SELECT sealed FROM replaced_secrets WHERE owner = ? AND name = ? ORDER BY id DESC",
  );
  const known = db.prepare("SELECT owner, name FROM secrets UNION SELECT owner, name FROM replaced_secrets");
  const dropOldest = db.prepare(
    `DELETE FROM replaced_secrets WHERE owner = ? AND name = ? AND id NOT IN
     (SELECT id FROM replaced_secrets WHERE owner = ? AND name = ? ORDER BY id DESC LIMIT ?)`,
  );
  // Gone workers count: their logs are kept about as long as their rows.
  const prune = db.prepare(
    `DELETE FROM replaced_secrets WHERE id IN (SELECT id FROM replaced_secrets
     WHERE replaced_at_ms < coalesce((SELECT min(created_at_ms) FROM workers), ?) LIMIT ?)`,
  );
  const record = (kind: string, owner: string, data: Record<string, string>, nowMs: number) =>
    journal.record({ atMs: nowMs, kind, endpointId: null, owner, jobId: null, workerId: null, data });

  function setAside(owner: string, name: string, keep: number, nowMs: number): void {
    keepReplaced.run(owner, name, find.get(owner, name)?.sealed as string, nowMs);
    dropOldest.run(owner, name, owner, name, keep);
  }

  return {
    setSecret: ({ owner, name, sealed }, { maxSecrets, maxReplaced }, nowMs) =>
      commit.run("synced", () => {
        const isNew = find.get(owner, name) === undefined;
        if (isNew && Number(count.get(owner)?.count) >= maxSecrets) return "too_many";
        if (isNew) insert.run(owner, name, sealed, nowMs, nowMs);
        else {
          setAside(owner, name, maxReplaced, nowMs);
          change.run(sealed, nowMs, owner, name);
        }
        record("secret.set", owner, { name }, nowMs);
        return isNew ? "created" : "changed";
      }),
    unsetSecret: (owner, name, { maxReplaced }, nowMs) =>
      commit.run("synced", () => {
        if (find.get(owner, name) === undefined) return false;
        setAside(owner, name, maxReplaced, nowMs);
        remove.run(owner, name);
        record("secret.unset", owner, { name }, nowMs);
        return true;
      }),
    secrets: () => all.all().map((row) => secretOf(row as Row)),
    sealed: (owner, name) => (find.get(owner, name)?.sealed as string | undefined) ?? null,
    remembered: () => known.all().map((row) => ({ owner: row.owner as string, name: row.name as string })),
    replaced: (owner, name) => replaced.all(owner, name).map(({ sealed }) => sealed as string),
    pruneReplaced: (nowMs, limit) => commit.run("unsynced", () => Number(prune.run(nowMs, limit).changes)),
  };
}
