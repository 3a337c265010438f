import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Claim, needsOf, type Resources, shortage } from "../../../../src/runtime/core/budget.ts";
import type { WorkerId, WorkerLimits } from "../../../../src/runtime/core/model.ts";

const GIB = 2 ** 30;
const TOTAL: Resources = { cpus: 8, memoryBytes: 16 * GIB, diskBytes: 100 * GIB };
const NO_LIMITS: WorkerLimits = { memoryBytes: null, cpus: null, pids: 512, shmBytes: null, diskBytes: null };

function claim(endpoint: string, needs: Partial<Resources> = {}, id = endpoint): Claim {
  return {
    workerId: id as WorkerId,
    endpoint,
    needs: { cpus: 0, memoryBytes: 0, diskBytes: 0, ...needs },
  };
}
const memory = (endpoint: string, gib: number, id = endpoint) =>
  claim(endpoint, { memoryBytes: gib * GIB }, id);

describe("what a worker needs", () => {
  test("is what it is limited to; without a limit nothing is counted", () => {
    expect(needsOf({ ...NO_LIMITS, memoryBytes: 4 * GIB, cpus: 2, diskBytes: GIB }, null)).toEqual({
      cpus: 2,
      memoryBytes: 4 * GIB,
      diskBytes: GIB,
    });
    expect(needsOf(NO_LIMITS, null)).toEqual({ cpus: 0, memoryBytes: 0, diskBytes: 0 });
  });

  test("a frozen one holds its memory, a stopped one only its disk", () => {
    const limits = { ...NO_LIMITS, memoryBytes: 4 * GIB, cpus: 2, diskBytes: GIB };
    expect(needsOf(limits, "frozen")).toEqual({ cpus: 0, memoryBytes: 4 * GIB, diskBytes: GIB });
    expect(needsOf(limits, "stopped")).toEqual({ cpus: 0, memoryBytes: 0, diskBytes: GIB });
  });
});

describe("a shortage", () => {
  test.each<[string, Claim, Claim[], string | null]>([
    ["none on an empty machine", memory("a", 16), [], null],
    ["none to the last byte", memory("a", 6), [memory("b", 10)], null],
    [
      "of memory",
      memory("a", 7),
      [memory("b", 10)],
      "waits for memory: needs 7 GiB, 6 GiB of 16 GiB are free; held by b (1 worker)",
    ],
    [
      "of CPUs",
      claim("a", { cpus: 2.5 }),
      [claim("b", { cpus: 6 })],
      "waits for CPU: needs 2.5, 2 of 8 are free; held by b (1 worker)",
    ],
    [
      "of disk",
      claim("a", { diskBytes: 60 * GIB }),
      [claim("b", { diskBytes: 50 * GIB })],
      "waits for disk: needs 60 GiB, 50 GiB of 100 GiB are free; held by b (1 worker)",
    ],
    [
      "the first of several",
      claim("a", { cpus: 9, memoryBytes: 20 * GIB }),
      [claim("b", { cpus: 1, memoryBytes: GIB })],
      "waits for memory: needs 20 GiB, 15 GiB of 16 GiB are free; held by b (1 worker)",
    ],
    ["none for who asks nothing of it", claim("a"), [memory("b", 16)], null],
    ["none where others hold something else", memory("a", 9), [claim("b", { cpus: 8 })], null],
    ["none for more than there is, alone", memory("a", 64), [claim("b", { cpus: 1 })], null],
    [
      "beside one that holds more than there is",
      memory("a", 1),
      [memory("b", 64)],
      "waits for memory: needs 1 GiB, 0 B of 16 GiB are free; held by b (1 worker)",
    ],
    [
      "who holds most is named first, three at most",
      memory("a", 12),
      [
        memory("b", 1),
        ...["c1", "c2"].map((id) => memory("c", 1, id)),
        memory("d", 1),
        memory("e", 1),
        claim("f", { cpus: 1 }),
      ],
      "waits for memory: needs 12 GiB, 11 GiB of 16 GiB are free; held by c (2 workers), b (1 worker), d (1 worker) and 1 more",
    ],
  ])("%s", (_, wanted, holders, sentence) => {
    expect(shortage(wanted, holders, TOTAL)).toBe(sentence);
  });

  const needs = fc.record({
    cpus: fc.constantFrom(0, 0.5, 1, 2, 4, 9),
    memoryBytes: fc.integer({ min: 0, max: 20 }).map((gib) => gib * GIB),
    diskBytes: fc.integer({ min: 0, max: 120 }).map((gib) => gib * GIB),
  });
  const waiting = fc.array(needs, { maxLength: 20 });
  const NAMES = ["cpus", "memoryBytes", "diskBytes"] as const;
  const used = (holders: readonly Claim[], name: keyof Resources) =>
    holders.reduce((sum, holder) => sum + holder.needs[name], 0);
  const admitted = (all: readonly Resources[]) => {
    const holders: Claim[] = [];
    for (const [index, each] of all.entries()) {
      const wanted = claim(`e${index}`, each);
      if (shortage(wanted, holders, TOTAL) === null) holders.push(wanted);
    }
    return holders;
  };

  test("those admitted one after another never hold more than there is, but one alone of what it holds", () => {
    fc.assert(
      fc.property(waiting, (all) => {
        const holders = admitted(all);
        for (const name of NAMES) {
          const users = holders.filter((holder) => holder.needs[name] > 0);
          if (users.length > 1) expect(used(users, name)).toBeLessThanOrEqual(TOTAL[name]);
        }
      }),
      { numRuns: 1_000 },
    );
  });

  test("who waits beside others fits once they are gone, and fewer holders never make it worse", () => {
    fc.assert(
      fc.property(waiting, needs, fc.nat(20), (all, own, drop) => {
        const holders = admitted(all);
        const wanted = claim("late", own);
        expect(shortage(wanted, [], TOTAL)).toBeNull();
        const fewer = holders.filter((_, index) => index !== drop);
        if (shortage(wanted, holders, TOTAL) === null) expect(shortage(wanted, fewer, TOTAL)).toBeNull();
      }),
      { numRuns: 1_000 },
    );
  });
});
