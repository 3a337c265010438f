import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { EndpointId, WorkerId } from "../../src/runtime/core/model.ts";
import type { LogLine } from "../../src/runtime/ports/log-store.ts";
import type {
  BuiltRelease,
  SleepDepth,
  WorkerExit,
  WorkerPool,
  WorkerStart,
} from "../../src/runtime/ports/worker-pool.ts";

/** A pool under test with what the suite needs around it. */
export type PoolUnderTest = {
  readonly pool: WorkerPool;
  /** A release that runs test/fixtures/handlers/worker.mjs in a mode. */
  release(mode: string): BuiltRelease;
  /** One whose start rejects, because what it is made of is gone. */
  readonly broken: BuiltRelease;
  /** How its workers can sleep. */
  readonly depths: readonly SleepDepth[];
  /** What a worker printed so far. */
  lines(endpointId: EndpointId, workerId: WorkerId): Promise<readonly LogLine[]>;
  /** The same workers seen by a daemon that has just started: nothing kept but what outlives the first one. */
  restarted(): Promise<WorkerPool>;
  /** Process ids of a worker and all that it started, where they may be other users'. Absent: those with its environment. */
  processesOf?(workerId: WorkerId): Promise<readonly string[]>;
  close(): Promise<void>;
};

export const WORKER_FIXTURE = path.resolve(import.meta.dirname, "../fixtures/handlers/worker.mjs");
const ENDPOINT = "ep1" as EndpointId;
const DEADLINE_MS = 15_000;
const POLL_MS = 10;

const startOf = ({ pool }: PoolUnderTest, start: WorkerStart) =>
  pool.start(start, () => {}, new AbortController().signal);

