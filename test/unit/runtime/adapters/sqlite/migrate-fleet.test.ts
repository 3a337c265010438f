import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createSimulatedClock } from "../../../../../src/runtime/adapters/simulated/clock.ts";
import { readMigrations } from "../../../../../src/runtime/adapters/sql-migrate.ts";
import { openDatabase, pragma } from "../../../../../src/runtime/adapters/sqlite/database.ts";
import { createSqliteStore } from "../../../../../src/runtime/adapters/sqlite/store.ts";
import type { WorkerId } from "../../../../../src/runtime/core/model.ts";
import type { Store } from "../../../../../src/runtime/ports/store.ts";
import { checkCounts } from "../../../../conformance/store-checks.ts";
import { draft, E, F, idOf, namesOf, T0, take, W } from "../../../../conformance/store-records.ts";

const MIGRATIONS = readMigrations(
  join(import.meta.dirname, "../../../../../src/runtime/adapters/sqlite/migrations"),
);

/** As 0001 kept settings, releases and what was built: nothing of images, extra workers, prewarming. */
const SETTINGS = {
  workers: { min: 1, max: 4, idleTimeoutMs: 7_000, flashboot: true, prefetch: 2 },
  scale: { by: "queue-delay", threshold: 4, maxQueued: 0 },
  limits: { executionTimeoutMs: 600_000, ttlMs: 86_400_000, startTimeoutMs: 420_000, retries: 0 },
  retention: { asyncMs: 1_800_000, syncMs: 60_000, failedMs: 1_800_000 },
  webhookSecret: null,
};
const SPEC = {
  pool: "process",
  source: { kind: "bundle", digest: "0".repeat(64) },
  handler: "handler.py",
  python: null,
  hardware: {},
  env: { A: "1" },
};
const BUILT = {
  file: "/usr/bin/python3",
  args: ["-u"],
  cwd: "/srv",
  env: {},
  runtime: "python 3.11",
  warnings: [],
};
const POLICY = {
  executionTimeoutMs: 600_000,
  ttlMs: 86_400_000,
  lowPriority: false,
  handlerRetries: 0,
  retention: { completedMs: 1_800_000, failedMs: 3_600_000 },
};

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "rpx-migrate-"));
  path = join(folder, "rpx.db");
});
afterEach(() => rmSync(folder, { recursive: true }));

/** A database as the first schema left it: an endpoint at its third release, workers in every state, jobs. */
function fill(db: DatabaseSync): void {
  const endpoint = db.prepare(
    `INSERT INTO endpoints (id, name, owner, settings, live_release, desired_workers, desired_reason, created_at_ms)
     VALUES (?, ?, 'ann', ?, ?, 1, 'min is 1', ?)`,
  );
  endpoint.run(E, "hello", JSON.stringify(SETTINGS), 3, T0);
  endpoint.run(F, "other", JSON.stringify(SETTINGS), 1, T0 + 1);
  const release = db.prepare(
    "INSERT INTO releases (endpoint_id, version, spec, built, created_at_ms) VALUES (?, ?, ?, ?, ?)",
  );
  for (const version of [1, 2, 3])
    release.run(E, version, JSON.stringify(SPEC), JSON.stringify(BUILT), T0 + version);
  release.run(F, 1, JSON.stringify(SPEC), JSON.stringify(BUILT), T0);
  const worker = db.prepare(
    `INSERT INTO workers (id, endpoint_id, release, pool, state, reason, created_at_ms, ready_at_ms, ended_at_ms, handle, token_digest)
     VALUES (?, ?, 3, 'process', ?, 'because', ?, ?, ?, 'p1', 'digest')`,
  );
  worker.run(W, E, "ready", T0 + 10, T0 + 11, null);
  worker.run("w-starting", E, "starting", T0 + 12, null, null);
  worker.run("w-draining", E, "draining", T0 + 13, T0 + 14, null);
  worker.run("w-gone", E, "gone", T0 + 15, null, T0 + 16);
  for (const name of ["a", "b", "low"]) addJob(db, name);
  db.prepare("INSERT INTO counts (endpoint_id, owner, in_queue, accepted) VALUES (?, 'ann', 3, 3)").run(E);
}

