import { deepStrictEqual } from "node:assert/strict";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  elements,
  escapeControls,
  indentJson,
  jsonString,
  readObject,
  readValue,
  repairNonFinite,
  spliceArray,
  spliceObject,
} from "../../../src/text/json-text.ts";

const LIMITS = { maxDepth: 200 };

const awkwardText = fc.oneof(
  fc.string({ unit: "binary" }),
  fc.string({
    unit: fc.constantFrom(
      '"',
      "\\",
      "{",
      "}",
      "[",
      "]",
      ",",
      ":",
      " ",
      "NaN",
      "-Infinity",
      "\ud800",
      "\u009b",
    ),
  }),
  fc.constantFrom("__proto__", "constructor", "", "0"),
);
const { value: jsonValue } = fc.letrec<{ value: unknown; array: unknown[]; object: Record<string, unknown> }>(
  (tie) => ({
    value: fc.oneof(
      { maxDepth: 4 },
      awkwardText,
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      fc.boolean(),
      fc.constant(null),
      tie("array"),
      tie("object"),
    ),
    array: fc.array(tie("value"), { maxLength: 5 }),
    object: fc
      .array(fc.tuple(awkwardText, tie("value")), { maxLength: 5 })
      .map((entries) => Object.fromEntries(entries)),
  }),
);
const jsonObject = fc
  .array(fc.tuple(awkwardText, jsonValue), { maxLength: 6 })
  .map((entries) => Object.fromEntries(entries));
const indentation = fc.constantFrom("", " ", "\t", "\n  ");

function membersOf(text: string): ReadonlyMap<string, string> {
  const read = readObject(text, LIMITS);
  if (!read.ok) throw new Error(read.reason);
  return read.members;
}

function reasonOf(read: { ok: true } | { ok: false; reason: string }): string | undefined {
  return read.ok ? undefined : read.reason;
}

/** As Python's json.dumps prints: with spaces, ASCII only, and bare non-finite numbers. */
function pythonDumps(value: unknown): string {
  if (typeof value === "number" && !Number.isFinite(value)) return String(value);
  if (Array.isArray(value)) return `[${value.map(pythonDumps).join(", ")}]`;
  if (typeof value === "object" && value !== null) {
    const members = Object.entries(value).map(
      ([key, member]) => `${JSON.stringify(key)}: ${pythonDumps(member)}`,
    );
    return `{${members.join(", ")}}`;
  }
  return JSON.stringify(value);
}

