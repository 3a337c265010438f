import type { Row } from "./lane.ts";
import type { ImageCheck } from "./power-loss.ts";

/** The kill table in Markdown, with a line of sums. */
export function killTable(rows: readonly Row[]): string {
  const head = [
    "point",
    "kills",
    "restart ms, median",
    "max",
    "lost",
    "doubled",
    "ran twice",
    "without cause",
  ];
  const sum: Row = {
    point: "all",
    kills: rows.reduce((total, { kills }) => total + kills, 0),
    missed: rows.reduce((total, { missed }) => total + missed, 0),
    restartsMs: rows.flatMap(({ restartsMs }) => restartsMs),
    lost: rows.flatMap(({ lost }) => lost),
    doubled: rows.flatMap(({ doubled }) => doubled),
    ranTwice: rows.reduce((total, { ranTwice }) => total + ranTwice, 0),
    unexplained: rows.flatMap(({ unexplained }) => unexplained),
  };
  return table(head, [...rows, sum].map(cells));
}

function cells({ point, kills, missed, restartsMs, lost, doubled, ranTwice, unexplained }: Row): string[] {
  const sorted = restartsMs.toSorted((one, other) => one - other);
  const ms = (value: number | undefined) => value?.toFixed(0) ?? "-";
  return [
    missed === 0 ? point : `${point} (${missed} did not fire)`,
    String(kills),
    ms(sorted[Math.floor(sorted.length / 2)]),
    ms(sorted.at(-1)),
    String(lost.length),
    String(doubled.length),
    String(ranTwice),
    String(unexplained.length),
  ];
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map((_, at) => (at === 0 ? "---" : "---:"))), ...rows.map(line)].join("\n");
}

export function powerTable(checks: readonly ImageCheck[]): string {
  const head = ["image", "accepted", "finished", "integrity", "lost jobs", "lost results"];
  const rows = checks.map(({ accepted, finished, integrity, lostJobs, lostResults }, at) =>
    [at + 1, accepted, finished, integrity, lostJobs.length, lostResults.length].map(String),
  );
  return table(head, rows);
}
