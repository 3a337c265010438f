import type { DatabaseSync } from "node:sqlite";
import type { RegistryStore } from "../../ports/registry-store.ts";
import type { GroupCommit } from "./group-commit.ts";
import type { JournalWriter } from "./journal.ts";
import { type Row, registryOf } from "./rows.ts";

export type RegistriesOptions = {
  readonly db: DatabaseSync;
  readonly commit: GroupCommit;
  readonly journal: JournalWriter;
};

/** Logins by name, their passwords sealed. The journal gets names and servers alone. */
export function createRegistryStore({ db, commit, journal }: RegistriesOptions): RegistryStore {
  const find = db.prepare("SELECT * FROM registries WHERE name = ?");
  const count = db.prepare("SELECT count(*) AS count FROM registries");
  const insert = db.prepare(
    "INSERT INTO registries (name, server, username, sealed, created_at_ms, updated_at_ms) VALUES (?, ?, ?, ?, ?, ?)",
  );
  const change = db.prepare(
    "UPDATE registries SET server = ?, username = ?, sealed = ?, updated_at_ms = ? WHERE name = ?",
  );
  const remove = db.prepare("DELETE FROM registries WHERE name = ?");
  const all = db.prepare("SELECT * FROM registries ORDER BY name");
  const record = (kind: string, data: Record<string, string>, nowMs: number) =>
    journal.record({ atMs: nowMs, kind, endpointId: null, owner: null, jobId: null, workerId: null, data });
  return {
    setRegistry: ({ name, server, username, sealed }, maxRegistries, nowMs) =>
      commit.run("synced", () => {
        const isNew = find.get(name) === undefined;
        if (isNew && Number(count.get()?.count) >= maxRegistries) return "too_many";
        if (isNew) insert.run(name, server, username, sealed, nowMs, nowMs);
        else change.run(server, username, sealed, nowMs, name);
        record("registry.set", { name, server }, nowMs);
        return isNew ? "created" : "changed";
      }),
    removeRegistry: (name, nowMs) =>
      commit.run("synced", () => {
        if (remove.run(name).changes !== 1) return false;
        record("registry.remove", { name }, nowMs);
        return true;
      }),
    registries: () => all.all().map((row) => registryOf(row as Row)),
    sealed: (name) => (find.get(name)?.sealed as string | undefined) ?? null,
  };
}
