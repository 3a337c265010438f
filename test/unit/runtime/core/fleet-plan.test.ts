import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  type FleetAction,
  type FleetFacts,
  type FleetWorker,
  LEASE_MS,
  mostAwake,
  planFleet,
  roomBeside,
  SETTLE_MS,
  SLEEP_MS,
  STOP_GRACE_MS,
} from "../../../../src/runtime/core/fleet-plan.ts";
import { NO_RELEASE, WORKER_STATES, type WorkerId } from "../../../../src/runtime/core/model.ts";
import { canMove } from "../../../../src/runtime/core/worker-machine.ts";

const NOW = 10_000_000;
/** How both kinds of pools let idle workers sleep. */
const FREEZES = ["frozen"] as const;
const LADDER = ["frozen", "stopped"] as const;

function worker(id: string, fields: Partial<FleetWorker> = {}): FleetWorker {
  const { state = "ready", leases = 0 } = fields;
  return {
    id: id as WorkerId,
    state,
    release: 1,
    leases,
    bootedAtMs: state === "wanted" ? null : NOW - 1_000,
    idleSinceMs: leases > 0 ? null : NOW - 1_000,
    lastSeenMs: NOW,
    lastTakeMs: NOW,
    wokenAtMs: null,
    stopAskedAtMs: null,
    asleep: state === "parked" ? "frozen" : null,
    parkedAtMs: state === "parked" ? NOW - 1_000 : null,
    ...fields,
  };
}

function facts(workers: readonly FleetWorker[], fields: Partial<FleetFacts> = {}): FleetFacts {
  return {
    desired: 0,
    max: 3,
    paused: false,
    liveRelease: 1,
    provingRelease: null,
    startTimeoutMs: 600_000,
    retryAtMs: 0,
    sleeps: [],
    workers,
    ...fields,
  };
}

/** Actions in short: kind, and worker or release. */
function short(actions: readonly FleetAction[]): string[] {
  return actions.map((action) => {
    const of = "workerId" in action ? action.workerId : `release ${action.release}`;
    return action.kind === "park" ? `park ${of} ${action.depth}` : `${action.kind} ${of}`;
  });
}

const planned = (workers: readonly FleetWorker[], fields: Partial<FleetFacts> = {}) =>
  short(planFleet(facts(workers, fields), NOW));

describe("starts", () => {
  test.each([
    ["none is there", facts([], { desired: 2 }), 2],
    ["some are", facts([worker("a")], { desired: 3 }), 2],
    ["one waits for its place", facts([worker("a", { state: "wanted" })], { desired: 3 }), 2],
    ["never above max", facts([], { desired: 9 }), 3],
    ["none during a crash backoff", facts([], { desired: 2, retryAtMs: NOW + 1 }), 0],
    ["again when the backoff is over", facts([], { desired: 2, retryAtMs: NOW }), 2],
    [
      "draining workers hold their place",
      facts([worker("a", { state: "draining", leases: 1 })], { desired: 3 }),
      2,
    ],
    ["failed and gone ones do not", facts([worker("a", { state: "gone" })], { desired: 3 }), 3],
    ["none where no release serves", facts([], { desired: 2, liveRelease: NO_RELEASE }), 0],
  ])("%s", (_, given, count) => {
    const starts = short(planFleet(given, NOW)).filter((action) => action === "start release 1");
    expect(starts).toHaveLength(count);
  });

  test("one that waits goes where max was lowered below what is wanted, before the autoscaler has looked", () => {
    const waiting = worker("a", { state: "wanted" });
    expect(planned([waiting], { desired: 2, max: 0 })).toEqual(["clear a"]);
  });

  test.each([
    ["workers that end still count", [1, 1], { max: 2, release: 1 }, 0],
    ["one more beside another release", [1, 1], { max: 2, release: 2 }, 1],
    ["none where nothing may run, another release or not", [1], { max: 0, release: 2 }, -1],
  ])("INV-5 room beside those that are there: %s", (_, releases, of, room) => {
    expect(
      roomBeside(
        releases.map((release) => ({ release })),
        of,
      ),
    ).toBe(room);
  });

  test("extra workers come on top of max, but of 0", () => {
    expect([mostAwake({ max: 2, extra: 1 }), mostAwake({ max: 0, extra: 1 })]).toEqual([3, 0]);
  });

  test("F-41 a new release may have one worker more", () => {
    const old = ["a", "b", "c"].map((id) => worker(id, { release: 1, leases: 1 }));
    const actions = planned(old, { desired: 3, liveRelease: 2 });
    expect(actions.filter((action) => action.startsWith("start"))).toEqual(["start release 2"]);
    expect(actions.filter((action) => action.startsWith("drain"))).toEqual(["drain a", "drain b", "drain c"]);
  });
});

