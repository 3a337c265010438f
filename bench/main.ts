/**
 * Measures rpx beside its peers: `npm run bench` for every figure, `npm run bench -- p6` for one. docs/performance.md says what the
 * figures are. Options: --pairs N, --json FILE, --table (keeps each result in docs/performance.json and writes the table of
 * docs/performance.md).
 */
import { spawnSync } from "node:child_process";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { machineFacts } from "./facts.ts";
import type { Figure } from "./figure.ts";
import { type FigureResult, runFigure } from "./run.ts";
import { keepResult, tableOf } from "./table.ts";

const ROOT = join(import.meta.dirname, "..");
const KEPT = { json: join(ROOT, "docs/performance.json"), document: join(ROOT, "docs/performance.md") };
const DEFAULT_PAIRS = 5;

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { pairs: { type: "string" }, json: { type: "string" }, table: { type: "boolean" } },
  });
  const pairs = Number(values.pairs ?? DEFAULT_PAIRS);
  if (!Number.isInteger(pairs) || pairs < 1) throw new Error("--pairs takes a whole number from 1 on");
  const figures = chosen(await loadFigures(), positionals);
  build();
  const facts = machineFacts();
  console.log(facts);
  const results = await runAll(figures, pairs, (result) => {
    if (values.table === true) keepResult(result, facts, KEPT);
  });
  console.log(`\n${tableOf(results)}`);
  if (values.json !== undefined) {
    writeFileSync(values.json, `${JSON.stringify({ facts, pairs, figures: results }, null, 2)}\n`);
  }
}

/** Every file of figures/, in the order of their numbers. */
async function loadFigures(): Promise<Figure[]> {
  const folder = join(import.meta.dirname, "figures");
  const modules = readdirSync(folder).map(
    (file) => import(join(folder, file)) as Promise<{ figure: Figure }>,
  );
  const figures = (await Promise.all(modules)).map(({ figure }) => figure);
  return figures.toSorted((a, b) => Number(a.id.slice(1)) - Number(b.id.slice(1)));
}

function chosen(figures: readonly Figure[], ids: readonly string[]): readonly Figure[] {
  const known = figures.map(({ id }) => id);
  const unknown = ids.filter((id) => !known.includes(id));
  if (unknown.length > 0) throw new Error(`no figure ${unknown.join(", ")}: there are ${known.join(", ")}`);
  return ids.length === 0 ? figures : figures.filter(({ id }) => ids.includes(id));
}

function build(): void {
  const { status } = spawnSync(process.execPath, [join(ROOT, "scripts/build.mjs")], { stdio: "inherit" });
  if (status !== 0) throw new Error("rpx was not built");
}

/** A figure that cannot be measured here is skipped aloud. */
async function runAll(
  figures: readonly Figure[],
  pairs: number,
  onResult: (result: FigureResult) => void,
): Promise<FigureResult[]> {
  const results: FigureResult[] = [];
  for (const figure of figures) {
    const missing = await figure.prepare();
    if (missing !== null) {
      console.log(`${figure.id} skipped: ${missing}`);
      continue;
    }
    const result = await runFigure(figure, pairs, console.log);
    onResult(result);
    results.push(result);
  }
  return results;
}

await main();
