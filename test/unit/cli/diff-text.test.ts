import { expect, test } from "vitest";
import { diffText } from "../../../src/cli/diff-text.ts";

test("a line a field; values of env stay hidden, and nothing steers the terminal", () => {
  const diff = [
    { field: "source", old: "aaa", new: "bbb" },
    { field: "limits.memory", old: null, new: "8GiB" },
    { field: "image.command", old: '["a"]', new: null },
    { field: "env.TOKEN", old: "old secret", new: "new secret" },
    { field: "env.NEW\u001b[2J", old: null, new: "secret" },
  ];
  expect(diffText({ version: 3, source: "deploy", state: "live", diff }).split("\n")).toEqual([
    "release 3 (live; deploy)",
    "~ source         aaa -> bbb",
    "+ limits.memory  8GiB",
    '- image.command  ["a"]',
    "~ env.TOKEN      (hidden)",
    expect.stringMatching(/^\+ env\.NEW\S* +\(hidden\)$/),
  ]);
});

test("a release like the one before", () => {
  expect(diffText({ version: 3, source: "rollback to 1", state: "live", diff: [] })).toBe(
    "release 3 (live; rollback to 1): no differences",
  );
});