describe("drains, where workers do not sleep", () => {
  test("first who waits, then idle ones, longest idle first; busy ones last", () => {
    const fleet = [
      worker("busy", { leases: 1 }),
      worker("starting", { state: "starting" }),
      worker("idle-short", { idleSinceMs: NOW - 10 }),
      worker("idle-long", { idleSinceMs: NOW - 999 }),
      worker("waiting", { state: "wanted" }),
    ];
    const drained = (desired: number) => planned(fleet, { desired, max: 5 });
    expect(drained(5)).toEqual([]);
    expect(drained(4)).toEqual(["clear waiting"]);
    expect(drained(2)).toEqual(["clear waiting", "drain idle-long", "drain idle-short"]);
    expect(drained(0)).toEqual([
      "clear waiting",
      "drain idle-long",
      "drain idle-short",
      "drain starting",
      "drain busy",
    ]);
  });

  test("a drained worker is stopped when its jobs have ended, and killed after its grace", () => {
    const draining = (fields: Partial<FleetWorker>) =>
      planned([worker("a", { state: "draining", ...fields })]);
    expect(draining({ leases: 1 })).toEqual([]);
    expect(draining({})).toEqual(["stop a"]);
    expect(draining({ stopAskedAtMs: NOW - STOP_GRACE_MS })).toEqual([]);
    expect(draining({ stopAskedAtMs: NOW - STOP_GRACE_MS - 1 })).toEqual(["condemn a"]);
  });
});

