import { describe, expect, test } from "vitest";
import { createSimulatedRandom } from "../../../../src/runtime/adapters/simulated/random.ts";
import { createSystemRandom } from "../../../../src/runtime/adapters/system/random.ts";
import type { Random } from "../../../../src/runtime/ports/random.ts";

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

describe.each<[string, () => Random]>([
  ["system", createSystemRandom],
  ["simulated", () => createSimulatedRandom(42)],
])("%s random", (_, create) => {
  test("uuid is version 4 and does not repeat", () => {
    const random = create();
    const ids = Array.from({ length: 1_000 }, () => random.uuid());
    for (const id of ids) expect(id).toMatch(UUID);
    expect(new Set(ids).size).toBe(1_000);
  });

  test("text has the length and draws evenly from the alphabet", () => {
    const text = create().text(40_000, "abcd");
    expect(text).toMatch(/^[abcd]{40000}$/);
    for (const letter of "abcd") {
      expect(Math.abs(text.split(letter).length - 1 - 10_000)).toBeLessThan(600);
    }
  });

  test("fraction is in [0, 1) and spread", () => {
    const random = create();
    const all = Array.from({ length: 10_000 }, () => random.fraction());
    expect(Math.min(...all)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...all)).toBeLessThan(1);
    expect(all.reduce((sum, one) => sum + one, 0) / all.length).toBeCloseTo(0.5, 1);
  });
});

test("a seed replays its sequence, another gives another", () => {
  const draw = (seed: number) => {
    const random = createSimulatedRandom(seed);
    return [random.uuid(), random.text(10, "0123456789"), random.fraction()];
  };
  expect(draw(7)).toEqual(draw(7));
  expect(draw(7)).not.toEqual(draw(8));
});
