import { expect, test } from "vitest";
import { unenforcedBy } from "../../../src/project/unenforced.ts";

const CONFIG = {
  type: "load-balancer" as const,
  gpu: { count: 1 },
  limits: { memory: "8GiB", cpus: 2, execution_timeout: "10m" },
  volumes: { models: "/runpod-volume" },
  image: { base: "python:3.12-slim" },
};

test("what the process pool cannot hold a handler to is named", () => {
  expect(unenforcedBy("process", CONFIG)).toEqual([
    "type",
    "gpu",
    "volumes",
    "limits.memory",
    "limits.cpus",
    "image",
  ]);
  expect(unenforcedBy("process", { gpu: { count: 0 }, workers: { max: 2 }, image: {} })).toEqual([]);
});

test("containers are held to limits, and have no GPUs and volumes yet", () => {
  expect(unenforcedBy("docker", CONFIG)).toEqual(["type", "gpu", "volumes"]);
});
