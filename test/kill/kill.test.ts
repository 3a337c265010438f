import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RealDaemon } from "../support/real-daemon.ts";
import { callPoints, countScript, namedPoint, otherEnds, type Point, type Row, runPoints } from "./lane.ts";
import { arm, namedPoints } from "./points.ts";
import { killTable } from "./report.ts";
import { runScript } from "./script.ts";
import { hasStrace } from "./strace.ts";
import { startWorld, type World } from "./world.ts";

/** A sample: `npm run kill` takes more. Which commits of each kind, and how many system calls lie between two kills. */
const OCCURRENCES = [1, 12];
const EVERY = 120;

const canTrace = hasStrace();
if (!canTrace) console.warn("kill.test.ts kills at no system call: strace is missing, or may not trace");

let world: World;

beforeAll(async () => {
  world = await startWorld();
});
afterAll(() => world?.close());

/** Process ids of all workers. */
async function workerPids(daemon: RealDaemon): Promise<string[]> {
  const workers = (await daemon.call("GET", "/api/workers")).json<{ container: string }[]>();
  return workers.map(({ container }) => container).sort();
}

async function killAll(points: readonly Point[]): Promise<readonly Row[]> {
  const before = await workerPids(world.daemon);
  const rows = await runPoints(world, points);
  console.log(killTable(rows));
  expect(await workerPids(world.daemon), "the same workers").toEqual(before);
  expect(otherEnds(world), "no end but by a kill").toEqual([]);
  return rows;
}

function expectKept(rows: readonly Row[], points: readonly Point[]): void {
  expect(
    rows.reduce((sum, { kills }) => sum + kills, 0),
    "every point fired",
  ).toBe(points.length);
  for (const { point, lost, doubled, unexplained } of rows)
    expect({ point, lost, doubled, unexplained }).toEqual({ point, lost: [], doubled: [], unexplained: [] });
}

describe("the script of 50 jobs, and the daemon child killed in it", () => {
  test("F-01 to F-06, ACC-03: before and after the commit of enqueue, take, result and webhook", {
    timeout: 300_000,
  }, async () => {
    const points = namedPoints(OCCURRENCES).map(namedPoint);
    expectKept(await killAll(points), points);
  });

  test.skipIf(canTrace || process.env.CI !== "true")("CI has strace", () => {
    expect(canTrace).toBe(true);
  });

  test.skipIf(!canTrace)("ACC-03: in front of write-class system calls", { timeout: 300_000 }, async () => {
    const { main, others } = await countScript(world);
    console.log(
      "calls of the main thread",
      Object.fromEntries(main),
      "of others",
      Object.fromEntries(others),
    );
    const points = callPoints(main, EVERY);
    expectKept(await killAll(points), points);
  });

  test("finds a job whose commit never was", { timeout: 180_000 }, async () => {
    // The first: no take or result of another job is in it yet.
    arm(world.killDir, { commit: "enqueue", side: "instead", occurrence: 1 });
    const { lost } = await runScript(world);
    expect(lost).toContainEqual(expect.stringContaining("is not there"));
  });
});
