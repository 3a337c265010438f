import { expect, test } from "vitest";
import type { Figure, Row, Side } from "../../../bench/figure.ts";
import { median, round, runFigure } from "../../../bench/run.ts";
import { tableOf } from "../../../bench/table.ts";

const ROW: Row = { name: "", unit: "jobs/s", better: "higher", gate: 0.5, stretch: 0.8 };

/** A figure that "measures" what it is told, in order. */
function figure(
  values: Record<Side, readonly (readonly number[])[]>,
  rows: readonly Row[],
  asked: Side[],
): Figure {
  return {
    id: "p0",
    title: "a test",
    peer: "the other",
    rows,
    limit: "none",
    prepare: async () => null,
    measure: async (side) => {
      const at = asked.filter((each) => each === side).length;
      asked.push(side);
      return values[side][at] ?? [];
    },
  };
}

test("the sides take turns, and the median of the pairs' ratios decides", async () => {
  const asked: Side[] = [];
  // The medians are 4 and 10; the ratios 0.1, 0.5 and 4.
  const values = { rpx: [[1], [4], [40]], peer: [[10], [8], [10]] };
  const result = await runFigure(figure(values, [ROW], asked), 3, () => {});
  expect(asked).toEqual(["rpx", "peer", "rpx", "peer", "rpx", "peer"]);
  expect(result.rows[0]).toMatchObject({
    rpx: 4,
    peer: 10,
    ratio: { median: 0.5, min: 0.1, max: 4 },
    reached: true,
  });
});

test("a latency reaches its gate from below, and each row has its own", async () => {
  const rows: Row[] = [
    { ...ROW, gate: 0.9 },
    { ...ROW, name: "p50", better: "lower", gate: 0.9 },
  ];
  const result = await runFigure(figure({ rpx: [[8, 8]], peer: [[10, 10]] }, rows, []), 1, () => {});
  expect(result.rows.map(({ reached }) => reached)).toEqual([false, true]);
});

test("a run on a noisy machine is shown as one that does not count", async () => {
  const result = await runFigure(figure({ rpx: [[9]], peer: [[10]] }, [ROW], []), 1, () => {});
  const noise = { before: 0.2, after: 0.01, counts: false };
  expect(tableOf([{ ...result, noise }])).toContain(
    "| 0.90 (0.90-0.90) | 1 | at least 0.5 | yes, but the machine was not quiet |",
  );
});

test("numbers", () => {
  expect([median([3, 1, 2]), median([4, 1, 2, 3])]).toEqual([2, 2.5]);
  expect([round(12_345.6), round(1.23456), round(0.98765)]).toEqual(["12346", "1.23", "0.988"]);
});
