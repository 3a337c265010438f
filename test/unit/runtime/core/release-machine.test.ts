import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { RELEASE_STATES, type ReleaseState } from "../../../../src/runtime/core/model.ts";
import {
  FIRST_RELEASE_STATES,
  RELEASE_TABLE,
  releaseStatesBefore,
} from "../../../../src/runtime/core/release-machine.ts";

/** Rows: from, columns in the order of RELEASE_STATES: to. Written by hand, so that a slip in the table shows. */
const EXPECTED: { readonly [State in ReleaseState]: string } = {
  //          building proving live superseded failed
  building: "   .        x      x      x         x",
  proving: "    .        .      x      x         x",
  live: "       .        .      .      x         .",
  superseded: " .        .      .      .         .",
  failed: "     .        .      .      .         .",
};
const next = (from: ReleaseState): readonly ReleaseState[] => RELEASE_TABLE[from];
const ENDED: readonly ReleaseState[] = ["superseded", "failed"];

describe("every move of a release", () => {
  for (const from of RELEASE_STATES) {
    const allowed = EXPECTED[from].trim().split(/ +/);
    for (const [index, to] of RELEASE_STATES.entries()) {
      const legal = allowed[index] === "x";
      test(`${from} -> ${to}: ${legal ? "allowed" : "refused"}`, () => {
        expect(allowed).toHaveLength(RELEASE_STATES.length);
        expect(next(from).includes(to)).toBe(legal);
        expect(releaseStatesBefore(to).includes(from)).toBe(legal);
      });
    }
  }

  test("no walk leaves an ended state, visits one twice, or goes on for ever", () => {
    const walk = fc.array(fc.nat(10), { maxLength: 20 });
    fc.assert(
      fc.property(fc.constantFrom(...FIRST_RELEASE_STATES), walk, (first, choices) => {
        const path: ReleaseState[] = [first];
        for (const choice of choices) {
          const ways = next(path.at(-1) as ReleaseState);
          if (ways.length === 0) break;
          path.push(ways[choice % ways.length] as ReleaseState);
        }
        expect(new Set(path).size).toBe(path.length);
        expect(path.slice(0, -1).filter((state) => ENDED.includes(state))).toEqual([]);
        // What has failed never served.
        if (path.includes("live")) expect(path).not.toContain("failed");
      }),
      { numRuns: 1_000 },
    );
  });

  test("nothing is built anew, and each state that has not ended can end", () => {
    expect(releaseStatesBefore("building")).toEqual([]);
    for (const state of RELEASE_STATES)
      expect(next(state).includes("superseded")).toBe(!ENDED.includes(state));
  });
});
