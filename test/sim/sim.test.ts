import { describe, expect, test } from "vitest";
import { reportCoverage } from "./coverage.ts";
import { type Plan, planOf } from "./plan.ts";
import { runSeeds } from "./run-seeds.ts";
import { shrink } from "./shrink.ts";

const FROM = Number(process.env.RPX_SEED ?? 1);
const SEEDS = 500;
/** Accepted jobs a seed, on average. */
const LEAST_JOBS = 100;
/** Seeds that are run twice. */
const REPEATED = 20;

describe("the services in a world that misbehaves", () => {
  test(`INV-1 to INV-8, INV-12: ${SEEDS} seeds of ${LEAST_JOBS} accepted jobs break nothing, and reach every row and fault`, {
    timeout: 1_200_000,
  }, async () => {
    // One thread: the other core runs other tests.
    const run = await runSeeds({ from: FROM, seeds: SEEDS, threads: 1 });
    const { rows, missing } = reportCoverage(run.counts);
    for (const [name, count] of rows) console.log(`${String(count).padStart(9)}  ${name}`);
    const rate = (SEEDS / run.seconds).toFixed(1);
    console.log(`${SEEDS} seeds from ${FROM}, ${run.jobs} jobs accepted, ${rate} seeds a second`);
    const broken = run.failed.map(({ seed, violations }) => ({
      replay: `npm run sim -- --from ${seed} --seeds 1`,
      check: violations[0]?.check,
      message: violations[0]?.message,
    }));
    expect(broken).toEqual([]);
    expect(run.jobs / SEEDS, "jobs accepted a seed").toBeGreaterThanOrEqual(LEAST_JOBS);
    expect(missing, "rows and faults that never occurred").toEqual([]);
  });

  test("the same seed gives the same trace, to the last event", { timeout: 120_000 }, async () => {
    const [one, other] = await Promise.all([
      runSeeds({ from: FROM, seeds: REPEATED, threads: 1 }),
      runSeeds({ from: FROM, seeds: REPEATED, threads: 1 }),
    ]);
    const digests = ({ outcomes }: typeof one) => outcomes.map(({ digest }) => digest);
    expect(digests(one)).toEqual(digests(other));
    expect(new Set(digests(one)).size).toBe(REPEATED);
  });
});

describe("coverage", () => {
  test("what never occurred is missing", () => {
    const { missing } = reportCoverage(new Map([["worker ready parked", 1]]));
    expect(missing).toContain("job IN_QUEUE take IN_PROGRESS");
    expect(missing).toContain("worker starting ready");
    expect(missing).toContain("fault power-cut");
    expect(missing).toContain("release proving failed");
    expect(missing).not.toContain("worker ready parked");
  });
});

describe("shrinking", () => {
  test("leaves what the failure needs: two steps and one kind of bad luck", async () => {
    const plan = planOf(FROM);
    const [first, last] = [plan.steps.at(3)?.id, plan.steps.at(-7)?.id];
    const lucky = { ...plan, weather: { ...plan.weather, "post-late": 0.1, "request-lost": 0.1 } };
    const fails = async ({ steps, weather }: Plan) =>
      [first, last].every((id) => steps.some((step) => step.id === id)) && weather["post-late"] > 0;
    const { plan: small } = await shrink(lucky, fails);
    expect(small.steps.map(({ id }) => id).sort()).toEqual([first, last].sort());
    expect(Object.entries(small.weather).filter(([, rate]) => rate > 0)).toEqual([["post-late", 0.1]]);
  });
});
