import { describe, expect, test } from "vitest";
import { findPlanted, knownSeeds, MOST_SEEDS, plantedBugs } from "./planted.ts";

describe("the simulator finds bugs that are planted into a copy of the sources", () => {
  const known = knownSeeds();

  test("the list of seeds has every bug, ten of the usual kind among them", () => {
    expect(Object.keys(known).sort()).toEqual(plantedBugs().sort());
    expect(plantedBugs().filter((bug) => bug.startsWith("planted/"))).toHaveLength(10);
    for (const [bug, seed] of Object.entries(known))
      expect(seed, `${bug}: the seeds that pass without it`).toBeLessThanOrEqual(MOST_SEEDS);
  });

  // Its own seed finds it at once; where the world has changed since, the others may.
  test.each(plantedBugs())("%s", { timeout: 400_000 }, async (bug) => {
    const from = known[bug] ?? 1;
    const first = await findPlanted(bug, { from, seeds: 1, threads: 1 });
    const finding = first.seed === null ? await findPlanted(bug) : first;
    console.log(`${bug}: seed ${finding.seed}, ${finding.check}`);
    expect(finding.seed, `not found within ${MOST_SEEDS} seeds`).not.toBeNull();
  });
});
