import { expect, test } from "vitest";
import type { Hardware, WorkerLimits } from "../../../../src/runtime/core/model.ts";
import { workerLimits } from "../../../../src/runtime/core/worker-limits.ts";

const GIB = 2 ** 30;
const NONE: WorkerLimits = { memoryBytes: null, cpus: null, pids: 512, shmBytes: null, diskBytes: null };

test.each<[string, Hardware, Partial<WorkerLimits>]>([
  ["nothing is asked", {}, {}],
  [
    "all is asked",
    { limits: { memory: "8GiB", cpus: 1.5, pids: 64, shm: "512MiB", disk: "50GB" } },
    { memoryBytes: 8 * GIB, cpus: 1.5, pids: 64, shmBytes: GIB / 2, diskBytes: 50e9 },
  ],
  ["plain bytes", { limits: { memory: 1_000_000 } }, { memoryBytes: 1_000_000 }],
  ["0 is no limit", { limits: { memory: 0, disk: "0", shm: 0 } }, {}],
  ["a GPU: many processes, and shared memory", { gpu: { count: 1 } }, { pids: 8_192, shmBytes: 8 * GIB }],
  [
    "a GPU beside limited memory: half of it is shared",
    { gpu: { count: 2 }, limits: { memory: "5GiB" } },
    { memoryBytes: 5 * GIB, pids: 8_192, shmBytes: 2.5 * GIB },
  ],
  [
    "a GPU whose own limits are set",
    { gpu: { count: 1 }, limits: { pids: 100, shm: "1GiB" } },
    { pids: 100, shmBytes: GIB },
  ],
  ["no GPU is none", { gpu: { count: 0 } }, {}],
])("%s", (_, hardware, limits) => {
  expect(workerLimits(hardware)).toEqual({ ...NONE, ...limits });
});
