import { describe, expect, test } from "vitest";
import type { ReleaseSpec } from "../../../../src/runtime/core/model.ts";
import { changedSpec, specOf } from "../../../../src/runtime/core/release-spec.ts";

const SOURCE = { kind: "bundle", digest: "a".repeat(64) } as const;
const CODE = { source: SOURCE, handler: "handler.py" };
const BEFORE: ReleaseSpec = specOf(
  CODE,
  {
    env: { MODEL: "tiny" },
    image: { base: "python:3.12-slim", command: ["a"] },
    limits: { memory: "1GiB", cpus: 2, execution_timeout: "10m" },
    gpu: { count: 1 },
  },
  "docker",
  false,
);

describe("an update of all that there is", () => {
  test("leaves what it does not name as it is", () => {
    expect(changedSpec(BEFORE, {}, false)).toBeNull();
    expect(changedSpec(BEFORE, { code: CODE, config: {} }, false)).toBeNull();
    expect(changedSpec(BEFORE, { config: { image: { base: "python:3.13-slim" } } }, false)).toEqual({
      ...BEFORE,
      image: { base: "python:3.13-slim", command: ["a"] },
    });
  });

  test("takes another pool, and new code", () => {
    expect(changedSpec(BEFORE, { pool: "process" }, false)?.pool).toBe("process");
    const image = { kind: "image", reference: "org/worker:1" } as const;
    const changed = changedSpec(BEFORE, { code: { source: image } }, false);
    expect(changed).toMatchObject({ source: image, handler: null, dockerfile: null, env: { MODEL: "tiny" } });
  });
});

describe("a deploy", () => {
  test("unsets what it leaves out", () => {
    expect(changedSpec(BEFORE, { origin: "deploy", code: CODE, config: {} }, false)).toEqual({
      ...BEFORE,
      env: {},
      image: {},
      hardware: {},
    });
  });

  test("that says the same again changes nothing, whatever the order of its keys", () => {
    const config = {
      gpu: { count: 1 },
      limits: { cpus: 2, memory: "1GiB", execution_timeout: "20m" },
      image: { command: ["a"], base: "python:3.12-slim" },
      env: { MODEL: "tiny" },
    };
    expect(changedSpec(BEFORE, { origin: "deploy", code: CODE, config }, false)).toBeNull();
  });
});
