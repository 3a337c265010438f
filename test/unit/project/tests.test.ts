import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { folderTests, parseTests, readTests } from "../../../src/project/tests.ts";

let folder = "";

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "rpx-tests-"));
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

test("RunPod's file: name, input, timeout in ms; what is not ours is left alone", async () => {
  const file = {
    tests: [
      { name: "short", input: { prompt: "hi" }, timeout: 10_000 },
      { name: "long", input: [1], expected: { a: null } },
      { name: "null is a value too", input: 1, expected: null },
    ],
    config: { gpuTypeId: "NVIDIA GeForce RTX 4090", gpuCount: 1 },
  };
  mkdirSync(join(folder, ".runpod"));
  writeFileSync(join(folder, ".runpod/tests.json"), JSON.stringify(file));
  expect(await folderTests(folder)).toEqual([
    { name: "short", input: { prompt: "hi" }, timeoutMs: 10_000 },
    { name: "long", input: [1], timeoutMs: 300_000, expected: { a: null } },
    { name: "null is a value too", input: 1, timeoutMs: 300_000, expected: null },
  ]);
});

test("a folder without the file has no tests; a file that was named has to be there", async () => {
  expect(await folderTests(folder)).toEqual([]);
  await expect(readTests(join(folder, "absent.json"))).rejects.toMatchObject({
    code: "not_found",
    message: `no file ${join(folder, "absent.json")}`,
  });
  await expect(readTests(folder)).rejects.toMatchObject({ code: "usage", message: `cannot read ${folder}` });
});

test("a file that no request could carry is not read", async () => {
  writeFileSync(join(folder, "large.json"), " ".repeat(1_000_001));
  await expect(readTests(join(folder, "large.json"))).rejects.toMatchObject({
    code: "usage",
    why: "it is larger than 1000000 bytes",
  });
});

test.each([
  ["{", /JSON/],
  ["[]", /^the file: /],
  ["{}", /^tests: /],
  ['{"tests": [{"name": "a"}]}', /^tests\[0\]\.input: /],
  ['{"tests": [{"name": "a", "input": 1}, {"input": 1}]}', /^tests\[1\]\.name: /],
  ['{"tests": [{"name": "", "input": 1}]}', /^tests\[0\]\.name: /],
  ['{"tests": [{"name": "a", "input": 1, "timeout": 10}]}', /^tests\[0\]\.timeout: .*1000/],
  ['{"tests": [{"name": "a", "input": 1, "timeout": "10s"}]}', /^tests\[0\]\.timeout: /],
  [JSON.stringify({ tests: Array(101).fill({ name: "a", input: 1 }) }), /^tests: .*100/],
])("refused with file and field: %.60s", (text, why) => {
  const parse = () => parseTests(text, "dir/tests.json");
  expect(parse).toThrow(
    expect.objectContaining({
      code: "usage",
      message: expect.stringContaining("dir/tests.json"),
      why: expect.stringMatching(why),
    }),
  );
});