describe("sleep (D15)", () => {
  const asleep = (id: string, forMs: number, fields: Partial<FleetWorker> = {}) =>
    worker(id, { state: "parked", parkedAtMs: NOW - forMs, ...fields });

  test("idle workers that are not needed sleep, longest idle first; busy ones end after their jobs", () => {
    const fleet = [
      worker("busy", { leases: 1 }),
      worker("short", { idleSinceMs: NOW - 10 }),
      worker("long", { idleSinceMs: NOW - 999 }),
    ];
    const at = (desired: number) => planned(fleet, { desired, sleeps: LADDER });
    expect(at(2)).toEqual(["park long frozen"]);
    expect(at(0)).toEqual(["park long frozen", "park short frozen", "drain busy"]);
  });

  test("the reason of a sleep says what ends it", () => {
    const [action] = planFleet(facts([worker("a")], { sleeps: LADDER }), NOW);
    expect(action).toEqual({
      kind: "park",
      workerId: "a",
      depth: "frozen",
      reason: "idle: frozen, the next job thaws it",
    });
  });

  test("one that was just woken stays up: its job is on the way", () => {
    const woken = (agoMs: number) => planned([worker("a", { wokenAtMs: NOW - agoMs })], { sleeps: FREEZES });
    expect(woken(SETTLE_MS - 1)).toEqual([]);
    expect(woken(SETTLE_MS)).toEqual(["park a frozen"]);
  });

  test("one that was just woken and has its job already does not end after it", () => {
    const woken = (agoMs: number) =>
      planned([worker("a", { leases: 1, idleSinceMs: null, wokenAtMs: NOW - agoMs })], { sleeps: FREEZES });
    expect(woken(SETTLE_MS - 1)).toEqual([]);
    expect(woken(SETTLE_MS)).toEqual(["drain a"]);
  });

  test("one that starts and is not needed ends: there is nothing in it to keep", () => {
    expect(planned([worker("a", { state: "starting" })], { sleeps: LADDER })).toEqual(["drain a"]);
    expect(planned([worker("a", { state: "wanted" })], { sleeps: LADDER })).toEqual(["clear a"]);
  });

  test("sleepers are woken before any is started, lightest sleep first, the last to fall asleep first", () => {
    const fleet = [
      asleep("deep", 5_000, { asleep: "stopped" }),
      asleep("early", 4_000),
      asleep("late", 3_000),
    ];
    const at = (desired: number) => planned(fleet, { desired, max: 4, sleeps: LADDER });
    expect(at(1)).toEqual(["wake late"]);
    expect(at(2)).toEqual(["wake late", "wake early"]);
    expect(at(4)).toEqual(["wake late", "wake early", "wake deep", "start release 1"]);
  });

  test("a crash backoff holds back starts, not sleepers", () => {
    const fleet = [asleep("a", 1)];
    const held = { desired: 2, sleeps: FREEZES, retryAtMs: NOW + 1 };
    expect(planned(fleet, held)).toEqual(["wake a"]);
  });

  test("sleep deepens step by step and ends; each depth has its time", () => {
    const at = (sleeps: FleetFacts["sleeps"], depth: "frozen" | "stopped", forMs: number) =>
      planned([asleep("a", forMs, { asleep: depth })], { sleeps });
    const both = SLEEP_MS.frozen + SLEEP_MS.stopped;
    expect(at(LADDER, "frozen", SLEEP_MS.frozen)).toEqual([]);
    expect(at(LADDER, "frozen", SLEEP_MS.frozen + 1)).toEqual(["park a stopped"]);
    expect(at(LADDER, "stopped", SLEEP_MS.frozen + 1)).toEqual([]);
    expect(at(LADDER, "stopped", both)).toEqual([]);
    expect(at(LADDER, "stopped", both + 1)).toEqual(["drain a"]);
    expect(at(FREEZES, "frozen", SLEEP_MS.frozen + 1), "where there is no deeper one").toEqual(["drain a"]);
  });

  test("where workers may no longer sleep, those asleep end", () => {
    expect(planned([asleep("a", 1)], { sleeps: [] })).toEqual(["drain a"]);
    expect(planned([asleep("a", 1, { asleep: "stopped" })], { sleeps: FREEZES })).toEqual(["drain a"]);
  });

  test("one that is needed is woken, not sent deeper, and not ended for its age", () => {
    const old = asleep("a", SLEEP_MS.frozen + 1);
    expect(planned([old], { desired: 1, sleeps: LADDER })).toEqual(["wake a"]);
    expect(planned([old], { desired: 1, sleeps: FREEZES })).toEqual(["wake a"]);
    expect(planned([old], { desired: 1, sleeps: [] }), "FlashBoot was switched off").toEqual(["wake a"]);
  });

  test("no more sleep than may be awake", () => {
    const fleet = ["a", "b", "c"].map((id) => asleep(id, 1));
    expect(planned(fleet, { max: 2, sleeps: FREEZES })).toHaveLength(1);
    expect(planned([...fleet, worker("up")], { desired: 1, max: 2, sleeps: FREEZES })).toHaveLength(2);
    expect(planned(fleet, { max: 3, sleeps: FREEZES })).toEqual([]);
  });
});

describe("paused", () => {
  test("idle workers sleep, busy ones are left to end their jobs and sleep then", () => {
    const fleet = [worker("busy", { leases: 1 }), worker("idle")];
    const paused = { paused: true, sleeps: FREEZES };
    expect(planned(fleet, paused)).toEqual(["park idle frozen"]);
    expect(planned([worker("busy")], paused)).toEqual(["park busy frozen"]);
  });

  test("where workers do not sleep, idle ones end", () => {
    expect(planned([worker("busy", { leases: 1 }), worker("idle")], { paused: true })).toEqual([
      "drain idle",
    ]);
  });
});

