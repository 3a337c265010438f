/** The newest result of every figure, as docs/performance.json and as the table of docs/performance.md. */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type FigureResult, type RowResult, round } from "./run.ts";

const BEGIN = "<!-- bench: begin -->";
const END = "<!-- bench: end -->";
const HEAD = ["Figure", "rpx", "Peer", "Ratio (min-max)", "Pairs", "Gate", "Reached", "Physical limit"];

/** A result with the machine that it is of. */
type Kept = FigureResult & { readonly facts: string };

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
    String(row.pairs.length),
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

/** Keeps a result beside those of the other figures, and writes the table of them all. */
export function keepResult(
  result: FigureResult,
  facts: string,
  paths: { json: string; document: string },
): void {
  const kept: Record<string, Kept> = existsSync(paths.json)
    ? JSON.parse(readFileSync(paths.json, "utf8"))
    : {};
  kept[result.id] = { ...result, facts };
  writeFileSync(paths.json, `${JSON.stringify(kept, null, 2)}\n`);
  writeTable(
    paths.document,
    Object.values(kept).toSorted((a, b) => Number(a.id.slice(1)) - Number(b.id.slice(1))),
  );
}

/** Replaces what lies between the markers of a document, and lets the linter align it. */
function writeTable(path: string, results: readonly Kept[]): void {
  const text = readFileSync(path, "utf8");
  const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`${path} has no markers for the table`);
  const machines = Map.groupBy(results, ({ facts }) => facts);
  const said = [...machines].map(([facts, figures]) => {
    const which = machines.size > 1 ? `${figures.map(({ id }) => id.toUpperCase()).join(", ")}: ` : "";
    return `${which === "" ? "M" : `${which}m`}easured on ${facts}.`;
  });
  const middle = `${BEGIN}\n\n${said.join("\n")}\n\n${tableOf(results)}\n\n`;
  writeFileSync(path, text.slice(0, begin) + middle + text.slice(end));
  const biome = join(import.meta.dirname, "../node_modules/@biomejs/biome/bin/biome");
  spawnSync(process.execPath, [biome, "format", "--write", path], { stdio: "inherit" });
}
