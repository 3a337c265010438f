import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { createLogStore } from "../../../../src/runtime/adapters/files/log-store.ts";
import { createInProcessHost } from "../../../../src/runtime/adapters/process/in-process-host.ts";
import { createProcessPool } from "../../../../src/runtime/adapters/process/worker-pool.ts";
import { createSystemClock } from "../../../../src/runtime/adapters/system/clock.ts";
import type { EndpointId, WorkerId } from "../../../../src/runtime/core/model.ts";
import type { BuiltRelease } from "../../../../src/runtime/ports/worker-pool.ts";
import {
  type PoolUnderTest,
  until,
  WORKER_FIXTURE,
  workerPoolSuite,
} from "../../../conformance/worker-pool.ts";

async function makePool(): Promise<PoolUnderTest> {
  const dataDir = mkdtempSync(path.join(tmpdir(), "rpx-pool-"));
  const clock = createSystemClock({ newestStoredMs: 0 });
  const logs = createLogStore({ dataDir, clock });
  const { processHost, close } = createInProcessHost();
  const create = () => createProcessPool({ host: processHost, logs, endpointOf: logs.endpointOf });
  return {
    pool: create(),
    release,
    broken: { ...release("wait"), file: "/nonexistent/python" } as BuiltRelease,
    depths: ["frozen"],
    lines: (endpointId, workerId) => logs.read({ endpointId, workerId, tail: 10_000 }),
    restarted: async () => create(),
    async close() {
      await close();
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

function release(mode: string): BuiltRelease {
  const env = { PATH: "/usr/bin:/bin", PYTHONPATH: "/sdk/site" };
  return {
    kind: "process",
    file: process.execPath,
    args: [WORKER_FIXTURE, mode],
    cwd: path.dirname(WORKER_FIXTURE),
    env,
    runtime: "node",
    warnings: [],
  };
}

workerPoolSuite(makePool);

describe("process pool", () => {
  const endpointId = "ep1" as EndpointId;
  const workerId = `w-${process.pid}-own` as WorkerId;

  async function firstLine(mode: string, env: Record<string, string>) {
    const made = await makePool();
    try {
      const limits = { memoryBytes: null, cpus: null, pids: 512, shmBytes: null, diskBytes: null };
      const start = { workerId, endpointId, release: 1, built: release(mode), env, limits };
      await made.pool.start(start, () => {}, new AbortController().signal);
      await until("it is up", async () => (await made.lines(endpointId, workerId)).length >= 2);
      return JSON.parse((await made.lines(endpointId, workerId))[0]?.line ?? "null");
    } finally {
      await made.close();
    }
  }

  test("the endpoint's PYTHONPATH comes behind the stand-in's, other variables win", async () => {
    const seen = await firstLine("environment", { PYTHONPATH: "/own", PATH: "/own/bin:/usr/bin:/bin" });
    expect(seen).toMatchObject({ PYTHONPATH: "/sdk/site:/own", PATH: "/own/bin:/usr/bin:/bin" });
  });

  test("T-24: a worker leaves no core file", async () => {
    expect(await firstLine("limits", {})).toMatchObject({ soft: 0, hard: 0 });
  });

  test("is what its listings say", async () => {
    const made = await makePool();
    expect(made.pool).toMatchObject({ kind: "process" });
    expect(made.pool.isolation()).toMatchObject({ level: "none" });
    await made.close();
  });
});
