import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { EndpointSettings } from "../../../../src/runtime/core/model.ts";
import {
  decide,
  INITIAL_SCALING,
  type LoadSample,
  type ScalingState,
} from "../../../../src/runtime/core/scaling.ts";
import { DEFAULT_SETTINGS } from "../../../../src/runtime/core/settings.ts";

const NOW_MS = 1_000_000;

type Change = {
  min?: number;
  max?: number;
  idleTimeoutMs?: number;
  by?: "queue-delay" | "request-count";
  threshold?: number;
};
function settings({ by = "queue-delay", threshold = 4, ...workers }: Change = {}): EndpointSettings {
  return {
    ...DEFAULT_SETTINGS,
    workers: { ...DEFAULT_SETTINGS.workers, ...workers },
    scale: { by, threshold, maxQueued: 0 },
  };
}

type Load = Partial<Omit<LoadSample, "workers">> & Partial<LoadSample["workers"]> & { oldestWaitMs?: number };
function load({ up = 0, starting = 0, idleSinceMs = [], perWorkerConcurrencyHint = 1, ...jobs }: Load = {}) {
  const { inQueueNormal = 0, inQueue = inQueueNormal, inProgress = 0, oldestWaitMs = 0 } = jobs;
  return {
    inQueueNormal,
    inQueue,
    inProgress,
    oldestQueuedAtMs: inQueueNormal === 0 ? null : NOW_MS - oldestWaitMs,
    workers: { up, starting, idleSinceMs, perWorkerConcurrencyHint },
  } satisfies LoadSample;
}

const decideNow = (sample: LoadSample, change?: Change, state: ScalingState = INITIAL_SCALING) =>
  decide(sample, settings(change), state, NOW_MS);