describe("readObject", () => {
  test("D4: keeps each member as it was written", () => {
    const members = membersOf(
      ' {"input" : {"n":12345678901234567890, "x" : 1.0e+2} ,"webhook":"https://a/b,c}\\"" , "e":[] }\n',
    );
    expect([...members]).toEqual([
      ["input", '{"n":12345678901234567890, "x" : 1.0e+2}'],
      ["webhook", '"https://a/b,c}\\""'],
      ["e", "[]"],
    ]);
  });

  test("agrees with JSON.parse on every object", () => {
    fc.assert(
      fc.property(jsonObject, indentation, (object, space) => {
        const members = membersOf(`${space}${JSON.stringify(object, null, space)}${space}`);
        expect([...members.keys()].sort()).toEqual(Object.keys(object).sort());
        const parsed = new Map([...members].map(([key, raw]) => [key, JSON.parse(raw)]));
        for (const [key, value] of Object.entries(JSON.parse(JSON.stringify(object)))) {
          deepStrictEqual(parsed.get(key), value);
        }
        deepStrictEqual(JSON.parse(spliceObject(members)), JSON.parse(JSON.stringify(object)));
      }),
      { numRuns: 1_000 },
    );
  });

  test("F-30: accepts what JSON.parse accepts as an object and nothing else, on damaged texts", () => {
    const damaged = fc
      .tuple(
        jsonObject,
        indentation,
        fc.nat(),
        fc.nat(3),
        fc.constantFrom("", "{", "}", '"', "\\", ",", ":", "\ufeff", "\u0000", "x"),
      )
      .map(([object, space, at, cut, put]) => {
        const text = JSON.stringify(object, null, space);
        const start = at % (text.length + 1);
        return text.slice(0, start) + put + text.slice(start + cut);
      });
    fc.assert(
      fc.property(damaged, (text) => {
        let parsed: unknown;
        try {
          parsed = JSON.parse(text);
        } catch {}
        const isObject = typeof parsed === "object" && parsed !== null && !Array.isArray(parsed);
        const read = readObject(text, LIMITS);
        expect(read.ok).toBe(isObject);
        if (read.ok) deepStrictEqual(JSON.parse(spliceObject(read.members)), parsed);
      }),
      { numRuns: 2_000 },
    );
  });

  test("the last of duplicate keys wins, also when spelled differently", () => {
    expect([...membersOf('{"a":1,"b":2,"\\u0061":3}')]).toEqual([
      ["a", "3"],
      ["b", "2"],
    ]);
  });

  test("T-19: __proto__ and constructor are ordinary keys", () => {
    const text = '{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}';
    const members = membersOf(text);
    expect(members.get("__proto__")).toBe('{"polluted":true}');
    expect(spliceObject(members)).toBe(text);
    expect(Reflect.get({}, "polluted")).toBeUndefined();
  });

  test.each(["[]", "null", '"{}"', " 7 ", "[{}]"])("refuses %s: not an object", (text) => {
    expect(readObject(text, LIMITS)).toEqual({ ok: false, reason: "not a JSON object" });
  });

  test("F-31: names the position and never quotes the data", () => {
    expect(reasonOf(readObject('{"secret": hunter2}', LIMITS))).toBe("not valid JSON");
    expect(reasonOf(readObject('{"secret":"hunter2" 7}', LIMITS))).toBe("not valid JSON at position 20");
    expect(reasonOf(readObject('{"secret":"hunter2"', LIMITS))).toMatch(/^not valid JSON/);
    expect(reasonOf(readObject("", LIMITS))).toBe("not valid JSON: it ends too early");
    expect(reasonOf(readObject('x" at position 99', LIMITS))).toBe("not valid JSON");
    expect(reasonOf(readObject("\ufeff{}", LIMITS))).toBe("not valid JSON");
  });

  test("F-30: takes 200 levels, refuses 201, counts no brackets inside strings", () => {
    const nested = (levels: number): string => `{"a":${"[".repeat(levels - 1)}${"]".repeat(levels - 1)}}`;
    expect(readObject(nested(200), LIMITS).ok).toBe(true);
    expect(readObject(nested(201), LIMITS)).toEqual({ ok: false, reason: "nested deeper than 200 levels" });
    expect(readObject(`{"a":"${"[{".repeat(500)}\\"${"[".repeat(500)}"}`, LIMITS).ok).toBe(true);
    expect(readObject('{"a":{}}', { maxDepth: 1 }).ok).toBe(false);
    expect(readObject('{"a":{}}', { maxDepth: 2 }).ok).toBe(true);
  });

  test("F-30: a million open brackets are refused without exhausting the stack", () => {
    for (const open of ["[", "{", '{"a":[']) {
      const text = open.repeat(1_000_000);
      expect(reasonOf(readObject(text, LIMITS))).toBe("nested deeper than 200 levels");
      expect(readObject(text, { maxDepth: 10_000_000 }).ok).toBe(false);
    }
  });
});

describe("readValue", () => {
  test("returns any valid value trimmed and otherwise untouched", () => {
    expect(readValue(' \n{"a" : 1e400}\t', LIMITS)).toEqual({ ok: true, text: '{"a" : 1e400}' });
    expect(readValue("0", { maxDepth: 0 })).toEqual({ ok: true, text: "0" });
    expect(readValue("[]", { maxDepth: 0 }).ok).toBe(false);
    expect(reasonOf(readValue("NaN", LIMITS))).toMatch(/^not valid JSON/);
  });

  test("agrees with JSON.parse", () => {
    fc.assert(
      fc.property(jsonValue, (value) => {
        const text = JSON.stringify(value);
        expect(readValue(` ${text}\r\n`, LIMITS)).toEqual({ ok: true, text });
      }),
    );
  });
});

describe("repairNonFinite", () => {
  test("F-31: replaces bare tokens and nothing inside strings", () => {
    const text = '{"NaN": NaN, "x": [Infinity,-Infinity], "s": "NaN \\" -Infinity \\\\", "t": NaN}';
    expect(repairNonFinite(text)).toBe(
      '{"NaN": null, "x": [null,null], "s": "NaN \\" -Infinity \\\\", "t": null}',
    );
    expect(repairNonFinite("NaN")).toBe("null");
  });

  test.each([
    '{"x":NaNa}',
    '{"x":1NaN}',
    '{"x":--Infinity}',
    '{"x":-NaN}',
    '{"x":+Infinity}',
    "{NaN:1}",
    '{"x":"NaN',
    '"a"NaN',
  ])("does not make %s valid", (text) => {
    expect(readValue(repairNonFinite(text), LIMITS).ok).toBe(false);
  });

  test("F-31: what Python prints becomes what JSON.stringify prints", () => {
    const python = fc.letrec<{ value: unknown; array: unknown[]; object: Record<string, unknown> }>(
      (tie) => ({
        value: fc.oneof(
          { maxDepth: 4 },
          awkwardText,
          fc.constantFrom(Number.NaN, Infinity, -Infinity, 1.5),
          tie("array"),
          tie("object"),
        ),
        array: fc.array(tie("value"), { maxLength: 5 }),
        object: fc
          .array(fc.tuple(awkwardText, tie("value")), { maxLength: 5 })
          .map((entries) => Object.fromEntries(entries)),
      }),
    ).value;
    fc.assert(
      fc.property(python, (value) => {
        deepStrictEqual(JSON.parse(repairNonFinite(pythonDumps(value))), JSON.parse(JSON.stringify(value)));
      }),
      { numRuns: 1_000 },
    );
  });

  test("leaves every valid JSON text as it is", () => {
    fc.assert(
      fc.property(jsonValue, (value) => {
        expect(repairNonFinite(JSON.stringify(value))).toBe(JSON.stringify(value));
      }),
    );
  });

  test("T-05: is linear on hostile texts", () => {
    const hostile = [
      `NaN${"\\".repeat(1_000_000)}`,
      `NaN"${'\\"'.repeat(500_000)}`,
      "NaN-".repeat(250_000),
      '""NaN'.repeat(200_000),
    ];
    const startedAtMs = performance.now();
    for (const text of hostile) repairNonFinite(text);
    expect(performance.now() - startedAtMs).toBeLessThan(5_000);
  });
});

