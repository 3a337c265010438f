import type { DatabaseSync } from "node:sqlite";
import type { Endpoint, EndpointId, JournalEvent, Release, WorkerId } from "../../core/model.ts";
import { statesBefore } from "../../core/worker-machine.ts";
import type { FleetStore } from "../../ports/store.ts";
import type { GroupCommit } from "./group-commit.ts";
import type { JournalWriter } from "./journal.ts";
import { endpointOf, type Row, releaseOf, workerOf } from "./rows.ts";

export type FleetOptions = {
  readonly db: DatabaseSync;
  readonly commit: GroupCommit;
  readonly journal: JournalWriter;
};

type Data = JournalEvent["data"];

/** Endpoints, releases and workers in SQLite: few rows, small changes, each with its journal row. */
export function createFleetStore({ db, commit, journal }: FleetOptions): FleetStore {
  const insertEndpoint = db.prepare(
    `INSERT INTO endpoints (id, name, owner, settings, live_release, desired_workers, desired_reason, created_at_ms)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  const insertRelease = db.prepare(
    "INSERT INTO releases (endpoint_id, version, spec, built, created_at_ms) VALUES (?, ?, ?, ?, ?)",
  );
  const endpointById = db.prepare("SELECT * FROM endpoints WHERE id = ?");
  const endpointByName = db.prepare("SELECT id FROM endpoints WHERE name = ?");
  const allEndpoints = db.prepare("SELECT * FROM endpoints ORDER BY created_at_ms, id");
  const updateEndpoint = db.prepare(
    "UPDATE endpoints SET name = ?, settings = ?, live_release = ? WHERE id = ?",
  );
  const setDesired = db.prepare("UPDATE endpoints SET desired_workers = ?, desired_reason = ? WHERE id = ?");
  const deletions = ["endpoints WHERE id", "releases WHERE endpoint_id"].map((what) =>
    db.prepare(`DELETE FROM ${what} = ?`),
  );
  const releaseByVersion = db.prepare("SELECT * FROM releases WHERE endpoint_id = ? AND version = ?");
  // By the primary key: each endpoint's newest number, then a walk down from it.
  const newestReleases = db.prepare(
    `SELECT * FROM releases AS each WHERE version >
     (SELECT max(version) FROM releases WHERE endpoint_id = each.endpoint_id) - ?`,
  );
  const insertWorker = db.prepare(
    `INSERT INTO workers (id, endpoint_id, release, pool, state, reason, created_at_ms, handle, token_digest)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  const workerById = db.prepare("SELECT * FROM workers WHERE id = ?");
  // The guard: the states that the worker table lets move there.
  const moveWorker = db.prepare(
    `UPDATE workers SET state = ?1, reason = ?2, handle = coalesce(?3, handle),
       token_digest = CASE WHEN ?4 THEN NULL ELSE token_digest END,
       ready_at_ms = CASE WHEN ?1 = 'ready' THEN coalesce(ready_at_ms, ?5) ELSE ready_at_ms END,
       ended_at_ms = CASE WHEN ?1 IN ('failed', 'gone') THEN coalesce(ended_at_ms, ?5) ELSE ended_at_ms END
     WHERE id = ?6 AND state IN (SELECT value FROM json_each(?7))`,
  );
  const reword = db.prepare("UPDATE workers SET reason = ? WHERE id = ? AND reason <> ?");
  const present = db.prepare("SELECT * FROM workers WHERE state <> 'gone' ORDER BY created_at_ms, id");
  const listed = db.prepare(
    "SELECT * FROM workers WHERE ?1 IS NULL OR endpoint_id = ?1 ORDER BY created_at_ms DESC, id LIMIT ?2",
  );

  const record = (
    kind: string,
    about: Pick<JournalEvent, "endpointId" | "owner"> & { workerId?: WorkerId },
    data: Data,
    nowMs: number,
  ) => journal.record({ atMs: nowMs, kind, jobId: null, workerId: null, ...about, data });

  function addRelease(release: Release, owner: string, nowMs: number): void {
    const { endpointId, version, spec, built, createdAtMs } = release;
    insertRelease.run(endpointId, version, JSON.stringify(spec), JSON.stringify(built), createdAtMs);
    record("release.live", { endpointId, owner }, { version, runtime: built.runtime }, nowMs);
  }

  function create(
    endpoint: Endpoint,
    release: Release,
    nowMs: number,
  ): "created" | "name_taken" | "id_taken" {
    if (endpointById.get(endpoint.id) || endpointByName.get(endpoint.id)) return "id_taken";
    if (endpointByName.get(endpoint.name) || endpointById.get(endpoint.name)) return "name_taken";
    const { id, name, owner, settings, liveRelease, desired, createdAtMs } = endpoint;
    insertEndpoint.run(
      id,
      name,
      owner,
      JSON.stringify(settings),
      liveRelease,
      desired.workers,
      desired.reason,
      createdAtMs,
    );
    record("endpoint.create", { endpointId: id, owner }, { name }, nowMs);
    addRelease(release, owner, nowMs);
    return "created";
  }

  function update(id: EndpointId, change: Parameters<FleetStore["updateEndpoint"]>[1], nowMs: number) {
    const row = endpointById.get(id);
    if (!row) return "missing" as const;
    const before = endpointOf(row as Row);
    const name = change.name ?? before.name;
    const holder = name === before.name ? undefined : (endpointByName.get(name) ?? endpointById.get(name));
    if (holder && holder.id !== id) return "name_taken" as const;
    const version = change.release?.version ?? before.liveRelease;
    if (change.release && version !== before.liveRelease + 1) return "outdated" as const;
    const settings = change.settings?.(before.settings) ?? before.settings;
    updateEndpoint.run(name, JSON.stringify(settings), version, id);
    if (change.release) addRelease(change.release, before.owner, nowMs);
    record("endpoint.update", { endpointId: id, owner: before.owner }, { name, release: version }, nowMs);
    return "updated" as const;
  }

  function move(id: WorkerId, change: Parameters<FleetStore["moveWorker"]>[1], nowMs: number): boolean {
    const row = workerById.get(id);
    if (!row) return false;
    const before = workerOf(row as Row);
    const guard = JSON.stringify(statesBefore(change.to));
    const result = moveWorker.run(
      change.to,
      change.reason,
      change.handle ?? null,
      change.revoke ? 1 : 0,
      nowMs,
      id,
      guard,
    );
    if (result.changes !== 1) return false;
    const data = { from: before.state, to: change.to, reason: change.reason, release: before.release };
    record("worker.move", { endpointId: before.endpointId, owner: null, workerId: id }, data, nowMs);
    return true;
  }

  return {
    createEndpoint: (endpoint, release, nowMs) =>
      commit.run("synced", () => create(endpoint, release, nowMs)),
    updateEndpoint: (id, change, nowMs) => commit.run("synced", () => update(id, change, nowMs)),
    deleteEndpoint: (id, nowMs) =>
      commit.run("essential", () => {
        const row = endpointById.get(id);
        if (!row) return false;
        for (const statement of deletions) statement.run(id);
        record(
          "endpoint.delete",
          { endpointId: id, owner: row.owner as string },
          { name: row.name as string },
          nowMs,
        );
        return true;
      }),
    setDesired: (id, desired, nowMs) =>
      commit.run("essential", () => {
        const row = endpointById.get(id);
        if (!row) return;
        setDesired.run(desired.workers, desired.reason, id);
        if (row.desired_workers === desired.workers) return;
        const data = { from: row.desired_workers as number, to: desired.workers, reason: desired.reason };
        record("scaler.decide", { endpointId: id, owner: row.owner as string }, data, nowMs);
      }),
    endpoints: () => allEndpoints.all().map((row) => endpointOf(row as Row)),
    recentReleases: (perEndpoint) => newestReleases.all(perEndpoint).map((row) => releaseOf(row as Row)),
    release: (id, version) => {
      const row = releaseByVersion.get(id, version);
      return row ? releaseOf(row as Row) : null;
    },
    addWorker: (worker, tokenDigest, nowMs) =>
      commit.run("synced", () => {
        const { id, endpointId, release, pool, state, reason, createdAtMs, handle } = worker;
        insertWorker.run(id, endpointId, release, pool, state, reason, createdAtMs, handle, tokenDigest);
        record(
          "worker.add",
          { endpointId, owner: null, workerId: id },
          { to: state, reason, release },
          nowMs,
        );
      }),
    moveWorker: (id, change, nowMs) => commit.run("essential", () => move(id, change, nowMs)),
    setWorkerReason: (id, reason) =>
      commit.run("unsynced", () => {
        reword.run(reason, id, reason);
      }),
    workers: () => present.all().map((row) => workerOf(row as Row)),
    worker: (id) => {
      const row = workerById.get(id);
      return row ? workerOf(row as Row) : null;
    },
    listWorkers: ({ endpointId, limit }) =>
      listed.all(endpointId ?? null, limit).map((row) => workerOf(row as Row)),
    credential: (id) => {
      const row = workerById.get(id);
      return row ? { worker: workerOf(row as Row), tokenDigest: row.token_digest as string | null } : null;
    },
    pruneWorkers: (beforeMs, limit) =>
      commit.run("unsynced", () =>
        Number(
          db
            .prepare(
              "DELETE FROM workers WHERE id IN (SELECT id FROM workers WHERE state = 'gone' AND ended_at_ms < ? LIMIT ?)",
            )
            .run(beforeMs, limit).changes,
        ),
      ),
  };
}
