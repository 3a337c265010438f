import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  admit,
  isIdle,
  leave,
  NO_REQUESTS,
  type RateLimit,
  type RateState,
} from "../../../../src/runtime/core/rate-limit.ts";

const LIMIT: RateLimit = { requests: 5, windowMs: 10_000, concurrent: 0 };

/** Asks at each moment; the moments that were let in. */
function admittedAt(limit: RateLimit, momentsMs: readonly number[]): number[] {
  let state: RateState = NO_REQUESTS;
  return momentsMs.filter((nowMs) => {
    const step = admit(state, limit, nowMs);
    state = leave(step.state);
    return step.admitted;
  });
}

describe("the window", () => {
  test("admits so many requests, then tells how long to wait, and the wait is enough", () => {
    let state: RateState = NO_REQUESTS;
    const remaining: number[] = [];
    for (let count = 0; count < 5; count += 1) {
      const step = admit(state, LIMIT, 1_000);
      expect(step).toMatchObject({ admitted: true, retryAfterSeconds: 0 });
      remaining.push(step.remaining);
      state = step.state;
    }
    expect(remaining).toEqual([4, 3, 2, 1, 0]);
    const refused = admit(state, LIMIT, 2_000);
    expect(refused).toMatchObject({ admitted: false, remaining: 0 });
    expect(refused.retryAfterSeconds).toBeGreaterThanOrEqual(9);
    expect(refused.retryAfterSeconds).toBeLessThanOrEqual(10);
    expect(admit(refused.state, LIMIT, 2_000 + refused.retryAfterSeconds * 1_000).admitted).toBe(true);
  });

  test("no stretch of the window's length ever holds more than the limit", () => {
    const gaps = fc.array(fc.integer({ min: 0, max: 4_000 }), { minLength: 1, maxLength: 200 });
    fc.assert(
      fc.property(fc.nat(1e9), gaps, (startMs, gaps) => {
        let nowMs = startMs;
        const admitted = admittedAt(
          LIMIT,
          gaps.map((gapMs) => (nowMs += gapMs)),
        );
        for (const [index, atMs] of admitted.entries()) {
          const sixth = admitted[index + LIMIT.requests];
          if (sixth !== undefined) expect(sixth - atMs).toBeGreaterThanOrEqual(LIMIT.windowMs);
        }
      }),
    );
  });

  test("a steady rate a little under the limit is never refused", () => {
    const moments = Array.from({ length: 500 }, (_, index) => 7_777 + index * 2_650);
    expect(admittedAt(LIMIT, moments)).toHaveLength(500);
  });

  test("a clock that stands still or a state of the past changes nothing", () => {
    expect(admittedAt(LIMIT, new Array<number>(50).fill(123))).toHaveLength(5);
  });
});

describe("concurrency", () => {
  const limit: RateLimit = { requests: 1_000, windowMs: 10_000, concurrent: 2 };

  test("admits so many at once and goes on when one leaves", () => {
    let state = admit(admit(NO_REQUESTS, limit, 0).state, limit, 0).state;
    const refused = admit(state, limit, 0);
    expect(refused).toMatchObject({ admitted: false, retryAfterSeconds: 1, remaining: 998 });
    state = leave(refused.state);
    expect(admit(state, limit, 0).admitted).toBe(true);
  });

  test("is idle when nothing runs and the window is empty", () => {
    const { state } = admit(NO_REQUESTS, limit, 0);
    expect(isIdle(state, limit, 60_000)).toBe(false);
    expect(isIdle(leave(state), limit, 1_000)).toBe(false);
    expect(isIdle(leave(state), limit, 60_000)).toBe(true);
  });
});
