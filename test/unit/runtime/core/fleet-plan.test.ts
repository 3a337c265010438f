import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type FleetAction,
  type FleetFacts,
  type FleetWorker,
  LEASE_MS,
  planFleet,
  STOP_GRACE_MS,
} from "../../../../src/runtime/core/fleet-plan.ts";
import { WORKER_STATES, type WorkerId } from "../../../../src/runtime/core/model.ts";
import { canMove } from "../../../../src/runtime/core/worker-machine.ts";

const NOW = 10_000_000;

function worker(id: string, fields: Partial<FleetWorker> = {}): FleetWorker {
  return {
    id: id as WorkerId,
    state: "ready",
    release: 1,
    leases: 0,
    createdAtMs: NOW - 1_000,
    idleSinceMs: (fields.leases ?? 0) > 0 ? null : NOW - 1_000,
    lastSeenMs: NOW,
    lastTakeMs: NOW,
    stopAskedAtMs: null,
    ...fields,
  };
}

function facts(workers: readonly FleetWorker[], fields: Partial<FleetFacts> = {}): FleetFacts {
  return { desired: 0, max: 3, liveRelease: 1, startTimeoutMs: 600_000, retryAtMs: 0, workers, ...fields };
}

/** Actions in short: kind and worker. */
function short(actions: readonly FleetAction[]): string[] {
  return actions.map((action) => ("workerId" in action ? `${action.kind} ${action.workerId}` : action.kind));
}

describe("starts", () => {
  test.each([
    ["none is there", facts([], { desired: 2 }), 2],
    ["some are", facts([worker("a")], { desired: 3 }), 2],
    ["never above max", facts([], { desired: 9 }), 3],
    ["none during a crash backoff", facts([], { desired: 2, retryAtMs: NOW + 1 }), 0],
    ["again when the backoff is over", facts([], { desired: 2, retryAtMs: NOW }), 2],
    [
      "draining workers hold their place",
      facts([worker("a", { state: "draining", leases: 1 })], { desired: 3 }),
      2,
    ],
    ["failed and gone ones do not", facts([worker("a", { state: "gone" })], { desired: 3 }), 3],
  ])("%s", (_, given, count) => {
    expect(short(planFleet(given, NOW)).filter((action) => action === "start")).toHaveLength(count);
  });

  test("F-41 a new release may have one worker more", () => {
    const old = ["a", "b", "c"].map((id) => worker(id, { release: 1, leases: 1 }));
    const actions = short(planFleet(facts(old, { desired: 3, liveRelease: 2 }), NOW));
    expect(actions.filter((action) => action === "start")).toHaveLength(1);
    expect(actions.filter((action) => action.startsWith("drain"))).toEqual(["drain a", "drain b", "drain c"]);
  });
});

describe("drains", () => {
  test("idle ones first, longest idle first; busy ones last", () => {
    const fleet = [
      worker("busy", { leases: 1 }),
      worker("starting", { state: "starting" }),
      worker("idle-short", { idleSinceMs: NOW - 10 }),
      worker("idle-long", { idleSinceMs: NOW - 999 }),
      worker("parked", { state: "parked", idleSinceMs: NOW - 500 }),
    ];
    const drained = (desired: number) => short(planFleet(facts(fleet, { desired, max: 5 }), NOW));
    expect(drained(5)).toEqual([]);
    expect(drained(4)).toEqual(["drain idle-long"]);
    expect(drained(2)).toEqual(["drain idle-long", "drain parked", "drain idle-short"]);
    expect(drained(0)).toEqual([
      "drain idle-long",
      "drain parked",
      "drain idle-short",
      "drain starting",
      "drain busy",
    ]);
  });

  test("a drained worker is stopped when its jobs have ended, and killed after its grace", () => {
    const draining = (fields: Partial<FleetWorker>) =>
      short(planFleet(facts([worker("a", { state: "draining", ...fields })]), NOW));
    expect(draining({ leases: 1 })).toEqual([]);
    expect(draining({})).toEqual(["stop a"]);
    expect(draining({ stopAskedAtMs: NOW - STOP_GRACE_MS })).toEqual([]);
    expect(draining({ stopAskedAtMs: NOW - STOP_GRACE_MS - 1 })).toEqual(["condemn a"]);
  });
});

