/** The results as the table of docs/performance.md. */
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type FigureResult, type RowResult, round } from "./run.ts";

const BEGIN = "<!-- bench: begin -->";
const END = "<!-- bench: end -->";
const HEAD = ["Figure", "rpx", "Peer", "Ratio (min-max)", "Gate", "Reached", "Physical limit"];

export function tableOf(results: readonly FigureResult[]): string {
  const rows = results.flatMap((result) => result.rows.map((row) => cells(result, row)));
  return [HEAD, HEAD.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
}

function cells(result: FigureResult, row: RowResult): string[] {
  const name = row.name === "" ? "" : `: ${row.name}`;
  const { median, min, max } = row.ratio;
  return [
    `${result.id.toUpperCase()} ${result.title}${name}`,
    `${round(row.rpx)} ${row.unit}`,
    `${round(row.peer)} ${row.unit} (${result.peer})`,
    `${median.toFixed(2)} (${min.toFixed(2)}-${max.toFixed(2)})`,
    `${row.better === "higher" ? "at least" : "at most"} ${row.gate}`,
    verdict(result, row),
    result.limit,
  ];
}

/** A run on a machine that was not quiet is shown, and counts for nothing. */
function verdict({ noise }: FigureResult, row: RowResult): string {
  const reached = row.reached ? "yes" : "no";
  return noise.counts ? reached : `${reached}, but the machine was not quiet`;
}

/** Replaces what lies between the markers of a document, and lets the linter align it. */
export function writeTable(
  path: string,
  run: { readonly facts: string; readonly pairs: number; readonly results: readonly FigureResult[] },
): void {
  const text = readFileSync(path, "utf8");
  const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`${path} has no markers for the table`);
  const said = `Measured on ${run.facts}; ${run.pairs} pairs.`;
  const middle = `${BEGIN}\n\n${said}\n\n${tableOf(run.results)}\n\n`;
  writeFileSync(path, text.slice(0, begin) + middle + text.slice(end));
  const biome = join(import.meta.dirname, "../node_modules/@biomejs/biome/bin/biome");
  spawnSync(process.execPath, [biome, "format", "--write", path], { stdio: "inherit" });
}
