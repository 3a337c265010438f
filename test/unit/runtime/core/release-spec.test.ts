import { describe, expect, test } from "vitest";
import type { UpdateEndpoint } from "../../../../src/contract/schemas/endpoint.ts";
import type { ReleaseSpec } from "../../../../src/runtime/core/model.ts";
import { changedSpec, specOf } from "../../../../src/runtime/core/release-spec.ts";

const BUNDLE = { kind: "bundle", digest: "0".repeat(64) } as const;
const FOLDER = { kind: "folder", path: "/home/ann/hello" } as const;
const CODE = { source: BUNDLE, handler: "handler.py" };

const first = (config = {}): ReleaseSpec => specOf(CODE, config, "process", false);

describe("the first release", () => {
  test("keeps what its workers are made of, and nothing else of the settings", () => {
    const config = {
      env: { A: "1" },
      workers: { max: 3 },
      limits: { memory: "8GiB", cpus: 2, ttl: "1h", retries: 2 },
      gpu: { count: 1 },
      volumes: { models: "/models" },
      image: { base: "python:3.12-slim", registry: "ours" },
    };
    expect(
      specOf({ ...CODE, python: "python3.12", dockerfile: "Dockerfile" }, config, "docker", false),
    ).toEqual({
      pool: "docker",
      source: BUNDLE,
      handler: "handler.py",
      python: "python3.12",
      dockerfile: "Dockerfile",
      image: { base: "python:3.12-slim", registry: "ours" },
      hardware: { gpu: { count: 1 }, volumes: { models: "/models" }, limits: { memory: "8GiB", cpus: 2 } },
      env: { A: "1" },
    });
  });

  test("of an image needs no handler", () => {
    const source = { kind: "image", reference: "vllm/vllm-openai:v1" } as const;
    expect(specOf({ source }, {}, "docker", false)).toEqual({
      pool: "docker",
      source,
      ...{ handler: null, python: null, dockerfile: null, image: {}, hardware: {}, env: {} },
    });
  });

  test.each([
    { limits: { memory: "much" } },
    { limits: { shm: "8G" } },
    { limits: { disk: "-1" } },
    { gpu: { memory: "24 gigs" } },
  ])("with a size that cannot be read is refused: %j", (config) => {
    expect(() => first(config)).toThrow(expect.objectContaining({ code: "usage" }));
    expect(() => changedSpec(first(), { config }, false)).toThrow(expect.objectContaining({ code: "usage" }));
  });

  test("that runs a folder of this machine in place is for an admin alone", () => {
    const code = { source: FOLDER, handler: "handler.py" };
    expect(() => specOf(code, {}, "process", false)).toThrow(expect.objectContaining({ code: "forbidden" }));
    expect(specOf(code, {}, "process", true).source).toEqual(FOLDER);
  });
});

describe("a change", () => {
  const changed = (request: UpdateEndpoint, before = first({ env: { A: "1" } })) =>
    changedSpec(before, request, true);

  test.each<[string, UpdateEndpoint]>([
    ["of settings alone", { config: { workers: { max: 9 }, limits: { ttl: "1h" } } }],
    ["of the name", { name: "other" }],
    ["to the same variables", { config: { env: { A: "1" } } }],
    ["to the same code", { code: CODE }],
    ["to the same pool", { pool: "process" }],
    ["of nothing", {}],
  ])("%s makes no release", (_, request) => {
    expect(changed(request)).toBeNull();
  });

  test("the order of keys is no change, that of a list is", () => {
    const before = first({ env: { A: "1", B: "2" }, gpu: { count: 1, types: ["a", "b"] } });
    expect(changed({ config: { env: { B: "2", A: "1" } } }, before)).toBeNull();
    expect(changed({ config: { gpu: { types: ["a", "b"], count: 1 } } }, before)).toBeNull();
    expect(changed({ config: { gpu: { count: 1, types: ["b", "a"] } } }, before)).not.toBeNull();
  });

  test("variables are replaced as a whole, what is not named stays", () => {
    const before = first({ env: { A: "1", B: "2" }, limits: { memory: "8GiB" }, image: { base: "a" } });
    expect(changed({ config: { env: { C: "3" } } }, before)).toEqual({ ...before, env: { C: "3" } });
    expect(changed({ config: { env: {} } }, before)?.env).toEqual({});
    expect(changed({ config: { image: { registry: "ours" } } }, before)?.image).toEqual({
      base: "a",
      registry: "ours",
    });
    expect(changed({ config: { volumes: { m: "/m" } } }, before)?.hardware).toEqual({
      limits: { memory: "8GiB" },
      volumes: { m: "/m" },
    });
  });

  test("of one limit keeps the others", () => {
    const before = first({ limits: { memory: "8GiB", cpus: 2 } });
    expect(changed({ config: { limits: { cpus: 4 } } }, before)?.hardware.limits).toEqual({
      memory: "8GiB",
      cpus: 4,
    });
  });

  test("of a number of GPUs keeps which", () => {
    const before = first({ gpu: { count: 1, types: ["A100"] } });
    expect(changed({ config: { gpu: { count: 2 } } }, before)?.hardware.gpu).toEqual({
      count: 2,
      types: ["A100"],
    });
  });

  test("of code keeps variables and settings, and forgets the interpreter of the code before", () => {
    const before = specOf({ ...CODE, python: "python3.11" }, { env: { A: "1" } }, "process", false);
    const source = { kind: "bundle", digest: "f".repeat(64) } as const;
    expect(changed({ code: { source, handler: "main.py" } }, before)).toEqual({
      ...before,
      source,
      handler: "main.py",
      python: null,
    });
  });

  test("of a folder is one each time: what lies in it may differ", () => {
    const before = specOf({ source: FOLDER, handler: "handler.py" }, {}, "process", true);
    expect(changed({ code: { source: FOLDER, handler: "handler.py" } }, before)).toEqual(before);
    expect(changed({ config: { workers: { max: 1 } } }, before)).toBeNull();
  });

  test("to a folder is refused to who is no admin", () => {
    const request = { code: { source: FOLDER, handler: "handler.py" } };
    expect(() => changedSpec(first(), request, false)).toThrow(
      expect.objectContaining({ code: "forbidden" }),
    );
  });

  test("of the pool is one", () => {
    expect(changed({ pool: "docker" })?.pool).toBe("docker");
  });
});

describe("a deploy says all that workers are made of", () => {
  const config = {
    env: { A: "1" },
    image: { base: "python:3.12-slim", command: ["a"] },
    limits: { memory: "8GiB", cpus: 2, execution_timeout: "10m" },
    gpu: { count: 1 },
  };
  const before = first(config);
  const deployed = (now: UpdateEndpoint["config"]) =>
    changedSpec(before, { origin: "deploy", code: CODE, config: now }, false);

  test("what it leaves out is not set", () => {
    expect(deployed({})).toEqual({ ...before, env: {}, image: {}, hardware: {} });
    expect(deployed({ ...config, limits: { cpus: 2 } })?.hardware.limits).toEqual({ cpus: 2 });
  });

  test("the same again changes nothing, whatever the order of its keys", () => {
    const { env, image, gpu } = config;
    const limits = { cpus: 2, memory: "8GiB", execution_timeout: "20m" };
    const { base, command } = image;
    expect(deployed({ gpu, limits, image: { command, base }, env })).toBeNull();
  });
});