describe("a release that proves itself", () => {
  const proving = { provingRelease: 2, desired: 1 };

  test("gets one worker beside those that serve, at once", () => {
    const busy = worker("old", { leases: 1 });
    expect(planned([busy], { ...proving, max: 1 })).toEqual(["start release 2"]);
    expect(planned([], { ...proving, desired: 0 })).toEqual(["start release 2"]);
  });

  test.each(WORKER_STATES.filter((state) => state !== "gone"))(
    "gets no second one while its first is %s",
    (state) => {
      const stopAskedAtMs = state === "draining" ? NOW : null;
      const fleet = [worker("old"), worker("new", { state, release: 2, stopAskedAtMs })];
      expect(planned(fleet, proving)).not.toContain("start release 2");
    },
  );

  test("its worker is neither drained nor put to sleep, though nothing asks for it", () => {
    const fleet = [worker("old"), worker("new", { release: 2 })];
    expect(planned(fleet, { ...proving, sleeps: FREEZES })).toEqual([]);
  });

  test("those of a release that neither serves nor proves itself end, also asleep", () => {
    const fleet = [
      worker("first", { release: 1, state: "parked" }),
      worker("second", { release: 2 }),
      worker("third", { release: 3, state: "wanted" }),
      worker("live", { release: 4 }),
    ];
    const actions = planFleet(facts(fleet, { desired: 1, liveRelease: 4, sleeps: FREEZES }), NOW);
    expect(short(actions)).toEqual(["drain first", "drain second", "clear third"]);
    expect(actions[0]).toMatchObject({ reason: "release 4 serves instead" });
    const never = planFleet(facts([worker("a")], { liveRelease: NO_RELEASE }), NOW);
    expect(never).toEqual([{ kind: "drain", workerId: "a", reason: "its release failed" }]);
  });

  test("waits for room, and for a max above 0; not for the crash backoff of the release that serves", () => {
    expect(planned([], { ...proving, desired: 0, retryAtMs: NOW + 1 })).toEqual(["start release 2"]);
    expect(planned([], { ...proving, desired: 0, max: 0 })).toEqual([]);
    const full = ["a", "b"].map((id) => worker(id, { leases: 1 }));
    expect(planned(full, { provingRelease: 2, desired: 1, max: 1 })).not.toContain("start release 2");
  });

  test("proves itself also where none has served yet, and while the endpoint is paused", () => {
    expect(planned([], { provingRelease: 1, liveRelease: NO_RELEASE, desired: 2 })).toEqual([
      "start release 1",
    ]);
    expect(planned([], { ...proving, desired: 0, paused: true })).toEqual(["start release 2"]);
  });
});