describe("judgement", () => {
  const judged = (fields: Partial<FleetWorker>, given: Partial<FleetFacts> = {}) =>
    planFleet(facts([worker("a", fields)], { desired: 1, max: 1, ...given }), NOW);

  test("F-22 a silent worker is condemned, one that is parked need not speak", () => {
    expect(short(judged({ lastSeenMs: NOW - LEASE_MS }))).toEqual([]);
    expect(short(judged({ lastSeenMs: NOW - LEASE_MS - 1 }))).toEqual(["condemn a"]);
    expect(short(judged({ state: "parked", lastSeenMs: 0, lastTakeMs: 0 }))).toEqual([]);
    const long = NOW - 10 * LEASE_MS;
    expect(short(judged({ lastTakeMs: NOW - LEASE_MS, idleSinceMs: long }))).toEqual([]);
    expect(short(judged({ lastTakeMs: NOW - LEASE_MS - 1, idleSinceMs: long }))).toEqual(["condemn a"]);
    // It asked for the job that it ended a moment ago, and that took ten minutes.
    expect(short(judged({ lastTakeMs: long, idleSinceMs: NOW - LEASE_MS }))).toEqual([]);
    expect(short(judged({ lastTakeMs: long, idleSinceMs: NOW - LEASE_MS - 1 }))).toEqual(["condemn a"]);
    expect(short(judged({ lastTakeMs: 0, leases: 1, idleSinceMs: null }))).toEqual([]);
  });

  test("one that does not come up is condemned with its deadline as the reason", () => {
    const late = { state: "starting", createdAtMs: NOW - 600_001 } as const;
    expect(judged(late)).toEqual([
      {
        kind: "condemn",
        workerId: "a",
        reason: "it did not ask for a job within the start timeout of 600 s",
      },
    ]);
    expect(short(judged({ ...late, createdAtMs: NOW - 600_000 }))).toEqual([]);
  });

  test("a condemned worker holds its place until it is gone", () => {
    expect(short(judged({ lastSeenMs: 0 }))).toEqual(["condemn a"]);
    expect(short(judged({ lastSeenMs: 0 }, { max: 2 }))).toEqual(["condemn a", "start"]);
  });

  test("a failed worker stays in view until its retry begins", () => {
    expect(short(judged({ state: "failed" }, { retryAtMs: NOW + 1 }))).toEqual([]);
    expect(short(judged({ state: "failed" }))).toEqual(["clear a", "start"]);
  });
});

const anyWorker = (id: number): fc.Arbitrary<FleetWorker> =>
  fc
    .record({
      state: fc.constantFrom(...WORKER_STATES.filter((state) => state !== "gone")),
      release: fc.constantFrom(1, 2),
      leases: fc.nat(2),
      createdAtMs: fc.constantFrom(NOW - 700_000, NOW - 1_000),
      lastSeenMs: fc.constantFrom(NOW - 2 * LEASE_MS, NOW),
      lastTakeMs: fc.constantFrom(NOW - 2 * LEASE_MS, NOW),
      idle: fc.nat(5_000),
    })
    .map(({ idle, ...fields }) =>
      worker(`w${id}`, { ...fields, idleSinceMs: fields.leases > 0 ? null : NOW - idle }),
    );
const anyFacts: fc.Arbitrary<FleetFacts> = fc
  .record({
    max: fc.integer({ min: 0, max: 4 }),
    wish: fc.nat(4),
    size: fc.nat(5),
    retryAtMs: fc.constantFrom(0, NOW + 1),
  })
  .chain(({ max, wish, size, retryAtMs }) =>
    fc
      .tuple(...Array.from({ length: size }, (_, id) => anyWorker(id)))
      .map((workers) => facts(workers, { max, desired: Math.min(wish, max), liveRelease: 2, retryAtMs })),
  );