function addJob(db: DatabaseSync, name: string): void {
  const low = name === "low" ? 1 : 0;
  const policy = JSON.stringify({ ...POLICY, lowPriority: low === 1 });
  const { lastInsertRowid } = db
    .prepare(
      `INSERT INTO jobs (id, endpoint_id, owner, state, generation, attempts, deliveries, policy, low_priority, created_at_ms,
         queued_at_ms, expires_at_ms, delayed, available_at_ms) VALUES (?, ?, 'ann', 'IN_QUEUE', 1, 0, 0, ?, ?, ?, ?, ?, 0, ?)`,
    )
    .run(name, E, policy, low, T0, T0, T0 + POLICY.ttlMs, T0);
  db.prepare("INSERT INTO inputs (seq, input, extras) VALUES (?, '1', '{}')").run(lastInsertRowid);
  const data = JSON.stringify({ from: null, to: "IN_QUEUE", generation: 1, attempts: 0 });
  db.prepare(
    "INSERT INTO journal (at_ms, kind, endpoint_id, owner, job_id, data) VALUES (?, 'job.submit', ?, 'ann', ?, ?)",
  ).run(T0, E, name, data);
}

function migrated(): Store {
  const before = openDatabase(path, { migrations: MIGRATIONS.slice(0, 1) });
  fill(before);
  before.close();
  const db = openDatabase(path);
  expect(pragma(db, "user_version")).toBe(MIGRATIONS.length);
  return createSqliteStore({
    db,
    clock: createSimulatedClock(T0),
    fatal: (error) => {
      throw error;
    },
    makeRoom: () => false,
  });
}

test("0002: the release that served serves, the ones before it are superseded, and all can be read", async () => {
  const store = migrated();
  expect(
    store.fleet
      .endpoints()
      .map(({ id, liveRelease, candidateRelease, paused }) => [id, liveRelease, candidateRelease, paused]),
  ).toEqual([
    [E, 3, null, false],
    [F, 1, null, false],
  ]);
  expect(store.fleet.endpoints()[0]?.settings).toEqual({
    ...SETTINGS,
    workers: { ...SETTINGS.workers, extra: 0, prewarm: false },
  });
  expect(
    store.fleet
      .releases(E, 10)
      .map(({ version, state, reason, liveAtMs }) => [version, state, reason, liveAtMs]),
  ).toEqual([
    [3, "live", "serves", T0 + 3],
    [2, "superseded", "a newer release took its place", T0 + 2],
    [1, "superseded", "a newer release took its place", T0 + 1],
  ]);
  expect(store.fleet.release(F, 1)?.state).toBe("live");
  expect(store.fleet.release(E, 3)).toMatchObject({
    spec: { ...SPEC, dockerfile: null, image: {} },
    built: { ...BUILT, kind: "process" },
    ...{ diff: [], tests: [], origin: "update" },
  });
  await store.close();
});

test("0002: workers go on as they were, and one that was starting counts from its beginning", async () => {
  const store = migrated();
  const shown = store.fleet
    .workers()
    .map(({ id, state, phase, bootedAtMs }) => [id, state, phase, bootedAtMs]);
  expect(shown).toEqual([
    [W, "ready", null, null],
    ["w-starting", "starting", "boot", T0 + 12],
    ["w-draining", "draining", null, null],
  ]);
  expect(store.fleet.worker(W)).toMatchObject({ asleep: null, parkedAtMs: null, exit: null, handle: "p1" });
  expect(store.fleet.credential(W)?.tokenDigest).toBe("digest");
  expect(store.fleet.worker("w-gone" as WorkerId)?.state).toBe("gone");
  await store.close();
});

test("0002: waiting jobs are the live release's, in their order, and the next change follows", async () => {
  const store = migrated();
  checkCounts(store);
  expect(store.jobs.ready(E)).toEqual(new Map([[0, 3]]));
  expect(store.jobs.find(idOf("a"))?.policy.pinned).toBeUndefined();
  expect(namesOf(await take(store, { max: 9 }))).toEqual(["a", "b", "low"]);
  expect(await store.fleet.parkWorker(W, "frozen", "idle", T0)).toBe(false);
  const begun = await store.fleet.beginRelease(E, (base) => draft({ spec: base.spec }), T0 + 20);
  expect(begun).toMatchObject({ kind: "begun", release: { version: 4, state: "building", built: null } });
  await store.close();
});