describe("judgement", () => {
  const judged = (fields: Partial<FleetWorker>, given: Partial<FleetFacts> = {}) =>
    planFleet(facts([worker("a", fields)], { desired: 1, max: 1, ...given }), NOW);

  test("F-22 a silent worker is condemned, one that is parked need not speak", () => {
    expect(short(judged({ lastSeenMs: NOW - LEASE_MS }))).toEqual([]);
    expect(short(judged({ lastSeenMs: NOW - LEASE_MS - 1 }))).toEqual(["condemn a"]);
    const parked = judged({ state: "parked", lastSeenMs: 0, lastTakeMs: 0 }, { desired: 0, sleeps: FREEZES });
    expect(short(parked)).toEqual([]);
    const long = NOW - 10 * LEASE_MS;
    expect(short(judged({ lastTakeMs: NOW - LEASE_MS, idleSinceMs: long }))).toEqual([]);
    expect(short(judged({ lastTakeMs: NOW - LEASE_MS - 1, idleSinceMs: long }))).toEqual(["condemn a"]);
    // It asked for the job that it ended a moment ago, and that took ten minutes.
    expect(short(judged({ lastTakeMs: long, idleSinceMs: NOW - LEASE_MS }))).toEqual([]);
    expect(short(judged({ lastTakeMs: long, idleSinceMs: NOW - LEASE_MS - 1 }))).toEqual(["condemn a"]);
    expect(short(judged({ lastTakeMs: 0, leases: 1, idleSinceMs: null }))).toEqual([]);
  });

  test("F-22 one that slept is judged from its waking on", () => {
    const slept = { lastSeenMs: 0, lastTakeMs: 0, idleSinceMs: 0 };
    expect(short(judged({ ...slept, wokenAtMs: NOW - LEASE_MS }))).toEqual([]);
    expect(short(judged({ ...slept, wokenAtMs: NOW - LEASE_MS - 1 }))).toEqual(["condemn a"]);
  });

  test("one that does not come up is condemned with its deadline as the reason; a pull does not count", () => {
    const late = { state: "starting", bootedAtMs: NOW - 600_001 } as const;
    expect(judged(late)).toEqual([
      {
        kind: "condemn",
        workerId: "a",
        reason: "it did not ask for a job within the start timeout of 600 s",
      },
    ]);
    expect(short(judged({ ...late, bootedAtMs: NOW - 600_000 }))).toEqual([]);
    expect(short(judged({ ...late, bootedAtMs: null }))).toEqual([]);
  });

  test("nor is a second one of a release tried that proves itself: it fails with its first", () => {
    const given = { provingRelease: 2, desired: 1, max: 3 };
    expect(short(judged({ release: 2, lastSeenMs: 0 }, given))).toEqual(["condemn a", "start release 1"]);
  });

  test("a condemned worker holds its place until it is gone", () => {
    expect(short(judged({ lastSeenMs: 0 }))).toEqual(["condemn a"]);
    expect(short(judged({ lastSeenMs: 0 }, { max: 2 }))).toEqual(["condemn a", "start release 1"]);
  });

  test("a failed worker stays in view until its retry begins", () => {
    expect(short(judged({ state: "failed" }, { retryAtMs: NOW + 1 }))).toEqual([]);
    expect(short(judged({ state: "failed" }))).toEqual(["clear a", "start release 1"]);
  });
});

const PRESENT = WORKER_STATES.filter((state) => state !== "gone");
const anyWorker = (id: number): fc.Arbitrary<FleetWorker> =>
  fc
    .record({
      state: fc.constantFrom(...PRESENT),
      release: fc.constantFrom(1, 2, 3),
      leases: fc.nat(2),
      bootedAtMs: fc.constantFrom(null, NOW - 700_000, NOW - 1_000),
      lastSeenMs: fc.constantFrom(NOW - 2 * LEASE_MS, NOW),
      lastTakeMs: fc.constantFrom(NOW - 2 * LEASE_MS, NOW),
      wokenAtMs: fc.constantFrom(null, NOW - SETTLE_MS, NOW - 10),
      asleep: fc.constantFrom(...LADDER),
      sleptMs: fc.constantFrom(10, SLEEP_MS.frozen + 10, SLEEP_MS.frozen + SLEEP_MS.stopped + 10),
      idle: fc.nat(5_000),
    })
    .map(({ idle, asleep, sleptMs, ...fields }) => {
      const holds = fields.state === "ready" || fields.state === "draining";
      const leases = holds ? fields.leases : 0;
      const parked = fields.state === "parked";
      return worker(`w${id}`, {
        ...fields,
        leases,
        idleSinceMs: leases > 0 ? null : NOW - idle,
        asleep: parked ? asleep : null,
        parkedAtMs: parked ? NOW - sleptMs : null,
      });
    });