describe("splicing and slicing", () => {
  test("elements and spliceArray are inverse", () => {
    fc.assert(
      fc.property(fc.array(jsonValue), indentation, (values, space) => {
        const raws = elements(JSON.stringify(values, null, space));
        deepStrictEqual(
          raws.map((raw) => JSON.parse(raw)),
          JSON.parse(JSON.stringify(values)),
        );
        expect(elements(spliceArray(raws))).toEqual(raws);
      }),
    );
    expect(elements(" [ ] ")).toEqual([]);
    expect(elements('[1.0, "a,]" ,[2,3]]')).toEqual(["1.0", '"a,]"', "[2,3]"]);
  });

  test("elements of something else is a bug of the caller", () => {
    expect(() => elements('{"a":[1]}')).toThrow(TypeError);
  });

  test("spliceObject escapes keys and keeps values", () => {
    expect(spliceObject([])).toBe("{}");
    expect(
      spliceObject([
        ['a"\n', "1.00"],
        ["\ud800", "[ ]"],
      ]),
    ).toBe('{"a\\"\\n":1.00,"\\ud800":[ ]}');
    expect(jsonString("\udc00 \u0000")).toBe('"\\udc00 \\u0000"');
  });
});

describe("escapeControls", () => {
  test("T-18: prints no C1, DEL, separator, bidi control or lone surrogate, and means the same", () => {
    expect(escapeControls('{\n\t"\u007f\u009b31m": "\u2028\u202e\u2066\u200f\ud800"}')).toBe(
      '{\n\t"\\u007f\\u009b31m": "\\u2028\\u202e\\u2066\\u200f\\ud800"}',
    );
    const hostile = fc.string({
      unit: fc.oneof(
        fc.constantFrom("\\", '"', "\u007f", "\u0085", "\u202e", "\ud83d", "\u{1f600}", "é", "\u001b"),
        fc.nat(0xffff).map((code) => String.fromCharCode(code)),
      ),
    });
    fc.assert(
      fc.property(fc.dictionary(hostile, hostile), (object) => {
        // Put in raw, as a body may carry it: JSON.stringify escapes lone surrogates by itself.
        const text = JSON.stringify(object).replace(/(?<!\\)((?:\\\\)*)\\ud83d/g, "$1\ud83d");
        const escaped = escapeControls(text);
        deepStrictEqual(JSON.parse(escaped), JSON.parse(text));
        expect(escaped).not.toMatch(/[\p{Cc}\p{Cs}\u2028-\u202e\u2066-\u2069]/u);
      }),
    );
  });

  test("leaves ordinary text alone, whatever its script", () => {
    const text = '{"a":"héllo 世界 😀 \\n"}';
    expect(escapeControls(text)).toBe(text);
  });
});

describe("indentJson", () => {
  test("prints as JSON.stringify does", () => {
    fc.assert(
      fc.property(jsonValue, indentation, fc.constantFrom(2, 4), (value, space, indent) => {
        expect(indentJson(JSON.stringify(value, null, space), indent)).toBe(
          JSON.stringify(value, null, indent),
        );
      }),
      { numRuns: 1_000 },
    );
  });

  test("keeps big integers and spellings", () => {
    expect(indentJson('{"n":12345678901234567890,"x":[1.0,-0,1E5],"e":{},"f":[ ]}')).toBe(
      '{\n  "n": 12345678901234567890,\n  "x": [\n    1.0,\n    -0,\n    1E5\n  ],\n  "e": {},\n  "f": []\n}',
    );
  });

  test("stays bounded on deep nesting and means the same", () => {
    const text = `${"[".repeat(1_000)}${"1,".repeat(10_000)}1${"]".repeat(1_000)}`;
    const printed = indentJson(text);
    expect(printed.length).toBeLessThan(text.length * 43);
    expect(printed.replace(/\s/g, "")).toBe(text);
  });
});
