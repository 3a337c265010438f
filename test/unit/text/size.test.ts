import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatSize, parseSize } from "../../../src/text/size.ts";

describe("parseSize", () => {
  test.each([
    ["8GiB", 8 * 2 ** 30],
    ["512MiB", 512 * 2 ** 20],
    ["1.5GiB", 1.5 * 2 ** 30],
    ["24 GiB", 24 * 2 ** 30],
    ["50GB", 50e9],
    ["10MB", 10e6],
    ["10mb", 10e6],
    ["2KiB", 2_048],
    ["2kB", 2_000],
    ["1TiB", 2 ** 40],
    ["1024", 1_024],
    ["7B", 7],
    ["0", 0],
    [1_024, 1_024],
    [-0, 0],
  ])("reads %j as %d bytes", (text, bytes) => {
    expect(parseSize(text)).toBe(bytes);
  });

  test.each([
    "",
    "GiB",
    "8G",
    "8Gi",
    "8 gigs",
    "-1GiB",
    "1e3",
    "8GiB8GiB",
    "1,5GiB",
    "9999999TiB",
    "constructor",
    "1__proto__",
    -1,
    Number.NaN,
    Infinity,
  ])("refuses %j", (text) => {
    expect(parseSize(text)).toBeNull();
  });
});

describe("formatSize", () => {
  test.each([
    [0, "0 B"],
    [512, "512 B"],
    [1_023, "1023 B"],
    [1_024, "1 KiB"],
    [1_500_000, "1.4 MiB"],
    [10e6, "9.5 MiB"],
    [42 * 2 ** 30, "42 GiB"],
    [42.4 * 2 ** 30, "42 GiB"],
    [2 ** 20 - 1, "1 MiB"],
    [3 * 2 ** 60, "3072 PiB"],
    [-1, "-"],
    [Number.NaN, "-"],
  ])("shows %d as %s", (bytes, text) => {
    expect(formatSize(bytes)).toBe(text);
  });

  test("parseSize reads it back within what was rounded away", () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 2 ** 49 }), (bytes) => {
        const back = parseSize(formatSize(bytes)) ?? Number.NaN;
        expect(Math.abs(back - bytes)).toBeLessThanOrEqual(bytes * 0.051);
      }),
    );
  });
});