const NEXT_STATE = { drain: "draining", stop: null, condemn: "gone", clear: "gone" } as const;

describe("any fleet", () => {
  const present = (workers: readonly FleetWorker[]) =>
    workers.filter(({ state }) => state !== "failed" && state !== "gone").length;

  test("INV-5 a start never takes the fleet above max, or one more while a release rolls", () => {
    fc.assert(
      fc.property(anyFacts, (given) => {
        const starts = planFleet(given, NOW).filter(({ kind }) => kind === "start").length;
        const rolling = given.workers.some(({ release, state }) => release !== 2 && state !== "failed");
        if (starts > 0)
          expect(present(given.workers) + starts).toBeLessThanOrEqual(given.max + (rolling ? 1 : 0));
      }),
      { numRuns: 1_000 },
    );
  });

  test("each worker gets one action at most, one that the worker table allows", () => {
    fc.assert(
      fc.property(anyFacts, (given) => {
        const named = planFleet(given, NOW).flatMap((action) => ("workerId" in action ? [action] : []));
        expect(new Set(named.map(({ workerId }) => workerId)).size).toBe(named.length);
        for (const { kind, workerId } of named) {
          const state = given.workers.find(({ id }) => id === workerId)?.state ?? "gone";
          const to = NEXT_STATE[kind];
          expect(to === null ? state === "draining" : canMove(state, to)).toBe(true);
        }
      }),
      { numRuns: 1_000 },
    );
  });

  test("no busy worker is drained while an idle one of the live release stays", () => {
    fc.assert(
      fc.property(anyFacts, (given) => {
        const actions = planFleet(given, NOW);
        const drained = new Set(
          actions.flatMap((action) => (action.kind === "drain" ? [action.workerId] : [])),
        );
        const condemned = new Set(
          actions.flatMap((action) => (action.kind === "condemn" ? [action.workerId] : [])),
        );
        const live = given.workers.filter(
          ({ id, release, state }) =>
            release === 2 && (state === "ready" || state === "parked") && !condemned.has(id),
        );
        const busyDrained = live.some(({ id, leases }) => leases > 0 && drained.has(id));
        const idleKept = live.some(({ id, leases }) => leases === 0 && !drained.has(id));
        expect(busyDrained && idleKept).toBe(false);
      }),
      { numRuns: 1_000 },
    );
  });

  test("INV-8 carried out again and again, the fleet becomes what is wanted", () => {
    fc.assert(
      fc.property(anyFacts, (given) => {
        let nowMs = NOW;
        let made = 0;
        let workers = [...given.workers];
        for (let round = 0; round < 12; round += 1) {
          nowMs += STOP_GRACE_MS + 1;
          workers = workers.map((each) => ({ ...each, leases: 0, idleSinceMs: each.idleSinceMs ?? nowMs }));
          workers = workers.map((each) =>
            each.lastSeenMs >= NOW ? { ...each, lastSeenMs: nowMs, lastTakeMs: nowMs } : each,
          );
          for (const action of planFleet({ ...given, workers }, nowMs)) {
            if (action.kind === "start") {
              made += 1;
              workers.push(
                worker(`new${made}`, {
                  release: 2,
                  createdAtMs: nowMs,
                  lastSeenMs: nowMs,
                  lastTakeMs: nowMs,
                }),
              );
            } else if (action.kind === "drain")
              workers = workers.map((each) =>
                each.id === action.workerId ? { ...each, state: "draining" as const } : each,
              );
            else workers = workers.filter(({ id }) => id !== action.workerId);
          }
        }
        expect(planFleet({ ...given, workers }, nowMs)).toEqual([]);
        expect(workers.filter(({ release, state }) => release === 2 && state !== "failed")).toHaveLength(
          given.desired,
        );
        expect(workers).toHaveLength(given.desired);
      }),
      { numRuns: 500 },
    );
  });
});