describe("queue-delay", () => {
  test.each<[string, Load, Change, ScalingState, number, string]>([
    ["nothing to do", {}, {}, INITIAL_SCALING, 0, "min is 0"],
    ["min workers without load", {}, { min: 2 }, INITIAL_SCALING, 2, "min is 2"],
    [
      "from zero at once",
      { inQueueNormal: 1 },
      {},
      INITIAL_SCALING,
      1,
      "1 job waiting and no worker up: wants 1",
    ],
    [
      "a short wait",
      { inQueueNormal: 5, oldestWaitMs: 4_000, up: 1 },
      {},
      INITIAL_SCALING,
      1,
      "oldest wait 4.0 s, within 4 s: keeps 1",
    ],
    [
      "a long wait doubles",
      { inQueueNormal: 9, oldestWaitMs: 12_000, up: 2 },
      { max: 10 },
      INITIAL_SCALING,
      4,
      "oldest wait 12.0 s > 4 s: wants 4",
    ],
    [
      "not above max",
      { inQueueNormal: 9, oldestWaitMs: 12_000, up: 2 },
      {},
      INITIAL_SCALING,
      3,
      "oldest wait 12.0 s > 4 s: wants 4, capped by max 3",
    ],
    [
      "not above what the backlog fills",
      { inQueueNormal: 1, oldestWaitMs: 5_000, up: 4 },
      { max: 10 },
      INITIAL_SCALING,
      5,
      "oldest wait 5.0 s > 4 s: wants 5",
    ],
    [
      "concurrent workers fill it faster",
      { inQueueNormal: 16, oldestWaitMs: 5_000, up: 4, perWorkerConcurrencyHint: 8 },
      { max: 10 },
      INITIAL_SCALING,
      6,
      "oldest wait 5.0 s > 4 s: wants 6",
    ],
    [
      "starting workers are counted on",
      { inQueueNormal: 1, oldestWaitMs: 30_000, up: 1, starting: 1 },
      {},
      INITIAL_SCALING,
      1,
      "oldest wait 30.0 s > 4 s, but 1 worker starting already: keeps 1",
    ],
    [
      "one step per interval",
      { inQueueNormal: 9, oldestWaitMs: 12_000, up: 2 },
      {},
      { raisedAtMs: NOW_MS - 3_999, raisedTo: 2 },
      2,
      "oldest wait 12.0 s > 4 s, but a worker was added less than 4 s ago: keeps 2",
    ],
    [
      "and the next one after it",
      { inQueueNormal: 9, oldestWaitMs: 12_000, up: 2 },
      { max: 10 },
      { raisedAtMs: NOW_MS - 4_000, raisedTo: 2 },
      4,
      "oldest wait 12.0 s > 4 s: wants 4",
    ],
    ["low priority never starts one", { inQueue: 50 }, {}, INITIAL_SCALING, 0, "min is 0"],
    [
      "low priority keeps one",
      { inQueue: 1, up: 1, idleSinceMs: [0] },
      {},
      INITIAL_SCALING,
      1,
      "1 job waiting: keeps 1",
    ],
    [
      "max 0 pauses",
      { inQueueNormal: 5, inProgress: 1, up: 1 },
      { max: 0 },
      INITIAL_SCALING,
      0,
      "max is 0: no workers",
    ],
    ["running jobs keep theirs", { inProgress: 2, up: 2 }, {}, INITIAL_SCALING, 2, "2 jobs running: keeps 2"],
    [
      "idle not long enough",
      { up: 1, idleSinceMs: [NOW_MS - 4_999] },
      {},
      INITIAL_SCALING,
      1,
      "no worker idle for long enough: keeps 1",
    ],
    [
      "the idle ones go, the busy one stays",
      { up: 3, inProgress: 1, idleSinceMs: [NOW_MS - 5_000, NOW_MS - 60_000] },
      {},
      INITIAL_SCALING,
      1,
      "2 workers idle for 5.0 s or longer: wants 1",
    ],
    [
      "but not below min",
      { up: 3, idleSinceMs: [0, 0, 0] },
      { min: 2 },
      INITIAL_SCALING,
      2,
      "3 workers idle for 5.0 s or longer: wants 2",
    ],
    ["min was raised", { up: 1, inProgress: 1 }, { min: 2 }, INITIAL_SCALING, 2, "min is 2"],
    [
      "from zero respects min",
      { inQueueNormal: 1 },
      { min: 2 },
      INITIAL_SCALING,
      2,
      "1 job waiting and no worker up: wants 1, raised to min 2",
    ],
  ])("%s", (_, sample, change, state, desired, reason) => {
    expect(decideNow(load(sample), change, state)).toMatchObject({ desired, reason });
  });
});

test("a raise stands while its workers do not exist yet, and the next one waits for them", () => {
  const waiting = load({ inQueueNormal: 20, oldestWaitMs: 12_000, up: 2 });
  const limits = settings({ max: 10 });
  const first = decide(waiting, limits, INITIAL_SCALING, NOW_MS);
  const again = decide(waiting, limits, first.state, NOW_MS + 50);
  expect([first.desired, again.desired]).toEqual([4, 4]);
  const started = { ...waiting, workers: { ...waiting.workers, up: 4, starting: 2 } };
  const paced = decide(started, limits, again.state, NOW_MS + 100);
  expect(paced).toMatchObject({ desired: 4, rule: "pacing", nextCheckMs: NOW_MS + 4_050 });
  expect(decide(started, limits, paced.state, NOW_MS + 4_050).desired).toBe(8);
});

describe("request-count", () => {
  const by = "request-count";
  test.each<[string, Load, Change, number, string]>([
    [
      "from zero to all that are wanted",
      { inQueueNormal: 9 },
      { by, max: 10 },
      3,
      "9 jobs waiting and no worker up: wants 3",
    ],
    [
      "waiting and running count",
      { inQueueNormal: 5, inProgress: 4, up: 1 },
      { by, max: 10 },
      3,
      "9 requests, 4 per worker: wants 3",
    ],
    [
      "capped",
      { inQueueNormal: 50, up: 1 },
      { by },
      3,
      "50 requests, 4 per worker: wants 13, capped by max 3",
    ],
    ["low priority starts none", { inQueue: 50 }, { by }, 0, "min is 0"],
    [
      "fewer requests: only idle ones go",
      { inProgress: 1, up: 3, idleSinceMs: [NOW_MS - 9_000] },
      { by },
      2,
      "1 worker idle for 5.0 s or longer: wants 2",
    ],
  ])("%s", (_, sample, change, desired, reason) => {
    expect(decideNow(load(sample), change)).toMatchObject({ desired, reason });
  });
});