/** What each worker pool must do. Processes are real: this waits for what they print and how they end. */
export function workerPoolSuite(makePool: () => Promise<PoolUnderTest>): void {
  let made: PoolUnderTest;
  let exits: Map<WorkerId, WorkerExit>;
  let count = 0;

  beforeEach(async () => {
    made = await makePool();
    const heard = new Map<WorkerId, WorkerExit>();
    exits = heard;
    made.pool.onExit((exit) => heard.set(exit.workerId, exit));
  });
  afterEach(() => made.close());

  function describeStart(mode: string, env: Record<string, string> = {}): WorkerStart {
    count += 1;
    // Unique on this machine: the sweep of another run must not find these.
    const workerId = `w-${process.pid}-${count}` as WorkerId;
    const marked = { RUNPOD_POD_ID: workerId, ...env };
    const limits = { memoryBytes: null, cpus: null, pids: 512, shmBytes: null, diskBytes: null };
    return { workerId, endpointId: ENDPOINT, release: 1, built: made.release(mode), env: marked, limits };
  }

  /** A worker that has printed that it is up. */
  async function startUp(mode: string, env: Record<string, string> = {}): Promise<WorkerId> {
    const start = describeStart(mode, env);
    await startOf(made, start);
    await printed(start.workerId, "up");
    return start.workerId;
  }

  const texts = async (workerId: WorkerId) => (await made.lines(ENDPOINT, workerId)).map(({ line }) => line);
  const printed = (workerId: WorkerId, text: string) =>
    until(`${workerId} prints ${text}`, async () => (await texts(workerId)).includes(text));
  const asleep = async (workerId: WorkerId) =>
    (await made.pool.list()).find((worker) => worker.workerId === workerId)?.asleep;
  const exitOf = async (workerId: WorkerId): Promise<WorkerExit> => {
    await until(`${workerId} ends`, () => exits.has(workerId));
    return exits.get(workerId) as WorkerExit;
  };

  test("a worker gets its environment whole, and its output is kept", async () => {
    const workerId = await startUp("environment", {
      RUNPOD_WEBHOOK_GET_JOB: "http://x/$ID?gpu=a+b",
      EMPTY: "",
    });
    const lines = await made.lines(ENDPOINT, workerId);
    const seen = JSON.parse(lines[0]?.line ?? "{}");
    expect(seen).toMatchObject({
      RUNPOD_POD_ID: workerId,
      RUNPOD_WEBHOOK_GET_JOB: "http://x/$ID?gpu=a+b",
      EMPTY: "",
    });
    expect(lines[0]).toMatchObject({ workerId, source: "stdout" });
    expect(lines[0]?.tsMs).toBeGreaterThan(0);
  });

  test("T-24: nothing of the daemon's own environment reaches a worker", async () => {
    process.env.RPX_TEST_CANARY = "canary";
    try {
      const workerId = await startUp("environment");
      expect((await texts(workerId)).join("\n")).not.toContain("canary");
    } finally {
      delete process.env.RPX_TEST_CANARY;
    }
  });

  test("stop asks: a worker that listens ends, and the reason says who asked", async () => {
    const workerId = await startUp("graceful");
    await made.pool.stop(workerId);
    expect(await exitOf(workerId)).toEqual({ workerId, code: 0, signal: null, reason: "stopped by rpx" });
    expect(await texts(workerId)).toContain("ending");
  });

  test("kill ends one that does not listen", async () => {
    const workerId = await startUp("stubborn");
    await made.pool.stop(workerId);
    await printed(workerId, "asked to end");
    expect(exits.has(workerId)).toBe(false);
    await made.pool.kill(workerId);
    expect(await exitOf(workerId)).toMatchObject({ signal: "SIGKILL", reason: "killed by rpx" });
  });

  test("a crash is told with its code and its last words", async () => {
    const start = describeStart("fail");
    await startOf(made, start);
    expect(await exitOf(start.workerId)).toEqual({
      workerId: start.workerId,
      code: 3,
      signal: null,
      reason: "exited with code 3: ModuleNotFoundError: No module named 'torch'",
    });
  });

  test("an end of its own accord is told as that", async () => {
    const start = describeStart("done");
    await startOf(made, start);
    expect(await exitOf(start.workerId)).toMatchObject({ code: 0, reason: "exited by itself with code 0" });
  });

  test("F-14: SIGKILL that nobody here sent is told as a likely lack of memory", async () => {
    const start = describeStart("abort");
    await startOf(made, start);
    const { signal, reason } = await exitOf(start.workerId);
    expect(signal).toBe("SIGKILL");
    expect(reason).toBe("killed by SIGKILL (out of memory?)");
  });

  test("a frozen worker stands still until it is resumed", async () => {
    const workerId = await startUp("ticks");
    await made.pool.park(workerId, "frozen");
    const still = await untilStill(async () => (await texts(workerId)).length);
    await made.pool.wake(workerId);
    await until("it ticks again", async () => (await texts(workerId)).length > still);
  });

  test("a frozen worker can be stopped, and killed", async () => {
    const stopped = await startUp("graceful");
    const killed = await startUp("graceful");
    await made.pool.park(stopped, "frozen");
    await made.pool.park(killed, "frozen");
    await made.pool.stop(stopped);
    await made.pool.kill(killed);
    expect(await exitOf(stopped)).toMatchObject({ code: 0 });
    expect(await exitOf(killed)).toMatchObject({ signal: "SIGKILL" });
  });

  test("each depth of sleep is one that the pool has, or is refused", async () => {
    for (const depth of ["frozen", "stopped"] as const) {
      const workerId = await startUp("graceful");
      if (!made.depths.includes(depth)) {
        await expect(made.pool.park(workerId, depth)).rejects.toThrow();
        expect(await asleep(workerId)).toBe(null);
        continue;
      }
      await made.pool.park(workerId, depth);
      expect(await asleep(workerId)).toBe(depth);
      await made.pool.wake(workerId);
      expect(await asleep(workerId)).toBe(null);
    }
    expect(exits.size).toBe(0);
  });

  test("T-15: what a worker started ends with it, also what left its group", async () => {
    for (const end of ["kill", "stop"] as const) {
      const workerId = await startUp("family");
      // Itself, and the two that it started.
      const count = async () => (await (made.processesOf ?? processesOf)(workerId)).length;
      expect(await count(), "all run first").toBeGreaterThanOrEqual(3);
      await made.pool[end](workerId);
      await exitOf(workerId);
      await until("the family is gone", async () => (await count()) === 0);
    }
  });

  test("a restarted daemon finds workers, those that ended meanwhile too, until they are forgotten", async () => {
    const alive = await startUp("graceful");
    const start = describeStart("fail");
    await startOf(made, start);
    await exitOf(start.workerId);

    const pool = await made.restarted();
    const adopted: WorkerExit[] = [];
    pool.onExit((exit) => adopted.push(exit));
    const listed = await pool.list();
    expect(listed.find((worker) => worker.workerId === alive)).toMatchObject({ exit: null });
    expect(listed.find((worker) => worker.workerId === start.workerId)?.exit).toMatchObject({
      code: 3,
      reason: "exited with code 3: ModuleNotFoundError: No module named 'torch'",
    });
    await pool.forget(start.workerId);
    expect((await pool.list()).map(({ workerId }) => workerId)).toEqual([alive]);

    await pool.stop(alive);
    await until("the adopted worker ends", () => adopted.length === 1);
    expect(adopted).toEqual([{ workerId: alive, code: 0, signal: null, reason: "stopped by rpx" }]);
  });

  test("start answers with the handle that list shows", async () => {
    const start = describeStart("wait");
    const { handle } = await startOf(made, start);
    expect(await made.pool.list()).toEqual([{ workerId: start.workerId, handle, asleep: null, exit: null }]);
  });

  test("what it is made of is gone: an expected failure, and no worker is left", async () => {
    const start = { ...describeStart("wait"), built: made.broken };
    await expect(startOf(made, start)).rejects.toMatchObject({ code: "unavailable" });
    expect(await made.pool.list()).toEqual([]);
  });

  test("asking anything of a worker that is gone does nothing", async () => {
    const gone = "w-never" as WorkerId;
    await made.pool.stop(gone);
    await made.pool.kill(gone);
    await made.pool.park(gone, "frozen");
    await made.pool.wake(gone);
    await made.pool.forget(gone);
    expect(exits.size).toBe(0);
  });

  test("a listener that left hears nothing", async () => {
    const heard: WorkerExit[] = [];
    made.pool.onExit((exit) => heard.push(exit))();
    const start = describeStart("done");
    await startOf(made, start);
    await exitOf(start.workerId);
    expect(heard).toEqual([]);
  });
}

/** Polls a condition of the world outside; fails with what it waited for. */
export async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + DEADLINE_MS;
  while (!(await condition())) {
    if (performance.now() > deadlineMs) throw new Error(`waited ${DEADLINE_MS} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** The value once it has stayed the same over many of the worker's ticks (20 ms each). */
async function untilStill(read: () => Promise<number>): Promise<number> {
  let last = await read();
  let sinceMs = performance.now();
  await until("it stands still", async () => {
    const now = await read();
    if (now !== last) sinceMs = performance.now();
    last = now;
    return performance.now() - sinceMs > 300;
  });
  return last;
}

/** Processes of this machine that carry a worker's id, in containers too; zombies, which nobody may have collected yet, do not. */
async function processesOf(workerId: WorkerId): Promise<readonly string[]> {
  return processesWhere("environ", (text) => text.split("\0").includes(`RUNPOD_POD_ID=${workerId}`));
}

/** Ids of processes of which a file below /proc holds that. */
export function processesWhere(file: "environ" | "cgroup", holds: (text: string) => boolean): string[] {
  return readdirSync("/proc").filter((pid) => {
    try {
      return holds(readFileSync(`/proc/${pid}/${file}`, "utf8"));
    } catch {
      return false;
    }
  });
}
