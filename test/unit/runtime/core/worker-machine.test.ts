import { describe, expect, test } from "vitest";
import { WORKER_STATES, type WorkerState } from "../../../../src/runtime/core/model.ts";
import { canMove, statesBefore, WORKER_TABLE } from "../../../../src/runtime/core/worker-machine.ts";

/** Rows: from, columns in the order of WORKER_STATES: to. Written by hand, so that a slip in the table shows. */
const EXPECTED: { readonly [State in WorkerState]: string } = {
  //         wanted starting ready parked draining failed gone
  wanted: "  .      x        .     .      x        .      x",
  starting: ".      .        x     .      x        x      x",
  ready: "   .      .        .     x      x        x      x",
  parked: "  .      x        x     .      x        .      x",
  draining: ".      .        .     .      .        .      x",
  failed: "  .      .        .     .      .        .      x",
  gone: "    .      .        .     .      .        .      .",
};

describe("every move of a worker", () => {
  for (const from of WORKER_STATES) {
    const allowed = EXPECTED[from].trim().split(/ +/);
    for (const [index, to] of WORKER_STATES.entries()) {
      const legal = allowed[index] === "x";
      test(`${from} -> ${to}: ${legal ? "allowed" : "refused"}`, () => {
        expect(allowed).toHaveLength(WORKER_STATES.length);
        expect(canMove(from, to)).toBe(legal);
        expect(statesBefore(to).includes(from)).toBe(legal);
      });
    }
  }

  test("INV-6 gone is the end, and nothing becomes wanted again", () => {
    expect(WORKER_TABLE.gone).toEqual([]);
    expect(statesBefore("wanted")).toEqual([]);
    expect(WORKER_TABLE.failed).toEqual(["gone"]);
  });

  test("F-42 no way leads from draining back to work", () => {
    const reached = new Set<WorkerState>(["draining"]);
    for (const from of reached) for (const to of WORKER_TABLE[from]) reached.add(to);
    expect([...reached].sort()).toEqual(["draining", "gone"]);
  });

  test("every state can be left for gone", () => {
    for (const from of WORKER_STATES.filter((state) => state !== "gone"))
      expect(canMove(from, "gone")).toBe(true);
  });
});
