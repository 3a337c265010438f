import { expect, test } from "vitest";
import { z } from "zod";
import {
  CODE_FLAGS,
  configFromFlags,
  ENDPOINT_FLAGS,
  flagPlaces,
  overlay,
  type PoolFlag,
  poolOf,
} from "../../../src/cli/endpoint-flags.ts";
import { endpointConfigSchema } from "../../../src/contract/schemas/endpoint.ts";

test("every key of rpx.toml has a flag, and RunPod's spellings are read", () => {
  const config = configFromFlags({
    type: "QB",
    "workers-min": "1",
    "flash-boot": false,
    "scale-by": "REQUEST_COUNT",
    "gpu-id": ["ADA_24,NVIDIA L4"],
    "execution-timeout": "600",
    memory: "8GiB",
    "retention-async": "30m",
    env: ["A=1=2"],
    base: "python:3.12-slim",
    entrypoint: '["/bin/sh", "-c"]',
    command: 'python -u "my handler.py"',
    registry: "hub",
  });
  expect(endpointConfigSchema.parse(config)).toEqual({
    type: "queue",
    workers: { min: 1, flashboot: false },
    scale: { by: "request-count" },
    gpu: { types: ["ADA_24", "NVIDIA L4"] },
    limits: { execution_timeout: "600", memory: "8GiB" },
    retention: { async: "30m" },
    env: { A: "1=2" },
    image: {
      base: "python:3.12-slim",
      entrypoint: ["/bin/sh", "-c"],
      command: ["python", "-u", "my handler.py"],
      registry: "hub",
    },
  });
});

test("auto is no pool of its own: the daemon decides, or the endpoint keeps what it has", () => {
  expect([undefined, "auto", "docker", "process"].map((flag) => poolOf(flag as PoolFlag))).toEqual([
    {},
    {},
    { pool: "docker" },
    { pool: "process" },
  ]);
});

test("each key of rpx.toml has a flag of its own", () => {
  const tables = Object.entries(endpointConfigSchema.shape).flatMap(([table, schema]) => {
    const inner = schema.unwrap();
    return inner instanceof z.ZodObject ? Object.keys(inner.shape).map((key) => `${table}.${key}`) : [table];
  });
  expect(flagPlaces().toSorted()).toEqual(tables.toSorted());
  const names = [...Object.keys(ENDPOINT_FLAGS), ...Object.keys(CODE_FLAGS)];
  expect(new Set(names).size).toBe(names.length);
});

test.each([
  ["workers-max", "-1"],
  ["idle-timeout", "soon"],
  ["memory", "8G"],
  ["scale-by", "load"],
  ["command", "'open"],
  ["entrypoint", "[1]"],
  ["entrypoint", "[open"],
])("--%s %s is refused by its name", (flag, value) => {
  expect(() => configFromFlags({ [flag]: value })).toThrow(
    expect.objectContaining({ code: "usage", message: expect.stringContaining(flag) }),
  );
});

test("flags win key by key; lists and values are replaced whole", () => {
  const file = { workers: { min: 1, max: 3 }, gpu: { types: ["A", "B"] } };
  expect(overlay(file, { workers: { max: 5 }, gpu: { types: ["C"] } })).toEqual({
    workers: { min: 1, max: 5 },
    gpu: { types: ["C"] },
  });
});
