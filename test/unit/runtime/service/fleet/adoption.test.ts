import { describe, expect, test } from "vitest";
import { createSimulatedClock } from "../../../../../src/runtime/adapters/simulated/clock.ts";
import { createSimulatedRandom } from "../../../../../src/runtime/adapters/simulated/random.ts";
import { openDatabase } from "../../../../../src/runtime/adapters/sqlite/database.ts";
import { createSqliteStore } from "../../../../../src/runtime/adapters/sqlite/store.ts";
import { createActivity } from "../../../../../src/runtime/core/activity.ts";
import { createStandstill } from "../../../../../src/runtime/core/standstill.ts";
import type { PoolWorker, WorkerPool } from "../../../../../src/runtime/ports/worker-pool.ts";
import { createEvents } from "../../../../../src/runtime/service/events.ts";
import { createReconciler } from "../../../../../src/runtime/service/fleet/reconciler.ts";
import { E, endpoint, release, T0, W, worker } from "../../../../conformance/store-records.ts";

/** A daemon's start over rows that an earlier one left, and a pool that holds what its supervisor holds. */
async function adopt(present: readonly PoolWorker[], state: "wanted" | "starting" | "ready" = "starting") {
  const clock = createSimulatedClock(T0);
  const db = openDatabase(":memory:");
  const store = createSqliteStore({ db, clock, fatal: () => {}, makeRoom: () => false });
  const settled = async <T>(promise: Promise<T>): Promise<T> => {
    await clock.settle();
    return promise;
  };
  await settled(store.fleet.createEndpoint(endpoint(E), release(E), T0));
  await settled(store.fleet.addWorker(worker(W), "digest", T0));
  const path = { wanted: [], starting: ["starting"], ready: ["starting", "ready"] } as const;
  for (const to of path[state]) await settled(store.fleet.moveWorker(W, { to, reason: "starts" }, T0));
  const forgotten: string[] = [];
  const killed: string[] = [];
  const reconciler = createReconciler({
    store,
    clock,
    random: createSimulatedRandom(1),
    pools: { process: poolOf(present, forgotten, killed) },
    events: createEvents({ store, clock }),
    activity: createActivity(),
    host: { cpuCount: 1, memoryGiB: 1 },
    budget: { cpus: 1, memoryBytes: 2 ** 30, diskBytes: 2 ** 30 },
    fillSecrets: (env) => ({ ...env }),
    redact: (_, text) => text,
    workerUrl: () => "http://127.0.0.1:1",
    standstill: createStandstill(T0),
    lastSeenMs: () => T0,
    lastTakeMs: () => T0,
    unfitReason: () => null,
    releasePolls: () => {},
    releaseTakes: () => {},
    log: { info: () => {}, warn: () => {}, error: () => {} },
  });
  const adopting = reconciler.adopt();
  for (let turn = 0; turn < 20; turn += 1) await clock.settle();
  await adopting;
  const { state: found, handle, phase, bootedAtMs } = store.fleet.worker(W) ?? {};
  return { state: found, handle, phase, bootedAtMs, forgotten, killed };
}

function poolOf(present: readonly PoolWorker[], forgotten: string[], killed: string[]): WorkerPool {
  const nothing = async () => {};
  return {
    kind: "process",
    sleeps: ["frozen"],
    isolation: () => ({ level: "none", reason: "scripted" }),
    away: () => null,
    address: () => null,
    prepare: () => {},
    onChange: () => () => {},
    start: async () => ({ handle: "none" }),
    stop: nothing,
    kill: async (id) => void killed.push(id),
    park: nothing,
    wake: nothing,
    list: async () => present,
    forget: async (id) => void forgotten.push(id),
    onExit: () => () => {},
  };
}

describe("a worker whose start was under way when the daemon before died", () => {
  const exit = { workerId: W, code: 1, signal: null, reason: "exited with code 1" };

  test("F-34 ended before the next one came: it is a failed start, and is forgotten", async () => {
    const { state, forgotten } = await adopt([{ workerId: W, handle: "p1", asleep: null, exit }]);
    expect([state, forgotten]).toEqual(["failed", [W]]);
  });

  test("runs: it is starting, by the name that its pool gives it", async () => {
    const found = await adopt([{ workerId: W, handle: "p1", asleep: null, exit: null }]);
    expect(found).toMatchObject({ state: "starting", handle: "p1", phase: "boot", bootedAtMs: T0 });
  });

  test("had become ready before that one noted its name", async () => {
    const found = await adopt([{ workerId: W, handle: "p1", asleep: null, exit: null }], "ready");
    expect(found).toMatchObject({ state: "ready", handle: "p1", phase: null });
  });

  test("never came to be: it is gone", async () => {
    expect((await adopt([])).state).toBe("gone");
  });
});

describe("a worker that waited when the daemon before died", () => {
  test("is gone: its token went with that daemon", async () => {
    expect((await adopt([], "wanted")).state).toBe("gone");
  });

  test("nor is anything of its name kept that its pool has", async () => {
    const { state, killed, forgotten } = await adopt(
      [{ workerId: W, handle: "p1", asleep: null, exit: null }],
      "wanted",
    );
    expect([state, killed, forgotten]).toEqual(["gone", [W], [W]]);
  });
});
