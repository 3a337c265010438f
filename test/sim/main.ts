/**
 * Runs the simulator over seeds: `npm run sim -- --seeds 10000 --from 1`.
 *
 *   --seeds N        how many (500)          --from K         the first (1)
 *   --threads N      cores to use (all)      --until-failure  stop at the first seed that fails
 *   --json           one JSON document instead of text, nothing shrunk
 *   --replay SEED    that seed alone, with all that happened; --keep IDS and --calm KINDS as a failure prints them
 */
import { parseArgs } from "node:util";
import { reportCoverage } from "./coverage.ts";
import { type Plan, planOf, WEATHER, type WeatherKind } from "./plan.ts";
import { runSeeds, type SeedOutcome, type SeedRun } from "./run-seeds.ts";
import { calm, keep, shrink } from "./shrink.ts";
import { simulate } from "./simulate.ts";

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "500" },
    from: { type: "string", default: "1" },
    threads: { type: "string" },
    "until-failure": { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    replay: { type: "string" },
    keep: { type: "string" },
    calm: { type: "string" },
  },
});
/** A line of progress after this many seeds. */
const PROGRESS_EVERY = 500;

process.exitCode = values.replay === undefined ? await runMany() : await replay(Number(values.replay));

async function runMany(): Promise<number> {
  const run = await runSeeds({
    from: Number(values.from),
    seeds: Number(values.seeds),
    untilFailure: values["until-failure"],
    ...(values.threads !== undefined && { threads: Number(values.threads) }),
    onOutcome: (outcome, done) => {
      if (values.json) return;
      for (const violation of outcome.violations.slice(0, 1)) say(outcome, violation);
      if (done % PROGRESS_EVERY === 0) console.error(`${done} seeds`);
    },
  });
  if (values.json) console.log(JSON.stringify(asDocument(run)));
  else await report(run);
  return run.failed.length > 0 ? 1 : 0;
}

function say({ seed }: SeedOutcome, { check, message }: SeedOutcome["violations"][number]): void {
  console.log(`seed ${seed} breaks ${check}: ${message}`);
}

function asDocument({ outcomes, failed, counts, jobs, seconds }: SeedRun) {
  return {
    seeds: outcomes.length,
    jobs,
    seconds,
    failed: failed.map(({ seed, violations }) => ({ seed, violations })),
    coverage: Object.fromEntries(counts),
  };
}

async function report(run: SeedRun): Promise<void> {
  const { rows, missing } = reportCoverage(run.counts);
  for (const [name, count] of rows) console.log(`${String(count).padStart(9)}  ${name}`);
  const { outcomes, failed, jobs, seconds } = run;
  const rate = (outcomes.length / seconds).toFixed(1);
  console.log(
    `${outcomes.length} seeds, ${jobs} jobs accepted, ${seconds.toFixed(0)} s: ${rate} seeds a second; ${failed.length} failed`,
  );
  if (missing.length > 0) console.log(`never occurred: ${missing.join(", ")}`);
  const [first] = failed;
  if (first) await explain(first);
}

/** Shrinks what failed, and prints how to see it again. */
async function explain({ seed, violations }: SeedOutcome): Promise<void> {
  const check = violations[0]?.check ?? "";
  const plan = planOf(seed);
  const fails = async (candidate: Plan) =>
    (await simulate(candidate)).violations.some((violation) => violation.check === check);
  const { plan: small, runs } = await shrink(plan, fails);
  console.log(
    `\nseed ${seed} shrunk from ${plan.steps.length} to ${small.steps.length} steps in ${runs} runs:`,
  );
  for (const { id, atMs, act } of small.steps) console.log(`  ${id} at ${atMs} ms: ${JSON.stringify(act)}`);
  const calmed = WEATHER.filter((kind) => plan.weather[kind] > 0 && small.weather[kind] === 0);
  const ids = small.steps.map(({ id }) => id).join(",");
  const calmly = calmed.length > 0 ? ` --calm ${calmed.join(",")}` : "";
  console.log(`replay: npm run sim -- --replay ${seed} --keep "${ids}"${calmly}`);
}

async function replay(seed: number): Promise<number> {
  const whole = planOf(seed);
  const kept = values.keep === undefined ? whole : keep(whole, values.keep.split(",").map(Number));
  const plan = values.calm === undefined ? kept : calm(kept, values.calm.split(",") as WeatherKind[]);
  const outcome = await simulate(plan, { keepLines: Number.MAX_SAFE_INTEGER });
  for (const line of outcome.lines) console.log(line);
  console.log(`digest ${outcome.digest}, ${outcome.jobs} jobs, ${outcome.virtualMs} ms of virtual time`);
  for (const { check, message } of outcome.violations) console.log(`broken: ${check}: ${message}`);
  return outcome.violations.length > 0 ? 1 : 0;
}