describe("nextCheckMs", () => {
  test.each<[string, Load, Change, ScalingState, number | null]>([
    ["nothing can change by itself", { inProgress: 1, up: 1 }, {}, INITIAL_SCALING, null],
    [
      "the oldest wait will exceed the threshold",
      { inQueueNormal: 2, oldestWaitMs: 1_000, up: 1 },
      {},
      INITIAL_SCALING,
      NOW_MS + 3_001,
    ],
    [
      "the pace allows the next step",
      { inQueueNormal: 9, oldestWaitMs: 9_000, up: 1 },
      {},
      { raisedAtMs: NOW_MS - 1_000, raisedTo: 1 },
      NOW_MS + 3_000,
    ],
    [
      "the first idle timeout ends",
      { up: 2, idleSinceMs: [NOW_MS - 1_000, NOW_MS - 2_000] },
      {},
      INITIAL_SCALING,
      NOW_MS + 3_000,
    ],
    ["all are up already", { inQueueNormal: 9, oldestWaitMs: 1_000, up: 3 }, {}, INITIAL_SCALING, null],
  ])("%s", (_, sample, change, state, nextCheckMs) => {
    expect(decideNow(load(sample), change, state).nextCheckMs).toBe(nextCheckMs);
  });
});

// --- Properties -----------------------------------------------------------------------------------------

const change: fc.Arbitrary<Required<Change>> = fc
  .record({
    range: fc.tuple(fc.nat(20), fc.nat(20)),
    idleTimeoutMs: fc.integer({ min: 1_000, max: 60_000 }),
    by: fc.constantFrom("queue-delay" as const, "request-count" as const),
    threshold: fc.integer({ min: 1, max: 20 }),
  })
  .map(({ range, ...rest }) => ({ ...rest, min: Math.min(...range), max: Math.max(...range) }));

const anyLoad = fc
  .record({
    inQueueNormal: fc.nat(200),
    low: fc.nat(50),
    busy: fc.nat(30),
    starting: fc.nat(10),
    idleForMs: fc.array(fc.nat(120_000), { maxLength: 10 }),
    oldestWaitMs: fc.nat(60_000),
    perWorkerConcurrencyHint: fc.integer({ min: 1, max: 8 }),
  })
  .map(({ low, busy, idleForMs, ...rest }) =>
    load({
      ...rest,
      inQueue: rest.inQueueNormal + low,
      inProgress: busy,
      up: busy + rest.starting + idleForMs.length,
      idleSinceMs: idleForMs.map((idleMs) => NOW_MS - idleMs),
    }),
  );

describe("always", () => {
  test("INV-5 within min and max, the next check ahead, the reason a sentence with the number in it", () => {
    fc.assert(
      fc.property(anyLoad, change, (sample, change) => {
        const { desired, nextCheckMs, reason } = decideNow(sample, change);
        expect(desired).toBeGreaterThanOrEqual(change.min);
        expect(desired).toBeLessThanOrEqual(change.max);
        if (nextCheckMs !== null) expect(nextCheckMs).toBeGreaterThan(NOW_MS);
        expect(reason).toContain(String(desired));
      }),
    );
  });

  test("never fewer than hold jobs or start, as far as max allows", () => {
    fc.assert(
      fc.property(anyLoad, change, (sample, change) => {
        const needed = sample.workers.up - sample.workers.idleSinceMs.length;
        expect(decideNow(sample, change).desired).toBeGreaterThanOrEqual(Math.min(needed, change.max));
      }),
    );
  });

  test("low priority changes nothing upwards", () => {
    fc.assert(
      fc.property(anyLoad, change, fc.nat(500), (sample, change, more) => {
        const { up } = sample.workers;
        const raised = decideNow({ ...sample, inQueue: sample.inQueue + more }, change).desired;
        if (raised > up) expect(raised).toBe(decideNow(sample, change).desired);
      }),
    );
  });
});

