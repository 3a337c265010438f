import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { MAX_RESULT_DEPTH, readChunk, readReport } from "../../../../src/runtime/core/result.ts";

const PLAIN = { kind: "output", refresh: false } as const;

describe("output", () => {
  test.each([
    ['{"output": 1}', "1"],
    ['{"output": null}', "null"],
    ['{"output": {"error": "inside is data"}}', '{"error": "inside is data"}'],
    ['{"output": 9007199254740993123456789}', "9007199254740993123456789"],
    ['{"output": 1.0e+2 , "error": null}', "1.0e+2"],
    ['{"output": "\\ud800"}', '"\\ud800"'],
    ['{"output": {"__proto__": 1}}', '{"__proto__": 1}'],
    ['{"output": 1, "output": 2}', "2"],
    [' \n{"output": []}\n', "[]"],
    ['{"error": null, "output": "x"}', '"x"'],
    ['{"status": "COMPLETED", "output": 1}', "1"],
    ['{"output": {"status": "IN_PROGRESS"}}', '{"status": "IN_PROGRESS"}'],
  ])("%s is kept as it came", (body, outputJson) => {
    expect(readReport(body)).toEqual({ ...PLAIN, outputJson });
  });

  test("an empty object is a result without output", () => {
    expect(readReport("{}")).toEqual({ ...PLAIN, outputJson: null });
  });

  test("F-31 Python's NaN and infinities become null, in strings they stay", () => {
    expect(readReport('{"output": {"x": NaN, "y": [Infinity, -Infinity], "z": "NaN"}}')).toEqual({
      ...PLAIN,
      outputJson: '{"x": null, "y": [null, null], "z": "NaN"}',
    });
    expect(readReport('{"output": NaN}')).toEqual({ ...PLAIN, outputJson: "null" });
  });

  test.each([
    ['{"output": 1, "stopPod": true}', true],
    ['{"output": 1, "stopPod": false}', false],
    ['{"output": 1, "stopPod": "true"}', false],
    ['{"stopPod": true}', true],
    ['{"error": "x", "stopPod": true}', true],
  ])("%s asks for a refresh: %s", (body, refresh) => {
    expect(readReport(body)).toMatchObject({ refresh });
  });
});

describe("error", () => {
  test.each([
    ['{"error": "boom"}', "boom", null],
    ['{"error": "a\\"b\\n\\u00e9"}', 'a"b\n\u00e9', null],
    ['{"error": {"code": 7, "why": "x"}, "output": 1}', '{"code": 7, "why": "x"}', "1"],
    ['{"error": ["a", 1]}', '["a", 1]', null],
    ['{"error": 12345678901234567890}', "12345678901234567890", null],
    ['{"error": false}', "false", null],
    ['{"error": ""}', "", null],
    ['{"error": {"x": NaN}}', '{"x": null}', null],
    ['{"error": "x", "status": "IN_PROGRESS"}', "x", null],
  ])("%s fails the job", (body, error, outputJson) => {
    expect(readReport(body)).toEqual({ kind: "error", error, outputJson, refresh: false });
  });

  test("an error that is NaN counts as none: Python's None and nan are both no message", () => {
    expect(readReport('{"error": NaN, "output": 1}')).toEqual({ ...PLAIN, outputJson: "1" });
  });
});

describe("progress", () => {
  test.each([
    ['{"status": "IN_PROGRESS", "output": {"step": 3}}', '{"step": 3}'],
    ['{"output": NaN, "status": "IN_PROGRESS"}', "null"],
    ['{"status": "IN_PROGRESS"}', "null"],
    ['{"status": "IN_PROGRESS", "error": null, "output": "x"}', '"x"'],
  ])("%s is progress, not the end", (body, outputJson) => {
    expect(readReport(body)).toEqual({ kind: "progress", outputJson });
  });
});

describe("what cannot be read", () => {
  test.each([
    "",
    "null",
    "[]",
    '"text"',
    "17",
    "NaN",
    "{",
    '{"output": }',
    '{"output": NaNs}',
    '{"output": -NaN}',
    "{'output': 1}",
    '{"output": undefined}',
    '{"output": 1} trailing',
    '{"output": "\u0001"}',
    "<html>",
    "\u0000",
  ])("%j", (body) => {
    const report = readReport(body);
    expect(report.kind).toBe("unreadable");
    if (report.kind === "unreadable") expect(report.reason).not.toBe("");
  });

  test("nesting is bounded, and a million brackets are refused without a fault", () => {
    const nested = (depth: number) => `{"output": ${"[".repeat(depth)}${"]".repeat(depth)}}`;
    expect(readReport(nested(MAX_RESULT_DEPTH - 1)).kind).toBe("output");
    expect(readReport(nested(MAX_RESULT_DEPTH))).toMatchObject({ kind: "unreadable" });
    expect(readReport(nested(1_000_000))).toMatchObject({ kind: "unreadable" });
    expect(readReport(`{"output": [NaN, ${"[".repeat(2_000)}${"]".repeat(2_000)}]}`).kind).toBe("unreadable");
  });

  test("the reason never quotes the body", () => {
    const report = readReport('{"output": SECRET_VALUE}');
    expect(JSON.stringify(report)).not.toContain("SECRET");
  });

  test("any text gets a verdict", () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom(...'{}[]",:\\ ', "NaN", "output", "error", "null", "1") }),
        (body) => {
          expect(["output", "error", "progress", "unreadable"]).toContain(readReport(body).kind);
        },
      ),
    );
  });

  test("any JSON output comes back as the same value", () => {
    fc.assert(
      fc.property(fc.jsonValue(), (output) => {
        const report = readReport(JSON.stringify({ output }));
        expect(report).toMatchObject({ kind: "output", outputJson: JSON.stringify(output) });
      }),
    );
  });
});

describe("chunks", () => {
  test.each([
    ['{"output": "a"}', '"a"'],
    ['{"output": {"text": NaN}}', '{"text": null}'],
    ["{}", "null"],
    ['{"output": 9007199254740993}', "9007199254740993"],
  ])("%s", (body, chunkJson) => {
    expect(readChunk(body)).toEqual({ chunkJson });
  });

  test("a chunk that is no JSON has a reason", () => {
    expect(readChunk('{"output": ')).toMatchObject({ reason: expect.stringContaining("JSON") });
    expect(readChunk("[1]")).toEqual({ reason: "not a JSON object" });
  });
});
