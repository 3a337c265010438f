import { describe, expect, test } from "vitest";
import { findAgain, isUsual, knownSeeds, MOST_SEEDS, plantedBugs, withPlanted } from "./planted.ts";
import { runSeeds } from "./run-seeds.ts";

const bugs = plantedBugs();
const known = knownSeeds();
const searched = bugs.filter((bug) => isUsual(bug) || bug in known);

describe("the simulator finds bugs that are planted into a copy of the sources", () => {
  test("the list of seeds has those of the usual kind, and of the found ones those that are reached", () => {
    const usual = bugs.filter(isUsual);
    expect(usual).toHaveLength(15);
    expect(Object.keys(known)).toEqual(searched);
    for (const bug of usual) expect(known[bug], bug).toBeLessThanOrEqual(MOST_SEEDS);
  });

  test.each(searched)("%s", { timeout: 400_000 }, async (bug) => {
    const { seed, check } = await findAgain(bug);
    console.log(`${bug}: seed ${seed}, ${check}`);
    if (seed === null) return expect.fail(`not found within ${MOST_SEEDS} seeds`);
    const without = await runSeeds({ from: seed, seeds: 1, threads: 1 });
    expect(without.failed, `seed ${seed} without the bug`).toEqual([]);
  });
});

// Today's worlds hardly reach them: a search would say nothing. Other tests guard them.
describe("a bug that was found and has no seed today", () => {
  test.each(bugs.filter((bug) => !searched.includes(bug)))("%s: its patch fits", (bug) =>
    withPlanted(bug, async () => {}),
  );
});
