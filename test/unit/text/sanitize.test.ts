import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { sanitize, sanitizeLine } from "../../../src/text/sanitize.ts";

/** Any text, thick with what attacks are made of. */
const hostileText = fc.string({
  unit: fc.oneof(
    fc.constantFrom(
      "\u001b",
      "[",
      "]",
      "P",
      "_",
      "^",
      "X",
      "\\",
      "\u0007",
      "\u009b",
      "\u009d",
      "\u0090",
      "\u009c",
      ";",
      "3",
      "1",
      "m",
    ),
    fc.constantFrom(
      "\n",
      "\r",
      "\t",
      "\u0000",
      "\u007f",
      "\u202e",
      "\u2066",
      "\u200b",
      "\ufeff",
      "\u2028",
      "\ud83d",
      "\ude00",
      "a",
      "é",
    ),
    fc.nat(0xffff).map((code) => String.fromCharCode(code)),
    fc.nat(0x10ffff).map((code) => String.fromCodePoint(code)),
  ),
  maxLength: 60,
});

const ESC = "\u001b";
/** Known attacks, and what is left of them. */
const CORPUS: readonly (readonly [name: string, attack: string, left: string])[] = [
  ["colour", `a${ESC}[31;1mb${ESC}[0m`, "ab"],
  ["clear screen and home", `${ESC}[2J${ESC}[Hx`, "x"],
  ["8-bit CSI", "\u009b31mred", "red"],
  ["CSI cut off at the end", `a${ESC}[38;5;`, "a"],
  ["CSI with private parameters and intermediates", `${ESC}[?1049h${ESC}[!p${ESC}[1 qx`, "x"],
  ["device status report (answers typed into the shell)", `${ESC}[6n${ESC}[c${ESC}Zx`, "x"],
  ["window title (CVE-2003-0063), ended by BEL", `${ESC}]0;evil\u0007x`, "x"],
  ["window title ended by ST", `${ESC}]2;evil${ESC}\\x`, "x"],
  ["title report", `${ESC}[21tx`, "x"],
  ["clipboard write, OSC 52", `${ESC}]52;c;cm0gLXJmIC8=\u0007x`, "x"],
  ["hyperlink, OSC 8", `${ESC}]8;;https://evil.example${ESC}\\bank${ESC}]8;;${ESC}\\`, "bank"],
  ["8-bit OSC ended by 8-bit ST", "\u009d52;c;AAAA\u009cx", "x"],
  ["OSC that never ends keeps the next line", `a${ESC}]0;evil\nb`, "a\nb"],
  ["OSC that never ends", `a${ESC}]0;evil`, "a"],
  ["DECRQSS echo (CVE-2008-2383)", `${ESC}P$q\nls -l\n${ESC}\\x`, "\nls -l\nx"],
  ["sixel, DCS", `${ESC}Pq#0;2;0;0;0~~-${ESC}\\x`, "x"],
  ["8-bit DCS", "\u0090q~~\u009cx", "x"],
  ["tmux pass-through around OSC 52", `${ESC}Ptmux;${ESC}${ESC}]52;c;AAAA\u0007${ESC}\\x`, "x"],
  [
    "screen title, kitty graphics and privacy message",
    `${ESC}kx${ESC}\\${ESC}_Gf=24;AAAA${ESC}\\${ESC}^pm${ESC}\\y`,
    "xy",
  ],
  ["SOS in both forms", `${ESC}Xsos${ESC}\\a\u0098sos\u009cb`, "ab"],
  ["8-bit PM and APC", "\u009epm\u009ca\u009fapc\u009cb", "ab"],
  ["reset, charset, keypad", `${ESC}c${ESC}(0${ESC}=${ESC}#8x`, "x"],
  ["ESC alone, doubled and last", `${ESC}${ESC}[31mx${ESC}`, "x"],
  ["ESC before text that is no sequence", `${ESC}é`, "é"],
  ["backspace over text", "safe\b\b\b\bevil", "safeevil"],
  ["carriage return over text", "safe\revil\r\n", "safeevil\n"],
  ["NUL, BEL, VT, FF, SO, SI, DEL", "a\u0000\u0007\u000b\u000c\u000e\u000f\u007fb", "ab"],
  ["trojan source (CVE-2021-42574)", "access\u202e\u2066 // admin\u2069\u2066", "access // admin"],
  ["bidi marks", "a\u200e\u200f\u061cb", "ab"],
  ["zero width", "pay\u200bpal\u200c\u200d\u2060\ufeff\u00ad\u180e", "paypal"],
  ["hidden tags", "hi\u{e0001}\u{e0061}\u{e007f}", "hi"],
  ["hangul filler as a blank name", "\u3164\uffa0\u115f", ""],
  ["separators", "a\u2028b\u2029c", "abc"],
  ["interlinear annotation", "a\ufff9b\ufffac\ufffb", "abc"],
  ["lone surrogates", "\ud83dx\ude00", "\ufffdx\ufffd"],
  [
    "surrogates that a removal would join",
    `\ud83d${ESC}[m\ude00\ud83d\u200b\ude00`,
    "\ufffd\ufffd\ufffd\ufffd",
  ],
  ["a sequence that a removal would make", `${ESC}\u200b[31mx`, "[31mx"],
];

describe("sanitize", () => {
  test.each(CORPUS)("T-18, T-32: %s", (_name, attack, left) => {
    expect(sanitize(attack)).toBe(left);
  });

  test("keeps ordinary text, line breaks and tabs", () => {
    const text = 'héllo\t世界 😀 ▮ ◍ …\n[31m {"a": 1} עברית العربية';
    expect(sanitize(text)).toBe(text);
  });

  test("T-18: whatever comes in, only safe characters come out", () => {
    fc.assert(
      fc.property(hostileText, (text) => {
        const clean = sanitize(text);
        expect(clean.isWellFormed()).toBe(true);
        expect(clean.replace(/[\n\t]/g, "")).not.toMatch(
          /[\p{Cc}\u2028-\u202e\u2066-\u2069\u200b-\u200f\u2060\ufeff\u061c]/u,
        );
        expect(sanitize(clean)).toBe(clean);
      }),
      { numRuns: 10_000 },
    );
  });

  test("T-05: is linear on hostile texts of a megabyte", () => {
    const units = [
      ESC,
      `${ESC}]`,
      `${ESC}[`,
      "\u009d",
      `${ESC}]a\n`,
      `${ESC}[0;`,
      "\u009b ",
      `${ESC}P\u0007`,
      `${ESC} `,
      "\ud800",
    ];
    const startedAtMs = performance.now();
    for (const unit of units) sanitize(unit.repeat(1_000_000 / unit.length));
    for (const start of [`${ESC}]`, `${ESC}[`, `${ESC}[ `]) sanitize(start + "0".repeat(1_000_000));
    expect(performance.now() - startedAtMs).toBeLessThan(5_000);
  });
});

describe("sanitizeLine", () => {
  test("turns line breaks and tabs into a space each", () => {
    expect(sanitizeLine("a\nb\r\nc\td\re")).toBe("a b c d e");
    expect(sanitizeLine(`job ${ESC}]0;evil\nok`)).toBe("job  ok");
  });

  test("T-18: is one line of safe characters, and stays it", () => {
    fc.assert(
      fc.property(hostileText, (text) => {
        const line = sanitizeLine(text);
        expect(line).not.toMatch(/[\p{Cc}\p{Cs}\u2028-\u202e\u2066-\u2069\u200b-\u200f]/u);
        expect(sanitizeLine(line)).toBe(line);
        expect(sanitize(line)).toBe(line);
      }),
      { numRuns: 2_000 },
    );
  });
});
