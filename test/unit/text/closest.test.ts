import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { closest } from "../../../src/text/closest.ts";

const KEYS = ["memory", "min", "max", "idle_timeout", "start_timeout", "execution_timeout", "count", "cuda"];

describe("closest", () => {
  test.each([
    ["memroy", "memory"],
    ["memmory", "memory"],
    ["Memory", "memory"],
    ["mni", "min"],
    ["mxa", "max"],
    ["idle-timeout", "idle_timeout"],
    ["idletimeout", "idle_timeout"],
    ["exec_timeout", null],
    ["executon_timout", "execution_timeout"],
    ["coutn", "count"],
    ["cdua", "cuda"],
    ["xyz", null],
    ["volume", null],
    ["", null],
  ])("%j means %j", (word, meant) => {
    expect(closest(word, KEYS)).toBe(meant);
  });

  test("the nearest wins, the first of equals", () => {
    expect(closest("worker", ["works", "workers", "worked"])).toBe("workers");
    expect(closest("abcd", [])).toBeNull();
  });

  test("finds a word after any one edit, a swap included", () => {
    const word = fc.string({ unit: fc.constantFrom("a", "b", "c", "d"), minLength: 4, maxLength: 12 });
    fc.assert(
      fc.property(word, fc.nat(), fc.constantFrom("drop", "add", "swap"), (meant, seed, edit) => {
        const at = seed % (meant.length - 1);
        const before = meant.slice(0, at);
        const [first = "", second = ""] = meant.slice(at, at + 2);
        const middle = { drop: second, add: `${first}x${second}`, swap: second + first }[edit];
        const typed = before + middle + meant.slice(at + 2);
        expect(closest(typed, ["zzzzzzzzzzzzzzzzzz", meant])).toBe(meant);
      }),
    );
  });

  test("T-05: a very long word costs nothing", () => {
    expect(closest("a".repeat(1_000_000), ["a".repeat(1_000_000)])).toBeNull();
  });
});
