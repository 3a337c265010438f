import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { makeKey } from "../../../../src/runtime/core/key-format.ts";
import { createRedactor } from "../../../../src/runtime/core/redaction.ts";

const PEM = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEF\nAAA=\n-----END KEY-----\n";

test.each([
  ["hunter2", "token is hunter2, hunter2!", "token is [redacted], [redacted]!"],
  ["hunter2", "HUNTER2 and hunter 2 are others", "HUNTER2 and hunter 2 are others"],
  ["abcd", "abcd", "[redacted]"],
  // Three characters are too few to look for.
  ["abc", "abc", "abc"],
  ["two\nlines of it", 'said "two\\nlines of it"', 'said "[redacted]"'],
  ["two\nlines of it", "lines of it", "[redacted]"],
  ['a "quoted" \\ one', '{"message":"a \\"quoted\\" \\\\ one"}', '{"message":"[redacted]"}'],
  ["pässwörd", '{"m":"p\\u00e4ssw\\u00f6rd"} pässwörd', '{"m":"[redacted]"} [redacted]'],
  ["😀secret", '"\\ud83d\\ude00secret"', '"[redacted]"'],
  ["token\n", "token", "[redacted]"],
  [PEM, "-----BEGIN KEY-----", "[redacted]"],
  [PEM, "  hkiG9w0BAQEF", "  [redacted]"],
  [PEM, JSON.stringify({ pem: PEM }), '{"pem":"[redacted]"}'],
  // Short lines of a long secret stay.
  [PEM, "AAA=", "AAA="],
  ["$&$1", "is $&$1", "is [redacted]"],
  ["", "nothing", "nothing"],
])("%j in %j: %j", (secret, text, shown) => {
  expect(createRedactor([secret])(text)).toBe(shown);
});

test("of two secrets, one of which holds the other, nothing is left of either", () => {
  const text = "hunter2-and-more hunter2";
  for (const values of [
    ["hunter2", "hunter2-and-more"],
    ["hunter2-and-more", "hunter2"],
  ])
    expect(createRedactor(values)(text)).toBe("[redacted] [redacted]");
});

test("keys of rpx go without being known", () => {
  const redact = createRedactor([]);
  for (const kind of ["client", "admin", "worker"] as const)
    expect(redact(`Authorization: ${makeKey(kind, "x".repeat(40))};`)).toBe("Authorization: [redacted];");
  expect(redact("rpxk_short stays, and so does rpx itself")).toBe("rpxk_short stays, and so does rpx itself");
});

describe("a line that was cut", () => {
  const note = " [line cut: 12 bytes dropped]";
  test.each([
    [`token hunt${note}`, `token [redacted]${note}`],
    [`token hun${note}`, `token hun${note}`],
    [`token hunter${note}`, `token [redacted]${note}`],
    [`hunter2 ${note}`, `[redacted] ${note}`],
    ["token hunt", "token hunt"],
  ])("%j: %j", (text, shown) => {
    expect(createRedactor(["hunter2"])(text)).toBe(shown);
  });
});

test("no secret of a line's length or more is left, raw or as JSON", () => {
  const secret = fc.string({ minLength: 4, unit: "grapheme" }).filter((text) => text.trim().length >= 4);
  fc.assert(
    fc.property(secret, fc.string(), fc.string(), (value, before, after) => {
      const redact = createRedactor([value]);
      for (const spelling of [value, JSON.stringify(value)]) {
        const shown = redact(`${before}${spelling}${after}`);
        if (!"[redacted]".includes(value) && !`${before}[redacted]${after}`.includes(value))
          expect(shown).not.toContain(value);
      }
    }),
  );
});
