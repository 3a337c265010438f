import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { sanitizeLine } from "../../../src/text/sanitize.ts";
import { displayWidth, padEnd, padStart, truncate } from "../../../src/text/width.ts";

const cell = fc
  .string({
    unit: fc.oneof(
      fc.constantFrom("a", "世", "😀", "é", "e\u0301", "🇩🇪", "한"),
      fc.string({ unit: "binary", minLength: 1, maxLength: 1 }),
    ),
  })
  .map(sanitizeLine);

describe("displayWidth", () => {
  test.each([
    ["", 0],
    ["abc", 3],
    ["世界", 4],
    ["😀", 2],
    ["e\u0301", 1],
    ["…", 1],
  ])("%j takes %d columns", (text, width) => {
    expect(displayWidth(text)).toBe(width);
  });
});

describe("truncate", () => {
  test.each([
    ["hello", 5, "hello"],
    ["hello", 4, "hel…"],
    ["hello", 1, "…"],
    ["hello", 0, ""],
    ["hello", -1, ""],
    ["世界", 4, "世界"],
    ["世界", 3, "世…"],
    ["世界", 2, "…"],
    ["ae\u0301b", 3, "ae\u0301b"],
    ["e\u0301e\u0301e\u0301", 2, "e\u0301…"],
    ["", 3, ""],
  ])("%j in %d columns is %j", (text, width, shown) => {
    expect(truncate(text, width)).toBe(shown);
  });

  test("fits always, and changes nothing that fits", () => {
    fc.assert(
      fc.property(cell, fc.nat(20), (text, width) => {
        const shown = truncate(text, width);
        expect(displayWidth(shown)).toBeLessThanOrEqual(width);
        if (width > 0 && displayWidth(text) <= width) expect(shown).toBe(text);
        else if (width > 0) expect(text.startsWith(shown.slice(0, -1)) && shown.endsWith("…")).toBe(true);
      }),
      { numRuns: 2_000 },
    );
  });
});

describe("padding", () => {
  test("fills up to the width by columns, never cuts", () => {
    expect(padEnd("世", 4)).toBe("世  ");
    expect(padStart("7", 3)).toBe("  7");
    expect(padEnd("hello", 3)).toBe("hello");
    expect(padStart("hello", 3)).toBe("hello");
  });
});
