import { expect, test } from "vitest";
import { includedFiles, isEmpty, parseRequirements } from "../../../../src/runtime/core/requirements.ts";

test("comments and blank lines are nothing to install", () => {
  expect(isEmpty(parseRequirements("\uFEFF# nothing\n\n   # here\r\n"))).toBe(true);
  expect(isEmpty(parseRequirements("--pre"))).toBe(false);
});

test.each([
  ["runpod", "runpod"],
  ["RunPod==1.6.0  # pinned", "runpod"],
  ["runpod~=1.7.6", "runpod"],
  ["ruamel.yaml >= 0.17, < 1", "ruamel-yaml"],
  ["Typing__Extensions", "typing-extensions"],
  ["uvicorn[standard]>=0.20", "uvicorn"],
  ["numpy<2 ; python_version < '3.13'", "numpy"],
  ["pkg (>=1.0)", "pkg"],
  ["numpy \\\n  >=1.26", "numpy"],
])("%j asks for %s", (text, name) => {
  expect(parseRequirements(text)).toMatchObject({ plain: [{ name }], other: [] });
});

test.each([
  "-r base.txt",
  "--index-url https://index.example",
  "-e .",
  "./local",
  "git+https://git.example/x.git",
  "pkg @ https://files.example/pkg.whl",
  "https://files.example/pkg.whl",
])("%j is left to pip", (text) => {
  expect(parseRequirements(text)).toEqual({ plain: [], other: [text] });
});

test("included files are found in each spelling", () => {
  const text = "-r a.txt\n-cb.txt\n--requirement=c.txt\n--constraint d.txt\n--pre\n";
  expect(includedFiles(parseRequirements(text))).toEqual(["a.txt", "b.txt", "c.txt", "d.txt"]);
});