/** A release that proves itself has had one worker at most, and that one did not sleep. */
function asOneTester(each: FleetWorker, index: number, all: readonly FleetWorker[]): FleetWorker {
  if (each.release !== 3) return each;
  const isFirst = all.findIndex(({ release }) => release === 3) === index;
  return isFirst && each.state !== "parked" ? each : { ...each, release: 2 };
}
const anyFacts: fc.Arbitrary<FleetFacts> = fc
  .record({
    max: fc.integer({ min: 0, max: 4 }),
    wish: fc.nat(4),
    size: fc.nat(6),
    paused: fc.boolean(),
    liveRelease: fc.constantFrom(NO_RELEASE, 2),
    provingRelease: fc.constantFrom(null, 3),
    retryAtMs: fc.constantFrom(0, NOW + 1),
    sleeps: fc.constantFrom([], FREEZES, LADDER),
  })
  .chain(({ wish, size, ...given }) =>
    fc
      .tuple(...Array.from({ length: size }, (_, id) => anyWorker(id)))
      .map((workers) =>
        facts(workers.map(asOneTester), { ...given, desired: given.paused ? 0 : Math.min(wish, given.max) }),
      ),
  );

const NEXT_STATE = {
  drain: "draining",
  stop: null,
  condemn: "gone",
  clear: "gone",
  wake: "ready",
  park: "parked",
} as const;

describe("any fleet", () => {
  const present = (workers: readonly FleetWorker[]) =>
    workers.filter(({ state }) => state !== "failed").length;
  const starts = (actions: readonly FleetAction[], release: number) =>
    actions.filter((action) => action.kind === "start" && action.release === release).length;
  const property = (holds: (given: FleetFacts, actions: readonly FleetAction[]) => void) =>
    fc.assert(
      fc.property(anyFacts, (given) => holds(given, planFleet(given, NOW))),
      { numRuns: 2_000 },
    );
  const byId = ({ workers }: FleetFacts, id: WorkerId) => workers.find((each) => each.id === id);

  test("INV-5 starts never take the fleet above max, or one more while a release rolls", () => {
    property((given, actions) => {
      const count = starts(actions, given.liveRelease) + starts(actions, given.provingRelease ?? -1);
      const surge = given.max > 0 ? 1 : 0;
      if (count > 0) expect(present(given.workers) + count).toBeLessThanOrEqual(given.max + surge);
      const rolls =
        given.provingRelease !== null ||
        given.workers.some(({ release, state }) => release !== given.liveRelease && state !== "failed");
      if (count > 0 && !rolls) expect(present(given.workers) + count).toBeLessThanOrEqual(given.max);
    });
  });

  test("a release that proves itself has one worker, and none that is stopped for want of work", () => {
    property((given, actions) => {
      const { provingRelease, workers } = given;
      const begun = starts(actions, 3);
      if (provingRelease === null) expect(begun).toBe(0);
      const own = workers.filter(({ release }) => release === provingRelease);
      expect(begun).toBeLessThanOrEqual(own.length === 0 ? 1 : 0);
      const asked = actions.filter(
        (action) =>
          "workerId" in action &&
          own.some(({ id }) => id === action.workerId) &&
          (action.kind === "drain" || action.kind === "park"),
      );
      expect(asked).toEqual([]);
    });
  });

  test("each worker gets one action at most, one that the worker table allows", () => {
    property((given, actions) => {
      const named = actions.flatMap((action) => ("workerId" in action ? [action] : []));
      expect(new Set(named.map(({ workerId }) => workerId)).size).toBe(named.length);
      for (const action of named) {
        const { kind, workerId } = action;
        const { state = "gone", asleep } = byId(given, workerId) ?? {};
        const to = NEXT_STATE[kind];
        if (to === null) expect(state).toBe("draining");
        else if (kind === "park" && state === "parked") expect([asleep, action.depth]).toEqual(LADDER);
        else expect(canMove(state, to), `${state} ${kind}`).toBe(true);
      }
    });
  });

  test("F-42 a worker with a job is never stopped and never put to sleep", () => {
    property((given, actions) => {
      for (const action of actions)
        if (action.kind === "stop" || action.kind === "park")
          expect(byId(given, action.workerId)?.leases).toBe(0);
    });
  });

  test("no busy worker is drained while an idle one of the live release stays awake", () => {
    property((given, actions) => {
      const of = (...kinds: FleetAction["kind"][]) =>
        new Set(
          actions.flatMap((action) =>
            "workerId" in action && kinds.includes(action.kind) ? [action.workerId] : [],
          ),
        );
      const drained = of("drain");
      const leaving = of("drain", "park", "condemn");
      const settled = ({ wokenAtMs }: FleetWorker) => wokenAtMs === null || NOW - wokenAtMs >= SETTLE_MS;
      const live = given.workers.filter(
        ({ release, state }) => release === given.liveRelease && state === "ready",
      );
      const busyDrained = live.some(({ id, leases }) => leases > 0 && drained.has(id));
      const idleKept = live.some((each) => each.leases === 0 && settled(each) && !leaving.has(each.id));
      expect(busyDrained && idleKept).toBe(false);
    });
  });

  test("paused, nothing is started but for a release that proves itself, and no busy one is asked to go", () => {
    property((given, actions) => {
      if (!given.paused) return;
      expect(starts(actions, 2)).toBe(0);
      for (const action of actions)
        if (action.kind === "drain" && byId(given, action.workerId)?.release === given.liveRelease)
          expect(byId(given, action.workerId)?.leases).toBe(0);
    });
  });

  test("INV-8 carried out again and again, the fleet becomes what is wanted", () => {
    fc.assert(
      fc.property(anyFacts, (given) => {
        let nowMs = NOW;
        let workers = [...given.workers];
        for (let round = 0; round < 14; round += 1) {
          nowMs += STOP_GRACE_MS + 1;
          workers = workers.map((each) => liveOn(each, nowMs));
          for (const action of planFleet({ ...given, workers }, nowMs))
            workers = carryOut(workers, action, nowMs, `new${round}`);
        }
        expect(planFleet({ ...given, workers }, nowMs)).toEqual([]);
        const serves = given.liveRelease !== NO_RELEASE;
        const awake = workers.filter(
          ({ release, state }) => release === given.liveRelease && state === "ready",
        );
        expect(awake).toHaveLength(serves ? given.desired : 0);
        const testers = workers.filter(({ release }) => release === given.provingRelease);
        if (given.provingRelease !== null && given.max > 0) expect(testers).toHaveLength(1);
        expect(workers.length).toBeLessThanOrEqual(given.max + 1);
        const left = workers.filter(
          ({ release }) => release !== given.liveRelease && release !== given.provingRelease,
        );
        expect(left).toEqual([]);
      }),
      { numRuns: 1_000 },
    );
  });
});

