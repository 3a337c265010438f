import { describe, expect, test } from "vitest";
import {
  type EndpointId,
  WORKER_STATES,
  type Worker,
  type WorkerId,
  type WorkerState,
} from "../../../../src/runtime/core/model.ts";
import { countWorkers, type ShownWorkerState, shownState } from "../../../../src/runtime/core/worker-view.ts";

function worker(state: WorkerState, release = 1): Worker {
  return {
    id: `w-${state}` as WorkerId,
    endpointId: "e" as EndpointId,
    release,
    pool: "process",
    state,
    reason: "because",
    createdAtMs: 1,
    readyAtMs: null,
    endedAtMs: null,
    handle: null,
    phase: null,
    bootedAtMs: null,
    asleep: null,
    parkedAtMs: null,
    exit: null,
  };
}

/** Stored state -> shown: without a lease, with one, and with one on an older release. */
const SHOWN: { readonly [State in WorkerState]: readonly ShownWorkerState[] } = {
  wanted: ["throttled", "throttled", "throttled"],
  starting: ["initializing", "initializing", "initializing"],
  ready: ["idle", "running", "outdated"],
  parked: ["idle", "idle", "idle"],
  draining: ["idle", "running", "outdated"],
  failed: ["unhealthy", "unhealthy", "unhealthy"],
  gone: ["gone", "gone", "gone"],
};

describe("shown state", () => {
  for (const state of WORKER_STATES) {
    const [idle, leased, outdated] = SHOWN[state];
    test(`${state}: ${idle}, ${leased} with a lease, ${outdated} when of an older release`, () => {
      expect(shownState(worker(state), 0, 1)).toBe(idle);
      expect(shownState(worker(state), 1, 1)).toBe(leased);
      expect(shownState(worker(state), 1, 2)).toBe(outdated);
      expect(shownState(worker(state), 1, null)).toBe(leased);
    });
  }
});

describe("counts", () => {
  test("each worker counts once, gone ones do not, ready follows idle", () => {
    const fleet = [
      ...WORKER_STATES.map((state) => ({ worker: worker(state), leases: 0 })),
      { worker: worker("ready", 0), leases: 2 },
    ];
    expect(countWorkers(fleet)).toEqual({
      idle: 3,
      ready: 3,
      running: 1,
      initializing: 1,
      throttled: 1,
      unhealthy: 1,
    });
  });

  test("nothing to count", () => {
    expect(countWorkers([])).toEqual({
      idle: 0,
      ready: 0,
      running: 0,
      initializing: 0,
      throttled: 0,
      unhealthy: 0,
    });
  });
});