/** A fleet that follows every decision, the longest idle worker going first: workers take `startMs` to start and hold one job for `jobMs`. */
function runFleet(
  change: Change,
  options: { jobMs: number; startMs: number; arrivals: (ms: number) => number; forMs: number },
) {
  const chosen = settings(change);
  const workers: { readyAtMs: number; freeAtMs: number }[] = [];
  const waiting: number[] = [];
  let state = INITIAL_SCALING;
  const desired: number[] = [];
  for (let nowMs = 0; nowMs < options.forMs; nowMs += 250) {
    for (let count = options.arrivals(nowMs); count > 0; count -= 1) waiting.push(nowMs);
    for (const worker of workers) {
      if (Math.max(worker.readyAtMs, worker.freeAtMs) > nowMs || waiting.length === 0) continue;
      waiting.shift();
      worker.freeAtMs = nowMs + options.jobMs;
    }
    const starting = workers.filter(({ readyAtMs }) => readyAtMs > nowMs).length;
    const idle = workers
      .filter((worker) => Math.max(worker.readyAtMs, worker.freeAtMs) <= nowMs)
      .sort(
        (one, other) => Math.max(one.readyAtMs, one.freeAtMs) - Math.max(other.readyAtMs, other.freeAtMs),
      );
    const step = decide(
      {
        inQueueNormal: waiting.length,
        inQueue: waiting.length,
        inProgress: workers.length - starting - idle.length,
        oldestQueuedAtMs: waiting[0] ?? null,
        workers: {
          up: workers.length,
          starting,
          idleSinceMs: idle.map((worker) => Math.max(worker.readyAtMs, worker.freeAtMs)),
          perWorkerConcurrencyHint: 1,
        },
      },
      chosen,
      state,
      nowMs,
    );
    state = step.state;
    desired.push(step.desired);
    while (workers.length < step.desired) workers.push({ readyAtMs: nowMs + options.startMs, freeAtMs: 0 });
    while (workers.length > step.desired) {
      const [longest] = idle.splice(0, 1);
      expect(longest, "a worker with a job had to go").toBeDefined();
      workers.splice(longest === undefined ? 0 : workers.indexOf(longest), 1);
    }
  }
  return { desired, waiting: waiting.length };
}

describe("a fleet that follows", () => {
  const fleet = fc.record({
    change: change.filter(({ max }) => max > 0),
    jobMs: fc.integer({ min: 250, max: 20_000 }),
    startMs: fc.integer({ min: 0, max: 30_000 }),
  });

  test("goes back to min when the load ends", () => {
    fc.assert(
      fc.property(fleet, fc.integer({ min: 1, max: 30 }), ({ change, ...rest }, burst) => {
        const { desired, waiting } = runFleet(change, {
          ...rest,
          arrivals: (ms) => (ms === 0 ? burst : 0),
          forMs: 30 * (rest.jobMs + 250) + 3 * rest.startMs + change.idleTimeoutMs + 30_000,
        });
        expect(waiting).toBe(0);
        expect(desired.at(-1)).toBe(change.min);
      }),
      { numRuns: 50 },
    );
  });

  test("does not oscillate under constant load", () => {
    fc.assert(
      fc.property(fleet, fc.integer({ min: 1, max: 8 }), ({ change, ...rest }, everyQuarters) => {
        const everyMs = everyQuarters * 250;
        const forMs = 600_000;
        const { desired } = runFleet(
          { ...change, idleTimeoutMs: 60_000 },
          { ...rest, arrivals: (ms) => (ms % everyMs === 0 ? 1 : 0), forMs },
        );
        const steps = desired.map((count, index) => count - (desired[index - 1] ?? count));
        const settled = steps.slice(steps.length / 2).filter((step) => step !== 0);
        const turns = settled.filter((step, index) => step * (settled[index - 1] ?? step) < 0).length;
        expect(turns).toBeLessThanOrEqual(1);
      }),
      { numRuns: 50 },
    );
  });
});
