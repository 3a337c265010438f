import { describe, expect, test } from "vitest";
import { type CrashState, crashed, NO_CRASHES } from "../../../../src/runtime/core/crash-backoff.ts";

/** Pauses in seconds after each of a row of crashes. */
function pauses(hadWorked: boolean, count: number): number[] {
  let state: CrashState = NO_CRASHES;
  return Array.from({ length: count }, (_, index) => {
    const nowMs = 1_000_000 * index;
    state = crashed(state, hadWorked, nowMs);
    return (state.retryAtMs - nowMs) / 1_000;
  });
}

describe("crash backoff", () => {
  test("F-13 a worker that never worked: 10 s, doubling to 300 s", () => {
    expect(pauses(false, 8)).toEqual([10, 20, 40, 80, 160, 300, 300, 300]);
  });

  test("one that had worked is replaced at once three times", () => {
    expect(pauses(true, 10)).toEqual([0, 0, 0, 10, 20, 40, 80, 160, 300, 300]);
  });

  test("no number of failures makes the pause longer, or no number", () => {
    for (const failures of [100, 1_023, 1_100, 1_000_000]) {
      expect(crashed({ failures, retryAtMs: 0 }, false, 7)).toEqual({
        failures: failures + 1,
        retryAtMs: 300_007,
      });
    }
  });

  test("F-34 no more than 40 starts in ten minutes", () => {
    let state = NO_CRASHES;
    let nowMs = 0;
    let starts = 0;
    while (nowMs < 600_000) {
      starts += 1;
      state = crashed(state, true, nowMs);
      nowMs = Math.max(nowMs + 1, state.retryAtMs);
    }
    expect(starts).toBeLessThanOrEqual(40);
  });
});
