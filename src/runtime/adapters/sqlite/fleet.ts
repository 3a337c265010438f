import type { DatabaseSync } from "node:sqlite";
import type { Endpoint, EndpointId, JournalEvent, Release, SleepDepth, WorkerId } from "../../core/model.ts";
import { statesBefore } from "../../core/worker-machine.ts";
import type { FleetStore } from "../../ports/store.ts";
import type { GroupCommit } from "./group-commit.ts";
import type { JournalWriter } from "./journal.ts";
import { createReleases } from "./releases.ts";
import { endpointOf, type Row, workerOf } from "./rows.ts";

export type FleetOptions = {
  readonly db: DatabaseSync;
  readonly commit: GroupCommit;
  readonly journal: JournalWriter;
};

type Data = JournalEvent["data"];

/** Endpoints, releases and workers in SQLite: few rows, small changes, each with its journal row. */
export function createFleetStore({ db, commit, journal }: FleetOptions): FleetStore {
  const releases = createReleases(db, journal);
  const insertEndpoint = db.prepare(
    `INSERT INTO endpoints (id, name, owner, settings, live_release, candidate_release, desired_workers, desired_reason, created_at_ms)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  const endpointById = db.prepare("SELECT * FROM endpoints WHERE id = ?");
  const endpointByName = db.prepare("SELECT id FROM endpoints WHERE name = ?");
  const allEndpoints = db.prepare("SELECT * FROM endpoints ORDER BY created_at_ms, id");
  const updateEndpoint = db.prepare("UPDATE endpoints SET name = ?, settings = ? WHERE id = ?");
  const setPaused = db.prepare("UPDATE endpoints SET paused = ?1 WHERE id = ?2 AND paused <> ?1");
  const setDesired = db.prepare("UPDATE endpoints SET desired_workers = ?, desired_reason = ? WHERE id = ?");
  const deleteEndpoint = db.prepare("DELETE FROM endpoints WHERE id = ?");
  const insertWorker = db.prepare(
    `INSERT INTO workers (id, endpoint_id, release, pool, state, reason, created_at_ms, handle, token_digest)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  const workerById = db.prepare("SELECT * FROM workers WHERE id = ?");
  // The guard: the states that the worker table lets move there.
  const moveWorker = db.prepare(
    `UPDATE workers SET state = ?1, reason = ?2, handle = coalesce(?3, handle),
       token_digest = CASE WHEN ?4 THEN NULL ELSE token_digest END,
       exit = coalesce(?8, exit), asleep = NULL, parked_at_ms = NULL,
       phase = CASE WHEN ?1 = 'starting' THEN 'create' END,
       booted_at_ms = CASE WHEN ?1 <> 'starting' THEN booted_at_ms END,
       ready_at_ms = CASE WHEN ?1 = 'ready' THEN coalesce(ready_at_ms, ?5) ELSE ready_at_ms END,
       ended_at_ms = CASE WHEN ?1 IN ('failed', 'gone') THEN coalesce(ended_at_ms, ?5) ELSE ended_at_ms END
     WHERE id = ?6 AND state IN (SELECT value FROM json_each(?7))`,
  );
  // Never one with a job: judged in the transaction that parks it.
  const parkWorker = db.prepare(
    `UPDATE workers SET state = 'parked', reason = ?1, asleep = ?2, parked_at_ms = coalesce(parked_at_ms, ?3), phase = NULL
     WHERE id = ?4 AND (state = 'ready' OR (state = 'parked' AND asleep <> ?2))
       AND NOT EXISTS (SELECT 1 FROM jobs WHERE worker_id = ?4 AND state = 'IN_PROGRESS')`,
  );
  const setStartStep = db.prepare(
    `UPDATE workers SET phase = CASE WHEN state = 'starting' THEN ?1 END, handle = coalesce(?3, handle),
       reason = CASE WHEN state = 'starting' THEN ?2 ELSE reason END,
       booted_at_ms = CASE WHEN ?1 = 'boot' THEN coalesce(booted_at_ms, ?4) ELSE booted_at_ms END
     WHERE id = ?5 AND state <> 'gone'`,
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

  function create(
    endpoint: Endpoint,
    release: Release,
    nowMs: number,
  ): "created" | "name_taken" | "id_taken" {
    if (endpointById.get(endpoint.id) || endpointByName.get(endpoint.id)) return "id_taken";
    if (endpointByName.get(endpoint.name) || endpointById.get(endpoint.name)) return "name_taken";
    const { id, name, owner, settings, liveRelease, candidateRelease, desired, createdAtMs } = endpoint;
    insertEndpoint.run(
      id,
      name,
      owner,
      JSON.stringify(settings),
      liveRelease,
      candidateRelease,
      desired.workers,
      desired.reason,
      createdAtMs,
    );
    record("endpoint.create", { endpointId: id, owner }, { name }, nowMs);
    releases.add(release, owner, nowMs);
    return "created";
  }

  function update(id: EndpointId, change: Parameters<FleetStore["updateEndpoint"]>[1], nowMs: number) {
    const row = endpointById.get(id);
    if (!row) return "missing" as const;
    const before = endpointOf(row as Row);
    const name = change.name ?? before.name;
    const holder = name === before.name ? undefined : (endpointByName.get(name) ?? endpointById.get(name));
    if (holder && holder.id !== id) return "name_taken" as const;
    const settings = change.settings?.(before.settings) ?? before.settings;
    updateEndpoint.run(name, JSON.stringify(settings), id);
    record("endpoint.update", { endpointId: id, owner: before.owner }, { name }, nowMs);
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
      change.exit ? JSON.stringify(change.exit) : null,
    );
    if (result.changes !== 1) return false;
    const data = { from: before.state, to: change.to, reason: change.reason, release: before.release };
    record("worker.move", { endpointId: before.endpointId, owner: null, workerId: id }, data, nowMs);
    return true;
  }

  function park(id: WorkerId, depth: SleepDepth, reason: string, nowMs: number): boolean {
    const row = workerById.get(id);
    if (!row || parkWorker.run(reason, depth, nowMs, id).changes !== 1) return false;
    const { state: from, endpointId, release } = workerOf(row as Row);
    const data = { from, to: "parked", asleep: depth, reason, release };
    record("worker.move", { endpointId, owner: null, workerId: id }, data, nowMs);
    return true;
  }

  function pause(id: EndpointId, paused: boolean, reason: string, nowMs: number): boolean {
    const row = endpointById.get(id);
    if (!row || setPaused.run(paused ? 1 : 0, id).changes !== 1) return false;
    const kind = paused ? "endpoint.pause" : "endpoint.resume";
    record(kind, { endpointId: id, owner: row.owner as string }, { reason }, nowMs);
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
        deleteEndpoint.run(id);
        releases.removeAll(id);
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
    setPaused: (id, paused, reason, nowMs) => commit.run("synced", () => pause(id, paused, reason, nowMs)),
    beginRelease: (id, make, nowMs) => commit.run("synced", () => releases.begin(id, make, nowMs)),
    releaseBuilt: (ref, built, to, reason, nowMs) =>
      commit.run("synced", () =>
        to === "live"
          ? releases.goLive(ref, { reason, built }, nowMs)
          : releases.prove(ref, built, reason, nowMs),
      ),
    moveRelease: (ref, to, reason, nowMs, failure) =>
      commit.run("essential", () =>
        to === "live"
          ? releases.goLive(ref, { reason }, nowMs)
          : releases.endCandidate(ref, to, { reason, ...(failure && { failure }) }, nowMs),
      ),
    setReleaseReason: (ref, reason) => commit.run("unsynced", () => releases.reword(ref, reason)),
    release: releases.read,
    releases: releases.list,
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
    parkWorker: (id, depth, reason, nowMs) => commit.run("essential", () => park(id, depth, reason, nowMs)),
    // That a process runs must be known also on a full disk: it is no start that failed.
    setStartStep: (id, { phase, reason, handle = null }, nowMs) =>
      commit.run(phase === "boot" ? "essential" : "unsynced", () => {
        setStartStep.run(phase, reason, handle, nowMs, id);
      }),
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