/** What a worker does by itself meanwhile: jobs end, starts come up, those that spoke go on speaking. */
function liveOn(each: FleetWorker, nowMs: number): FleetWorker {
  const speaks = each.lastSeenMs >= NOW || each.state === "starting";
  return {
    ...each,
    state: each.state === "starting" || each.state === "wanted" ? "ready" : each.state,
    bootedAtMs: each.bootedAtMs ?? nowMs,
    leases: 0,
    idleSinceMs: each.idleSinceMs ?? nowMs,
    ...(speaks && { lastSeenMs: nowMs, lastTakeMs: nowMs }),
  };
}

let made = 0;

function carryOut(
  workers: readonly FleetWorker[],
  action: FleetAction,
  nowMs: number,
  name: string,
): FleetWorker[] {
  if (action.kind === "start") {
    made += 1;
    const times = { bootedAtMs: nowMs, idleSinceMs: nowMs, lastSeenMs: nowMs, lastTakeMs: nowMs };
    return [...workers, worker(`${name}-${made}`, { ...times, release: action.release })];
  }
  return workers.flatMap((each): FleetWorker[] => {
    if (each.id !== action.workerId) return [each];
    switch (action.kind) {
      case "drain":
        return [{ ...each, state: "draining" }];
      case "park":
        return [{ ...each, state: "parked", asleep: action.depth, parkedAtMs: each.parkedAtMs ?? nowMs }];
      case "wake":
        return [
          { ...each, state: "ready", asleep: null, parkedAtMs: null, wokenAtMs: nowMs, lastSeenMs: nowMs },
        ];
      default:
        return [];
    }
  });
}
