/**
 * The kill lane as a program: as many points as one likes, and the kill table as the answer.
 *
 *   npm run kill -- [--every 10] [--occurrences 10] [--images 50] [--only named,calls,power] [--json]
 */
import { parseArgs } from "node:util";
import { missingForDisks } from "./disk.ts";
import { callPoints, countScript, namedPoint, otherEnds, type Row, runPoints } from "./lane.ts";
import { namedPoints } from "./points.ts";
import { type ImageCheck, losePower } from "./power-loss.ts";
import { killTable, powerTable } from "./report.ts";
import { hasStrace } from "./strace.ts";
import { startWorld, type World } from "./world.ts";

const LANES = ["named", "calls", "power"];
const EXIT_FOUND = 1;
const EXIT_USAGE = 2;

const { values } = parseArgs({
  options: {
    /** System calls between two kills. */
    every: { type: "string", default: "50" },
    /** Commits of each kind, from the first on. */
    occurrences: { type: "string", default: "10" },
    /** Images of a power cut with syncs; a fifth as many without. */
    images: { type: "string", default: "10" },
    only: { type: "string", default: LANES.join(",") },
    json: { type: "boolean", default: false },
  },
});

const lanes = values.only.split(",");
const rows: Row[] = [];
const problems: string[] = [];
const power: { full: ImageCheck[]; normal: ImageCheck[] } = { full: [], normal: [] };

function tell(text: string): void {
  process.stderr.write(`${text}\n`);
}

function whole(name: "every" | "occurrences" | "images"): number {
  const value = Number(values[name]);
  if (Number.isInteger(value) && value > 0) return value;
  tell(`--${name} takes a whole number above 0`);
  process.exit(EXIT_USAGE);
}

async function kill(world: World): Promise<void> {
  if (lanes.includes("named")) {
    const occurrences = Array.from({ length: whole("occurrences") }, (_, at) => at + 1);
    rows.push(...(await runPoints(world, namedPoints(occurrences).map(namedPoint), tell)));
  }
  if (lanes.includes("calls")) {
    const { main, others } = await countScript(world);
    tell(
      `calls of one script: ${JSON.stringify([...main])}, of other threads: ${JSON.stringify([...others])}`,
    );
    rows.push(...(await runPoints(world, callPoints(main, whole("every")), tell)));
  }
  problems.push(...otherEnds(world));
}

async function cutPower(): Promise<void> {
  const images = whole("images");
  power.full.push(...(await losePower({ images, normal: false })));
  power.normal.push(...(await losePower({ images: Math.ceil(images / 5), normal: true })));
  if (power.normal.every(({ lostJobs }) => lostJobs.length === 0))
    problems.push("without syncs no image lost a job: the images prove nothing");
}

function collectProblems(): void {
  for (const { point, missed, lost, doubled, unexplained } of rows) {
    if (missed > 0) problems.push(`${point}: ${missed} points did not fire`);
    problems.push(...[...lost, ...doubled, ...unexplained].map((each) => `${point}: ${each}`));
  }
  for (const { integrity, lostJobs, lostResults } of power.full) {
    if (integrity !== "ok") problems.push(`an image: ${integrity}`);
    problems.push(...[...lostJobs, ...lostResults].map((id) => `an image: ${id} is lost`));
  }
}

function report(): string {
  if (values.json) return JSON.stringify({ rows, power, problems }, null, 2);
  const { full, normal } = power;
  return [
    ...(rows.length > 0 ? [killTable(rows)] : []),
    ...(full.length > 0
      ? ["Power loss, FULL:", powerTable(full), "Power loss, NORMAL:", powerTable(normal)]
      : []),
    ...problems,
  ].join("\n\n");
}

const missing = [
  ...(lanes.includes("calls") && !hasStrace() ? ["strace"] : []),
  ...(lanes.includes("power") ? missingForDisks() : []),
];
if (missing.length > 0) {
  tell(`without ${missing.join(", ")}: choose lanes with --only ${LANES.join(",")}`);
  process.exit(EXIT_USAGE);
}
if (lanes.includes("named") || lanes.includes("calls")) {
  const world = await startWorld();
  await kill(world).finally(world.close);
}
if (lanes.includes("power")) await cutPower();
collectProblems();
process.stdout.write(`${report()}\n`);
process.exitCode = problems.length === 0 ? 0 : EXIT_FOUND;
