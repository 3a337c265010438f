/** Measures one figure: pairs of both sides in turn, and the median of the pairs' ratios. */
import type { Figure, Row, Side } from "./figure.ts";
import { MAX_CV, measureNoise } from "./noise.ts";

export type RowResult = {
  readonly name: string;
  readonly unit: string;
  readonly better: Row["better"];
  readonly gate: number;
  readonly stretch: number;
  /** Medians over the pairs. */
  readonly rpx: number;
  readonly peer: number;
  readonly ratio: { readonly median: number; readonly min: number; readonly max: number };
  readonly reached: boolean;
  readonly pairs: readonly { readonly rpx: number; readonly peer: number }[];
};

export type FigureResult = {
  readonly id: string;
  readonly title: string;
  readonly peer: string;
  readonly limit: string;
  readonly rows: readonly RowResult[];
  /** Spread of a fixed loop before and after; over {@link MAX_CV} in either, the run does not count. */
  readonly noise: { readonly before: number; readonly after: number; readonly counts: boolean };
};

/** `say` is told each measurement as it ends. */
export async function runFigure(
  figure: Figure,
  pairs: number,
  say: (line: string) => void,
): Promise<FigureResult> {
  const before = measureNoise();
  const sides: Record<Side, (readonly number[])[]> = { rpx: [], peer: [] };
  for (let pair = 0; pair < pairs; pair += 1) {
    for (const side of ["rpx", "peer"] as const) {
      const values = await figure.measure(side);
      sides[side].push(values);
      say(`${figure.id} ${pair + 1}/${pairs} ${side}: ${values.map(round).join(", ")}`);
    }
  }
  const after = measureNoise();
  return {
    id: figure.id,
    title: figure.title,
    peer: figure.peer,
    limit: figure.limit,
    rows: figure.rows.map((row, at) => judge(row, column(sides.rpx, at), column(sides.peer, at))),
    noise: { before, after, counts: before <= MAX_CV && after <= MAX_CV },
  };
}

function column(values: readonly (readonly number[])[], at: number): number[] {
  return values.map((row) => row[at] ?? Number.NaN);
}

function judge(row: Row, rpx: readonly number[], peer: readonly number[]): RowResult {
  const ratios = rpx.map((value, pair) => value / (peer[pair] ?? Number.NaN));
  const ratio = { median: median(ratios), min: Math.min(...ratios), max: Math.max(...ratios) };
  return {
    ...row,
    rpx: median(rpx),
    peer: median(peer),
    ratio,
    reached: row.better === "higher" ? ratio.median >= row.gate : ratio.median <= row.gate,
    pairs: rpx.map((value, pair) => ({ rpx: value, peer: peer[pair] ?? Number.NaN })),
  };
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  const upper = sorted[Math.floor(middle)] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

/** Three digits, which is more than two shared cores can tell apart. */
export function round(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
