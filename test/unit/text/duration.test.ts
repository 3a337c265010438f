import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatDuration, parseDuration } from "../../../src/text/duration.ts";

describe("parseDuration", () => {
  test.each([
    ["5s", 5_000],
    ["10m", 600_000],
    ["1h30m", 5_400_000],
    ["250ms", 250],
    ["1s250ms", 1_250],
    ["2d", 172_800_000],
    ["7d", 604_800_000],
    ["366d", 31_622_400_000],
    ["1.5h", 5_400_000],
    ["0.3s", 300],
    ["0s", 0],
    [" 90 ", 90_000],
    ["90", 90_000],
    ["0.25", 250],
    ["1h 30m", 5_400_000],
    [300, 300_000],
    [0.1, 100],
    [0, 0],
    [-0, 0],
  ])("reads %j as %d ms", (text, ms) => {
    expect(parseDuration(text)).toBe(ms);
  });

  test.each([
    "",
    " ",
    "s",
    "-5s",
    "-1",
    "5 minutes",
    "5S",
    "30m1h",
    "5m5m",
    "1h-5m",
    "367d",
    "366d1ms",
    "1e3",
    "0x10",
    ".5s",
    "5.s",
    "Infinity",
    "NaN",
    "٥s",
    "5s\n5s",
    -1,
    366 * 86_400 + 1,
    Number.NaN,
    Number.POSITIVE_INFINITY,
  ])("refuses %j", (text) => {
    expect(parseDuration(text)).toBeNull();
  });

  test("T-05: refuses 50 KB of digits at once", () => {
    const startedAtMs = performance.now();
    expect(parseDuration("1".repeat(50_000))).toBeNull();
    expect(performance.now() - startedAtMs).toBeLessThan(100);
  });
});

describe("formatDuration", () => {
  test.each([
    [0, "0 ms"],
    [340, "340 ms"],
    [999.4, "999 ms"],
    [999.6, "1.0 s"],
    [4_200, "4.2 s"],
    [59_940, "59.9 s"],
    [59_960, "1m00s"],
    [192_000, "3m12s"],
    [3_599_600, "1h00m"],
    [7_500_000, "2h05m"],
    [86_399_000, "1d0h"],
    [273_600_000, "3d4h"],
    [-4_200, "-4.2 s"],
    [Number.NaN, "-"],
  ])("shows %d ms as %s", (ms, text) => {
    expect(formatDuration(ms)).toBe(text);
  });

  test("is short, and parseDuration reads it back within what was rounded away", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 365 * 86_400_000 }), (ms) => {
        const text = formatDuration(ms);
        const back = parseDuration(text);
        expect(text.length).toBeLessThanOrEqual(7);
        expect(back).not.toBeNull();
        expect(Math.abs((back ?? 0) - ms)).toBeLessThanOrEqual(Math.max(50, ms * 0.025));
      }),
    );
  });
});
