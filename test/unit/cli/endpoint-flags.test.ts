import { expect, test } from "vitest";
import { configFromFlags, overlay } from "../../../src/cli/endpoint-flags.ts";
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
  });
  expect(endpointConfigSchema.parse(config)).toEqual({
    type: "queue",
    workers: { min: 1, flashboot: false },
    scale: { by: "request-count" },
    gpu: { types: ["ADA_24", "NVIDIA L4"] },
    limits: { execution_timeout: "600", memory: "8GiB" },
    retention: { async: "30m" },
    env: { A: "1=2" },
  });
});

test.each([
  ["workers-max", "-1"],
  ["idle-timeout", "soon"],
  ["memory", "8G"],
  ["scale-by", "load"],
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
