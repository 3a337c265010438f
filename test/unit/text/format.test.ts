import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { formatAge, formatCount, formatTable } from "../../../src/text/format.ts";
import { displayWidth } from "../../../src/text/width.ts";

const COLUMNS = [{ title: "NAME" }, { title: "JOBS", align: "right" as const }, { title: "REASON" }];

describe("formatTable", () => {
  test("aligns by display width, without trailing spaces", () => {
    const rows = [["hello", "7", "ok"], ["世界", "1200", ""], ["x"]];
    expect(formatTable(COLUMNS, rows).split("\n")).toEqual([
      "NAME   JOBS  REASON",
      "hello     7  ok",
      "世界   1200",
      "x",
    ]);
  });

  test("cuts the last column to the width, and no other", () => {
    const rows = [["hello", "7", "needs 24 GiB of GPU memory"]];
    expect(formatTable(COLUMNS, rows, { width: 20 }).split("\n")).toEqual([
      "NAME   JOBS  REASON",
      "hello     7  needs …",
    ]);
    expect(formatTable(COLUMNS, rows, { width: 5 }).split("\n")).toEqual([
      "NAME   JOBS  …",
      "hello     7  …",
    ]);
    expect(formatTable(COLUMNS, rows, { width: 39 })).toContain("GPU memory");
  });

  test("T-18: a cell cannot break the table", () => {
    const table = formatTable(
      [{ title: "A" }, { title: "B" }],
      [["x\ny\u001b[2J\u202e", "\u001b]52;c;AAAA\u0007ok"]],
    );
    expect(table).toBe("A    B\nx y  ok");
  });

  test("has one line a row and keeps to the width when the other columns leave room", () => {
    const cell = fc.string({ unit: "binary", maxLength: 12 });
    fc.assert(
      fc.property(fc.array(fc.tuple(cell, cell)), (rows) => {
        const lines = formatTable([{ title: "A" }, { title: "B" }], rows, { width: 40 }).split("\n");
        expect(lines).toHaveLength(rows.length + 1);
        for (const line of lines) {
          expect(line).toBe(line.trimEnd());
          expect(displayWidth(line)).toBeLessThanOrEqual(40);
        }
      }),
    );
  });

  test("an empty list shows its titles", () => {
    expect(formatTable(COLUMNS, [])).toBe("NAME  JOBS  REASON");
  });
});

describe("formatAge", () => {
  test.each([
    [-5, "0s"],
    [12_900, "12s"],
    [59_999, "59s"],
    [60_000, "1m"],
    [300_000, "5m"],
    [3_600_000 * 3, "3h"],
    [86_399_999, "23h"],
    [86_400_000 * 2, "2d"],
  ])("shows %d ms as %s", (ms, text) => {
    expect(formatAge(ms)).toBe(text);
  });
});

describe("formatCount", () => {
  test.each([
    [0, "0"],
    [9_999, "9999"],
    [10_000, "10k"],
    [12_399, "12.3k"],
    [999_999, "999.9k"],
    [4_500_000, "4.5M"],
    [6_700_000_000, "6.7G"],
  ])("shows %d as %s", (count, text) => {
    expect(formatCount(count)).toBe(text);
  });
});
