import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ReleaseSpec } from "../../../../src/runtime/core/model.ts";
import { releaseDiff } from "../../../../src/runtime/core/release-diff.ts";

const SPEC: ReleaseSpec = {
  pool: "process",
  source: { kind: "bundle", digest: "0123456789abcdef".repeat(4) },
  handler: "handler.py",
  python: null,
  dockerfile: null,
  image: {},
  hardware: {},
  env: {},
};
const spec = (fields: Partial<ReleaseSpec>): ReleaseSpec => ({ ...SPEC, ...fields });

describe("what differs between two releases", () => {
  test.each<[string, Partial<ReleaseSpec>, Partial<ReleaseSpec>, [string, string | null, string | null][]]>([
    ["nothing", {}, {}, []],
    ["a variable", { env: { A: "1", B: "2" } }, { env: { A: "1", B: "3" } }, [["env.B", "2", "3"]]],
    ["one that is new", {}, { env: { A: "1" } }, [["env.A", null, "1"]]],
    ["one that is gone", { env: { A: "1" } }, {}, [["env.A", "1", null]]],
    ["one that is empty now", { env: { A: "1" } }, { env: { A: "" } }, [["env.A", "1", ""]]],
    [
      "the code, in short",
      {},
      { source: { kind: "bundle", digest: "f".repeat(64) } },
      [["source", "0123456789ab", "f".repeat(12)]],
    ],
    [
      "the kind of code",
      {},
      { source: { kind: "image", reference: "vllm:1" }, handler: null },
      [
        ["image", null, "vllm:1"],
        ["source", "0123456789ab", null],
        ["handler", "handler.py", null],
      ],
    ],
    [
      "a folder",
      { source: { kind: "folder", path: "/a" } },
      { source: { kind: "folder", path: "/b" } },
      [["folder", "/a", "/b"]],
    ],
    [
      "nested settings, by their rpx.toml names",
      { hardware: { gpu: { count: 1 }, limits: { memory: "8GiB" } } },
      { hardware: { gpu: { count: 2, types: ["A100", "H100"] }, volumes: { m: "/m" } } },
      [
        ["gpu.count", "1", "2"],
        ["gpu.types", null, '["A100","H100"]'],
        ["volumes.m", null, "/m"],
        ["limits.memory", "8GiB", null],
      ],
    ],
    [
      "how an image is made",
      { image: { base: "a" } },
      { image: { base: "b", command: ["x", "y"] }, pool: "docker" },
      [
        ["pool", "process", "docker"],
        ["image.base", "a", "b"],
        ["image.command", null, '["x","y"]'],
      ],
    ],
  ])("%s", (_, before, after, expected) => {
    expect(releaseDiff(spec(before), spec(after))).toEqual(
      expected.map(([field, old, now]) => ({ field, old, new: now })),
    );
  });

  test("of a first one: all that it is", () => {
    expect(releaseDiff(null, spec({ env: { A: "1" } }))).toEqual([
      { field: "pool", old: null, new: "process" },
      { field: "source", old: null, new: "0123456789ab" },
      { field: "handler", old: null, new: "handler.py" },
      { field: "env.A", old: null, new: "1" },
    ]);
  });

  test("there and back is the same, turned round; a spec differs in nothing from itself", () => {
    const env = fc.dictionary(fc.stringMatching(/^[A-Z]{1,3}$/), fc.string(), { maxKeys: 4 });
    const any = fc.record({ env, python: fc.option(fc.string(), { nil: null }) }).map(spec);
    fc.assert(
      fc.property(any, any, (a, b) => {
        const forth = releaseDiff(a, b);
        const back = releaseDiff(b, a).map(({ field, old, new: now }) => ({ field, old: now, new: old }));
        const byField = (x: { field: string }, y: { field: string }) => (x.field < y.field ? -1 : 1);
        expect([...forth].sort(byField)).toEqual([...back].sort(byField));
        expect(releaseDiff(a, a)).toEqual([]);
      }),
      { numRuns: 300 },
    );
  });
});
