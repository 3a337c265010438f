import { describe, expect, test } from "vitest";
import { createSystemClock } from "../../../../../src/runtime/adapters/system/clock.ts";

const HOUR_MS = 3_600_000;
const YEAR_MS = 365 * 24 * HOUR_MS;
const START_MS = 1_700_000_000_000;

/** A machine whose two clocks the test moves. */
function machine(newestStoredMs = 0) {
  const state = { wallMs: START_MS, monotonicMs: 5_000 };
  const source = { wallMs: () => state.wallMs, monotonicMs: () => state.monotonicMs };
  const clock = createSystemClock({ newestStoredMs, source });
  return {
    clock,
    /** Both clocks run on together. */
    pass(ms: number) {
      state.wallMs += ms;
      state.monotonicMs += ms;
    },
    /** Somebody sets the wall clock. */
    jump(ms: number) {
      state.wallMs += ms;
    },
  };
}

describe("nowMs", () => {
  test("starts at the wall clock, or past the newest stored time when that is not earlier", () => {
    expect(machine().clock.nowMs()).toBe(START_MS);
    expect(machine(START_MS + HOUR_MS).clock.nowMs()).toBe(START_MS + HOUR_MS + 1);
    expect(machine(START_MS).clock.nowMs()).toBe(START_MS + 1);
    expect(machine(START_MS - HOUR_MS).clock.nowMs()).toBe(START_MS);
  });

  test("is the wall clock while nobody sets it", () => {
    const { clock, pass } = machine();
    for (let step = 0; step < 100; step += 1) pass(1_234.5);
    expect(clock.nowMs()).toBe(START_MS + 123_450);
  });

  test.each([
    ["+1 h", HOUR_MS],
    ["-1 h", -HOUR_MS],
    ["+10 years", 10 * YEAR_MS],
    ["-10 years", -10 * YEAR_MS],
  ])("F-24 a jump of the wall clock by %s changes the time of ten minutes by 3 s at most", (_, jumpMs) => {
    const { clock, pass, jump } = machine();
    clock.nowMs();
    jump(jumpMs);
    expect(clock.nowMs()).toBe(START_MS);
    for (let second = 0; second < 600; second += 1) {
      pass(1_000);
      clock.nowMs();
    }
    expect(Math.abs(clock.nowMs() - START_MS - 600_000)).toBeLessThanOrEqual(3_000);
  });

  test("F-24 never runs backwards, whatever the wall clock does", () => {
    const { clock, pass, jump } = machine();
    let lastMs = clock.nowMs();
    for (let step = 0; step < 2_000; step += 1) {
      jump(((step * 7_919) % 5 === 0 ? -1 : 1) * ((step * 104_729) % YEAR_MS));
      pass((step * 31) % 1_500);
      const nowMs = clock.nowMs();
      expect(nowMs).toBeGreaterThanOrEqual(lastMs);
      lastMs = nowMs;
    }
  });

  test("F-24 one reading follows the wall clock by 60 s at most, after any silence", () => {
    const { clock, pass, jump } = machine();
    jump(10 * YEAR_MS);
    pass(30 * 24 * HOUR_MS);
    expect(clock.nowMs()).toBe(START_MS + 30 * 24 * HOUR_MS + 60_000);
  });

  test("follows the wall clock in the end, from both sides", () => {
    for (const jumpMs of [5_000, -5_000]) {
      const { clock, pass, jump } = machine();
      jump(jumpMs);
      for (let minute = 0; minute < 30; minute += 1) {
        pass(60_000);
        clock.nowMs();
      }
      expect(clock.nowMs()).toBe(START_MS + jumpMs + 1_800_000);
    }
  });
});

describe("sleep and endOfTurn", () => {
  const clock = createSystemClock({ newestStoredMs: 0 });

  test("sleep resolves after its time, and at once when the signal aborts", async () => {
    await clock.sleep(1);
    const stop = new AbortController();
    const asleep = clock.sleep(2 ** 40, stop.signal);
    stop.abort();
    await asleep;
    await clock.sleep(60_000, AbortSignal.abort());
  });

  test("endOfTurn runs after the promise reactions of the turn", async () => {
    const order: string[] = [];
    await new Promise<void>((resolve) => {
      clock.endOfTurn(() => {
        order.push("end");
        resolve();
      });
      queueMicrotask(() => order.push("reaction"));
    });
    expect(order).toEqual(["reaction", "end"]);
  });
});
