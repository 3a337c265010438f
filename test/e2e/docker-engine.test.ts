/** The Docker pool while its engine is killed, hangs and comes back: an engine of the test's own (reliability.md, R5). */
import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import path from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { WorkerStart } from "../../src/runtime/ports/worker-pool.ts";
import { until } from "../conformance/worker-pool.ts";
import { ensureImages, findEngine, NODE_IMAGE, skipAloud } from "../support/engine/engine.ts";
import { createTestPool, type TestPool } from "../support/engine/pool.ts";
import {
  createPrivateEngine,
  type PrivateEngine,
  privateEngineMissing,
} from "../support/engine/private-engine.ts";

const missing = privateEngineMissing();
const isMissing = skipAloud(
  missing === null ? findEngine() : { missing: `no engine of its own without ${missing}` },
);

describe.skipIf(isMissing)("the Docker pool and its engine", { timeout: 120_000 }, () => {
  let engine: PrivateEngine;
  let made: TestPool;

  beforeAll(async () => {
    engine = await createPrivateEngine();
    ensureImages([NODE_IMAGE], engine.host);
  });
  afterAll(() => engine?.close());
  beforeEach(async () => {
    made = await createTestPool({ host: engine.host });
  });
  afterEach(() => made.close());

  const linesOf = async ({ endpointId, workerId }: WorkerStart) =>
    (await made.logs.read({ endpointId, workerId, tail: 50_000 })).map(({ line }) => line);

  async function up(mode: string): Promise<WorkerStart> {
    const worker = made.worker(mode);
    await made.start(worker);
    await until("it is up", async () => (await linesOf(worker)).includes("up"));
    return worker;
  }

  const isAway = () => made.pool.away() !== null;
  const lost = () => until("the engine is missed", isAway);
  const found = () => until("the engine is found", () => !isAway());

  test("F-18, ACC-10: killed and started again, again and again: no worker is told to have ended", async () => {
    const counting = await up("count");
    const frozen = await up("graceful");
    await made.pool.park(frozen.workerId, "frozen");
    let changes = 0;
    made.pool.onChange(() => {
      changes += 1;
    });
    for (let kills = 0; kills < 5; kills += 1) {
      await engine.kill();
      await lost();
      expect(made.pool.away()).toMatch(/^no Docker engine answers at unix:\/\/.*docker\.sock$/);
      await expect(made.pool.list()).rejects.toMatchObject({ code: "unavailable" });
      await expect(made.start(made.worker("wait"))).rejects.toMatchObject({ code: "unavailable" });
      await engine.start();
      await found();
    }
    expect(changes).toBeGreaterThanOrEqual(10);
    expect(made.exits.size).toBe(0);
    const asleep = new Map((await made.pool.list()).map((worker) => [worker.workerId, worker.asleep]));
    expect(asleep).toEqual(
      new Map([
        [counting.workerId, null],
        [frozen.workerId, "frozen"],
      ]),
    );
    await made.pool.stop(frozen.workerId);
    await until("the frozen one ends", () => made.exits.has(frozen.workerId));
    const before = (await linesOf(counting)).length;
    await until("output goes on", async () => (await linesOf(counting)).length > before + 20);
    const numbers = (await linesOf(counting))
      .filter((line) => line.startsWith("o"))
      .map((line) => Number(line.slice(1)));
    expect(numbers).toEqual(numbers.map((_, index) => index + 1));
  });

  test("a worker that ends while the engine is away is told once it is back", async () => {
    const worker = await up("graceful");
    const container = await made.engine.docker
      .getContainer((await made.pool.list())[0]?.handle ?? "")
      .inspect();
    await engine.kill();
    await lost();
    process.kill(container.State.Pid, "SIGKILL");
    await engine.start();
    await until("its end is told", () => made.exits.has(worker.workerId));
    expect(made.exits.get(worker.workerId)?.reason).toMatch(/^ended while the Docker engine was away: /);
  });

  test("F-18: an engine that hangs is away like one that is down, and nothing is concluded", async () => {
    const worker = await up("wait");
    engine.hang();
    try {
      await lost();
      expect(made.pool.away()).toMatch(/does not answer: no reply within \d+ s$/);
      await expect(made.pool.list()).rejects.toMatchObject({ code: "unavailable" });
      // As long as the issue asks for: the looks that would have found something are past by then.
      await new Promise((resolve) => setTimeout(resolve, 10_000));
      expect(made.exits.size).toBe(0);
    } finally {
      engine.resume();
    }
    await found();
    expect(await made.pool.list()).toMatchObject([{ workerId: worker.workerId, asleep: null, exit: null }]);
    expect(made.exits.size).toBe(0);
  });

  test("what was begun when the engine went leaves nothing behind once it is back", async () => {
    const worker = made.worker("wait");
    const starting = made.pool.start(
      worker,
      ({ phase }) => phase === "create" && engine.hang(),
      new AbortController().signal,
    );
    const outcome = starting.then(
      () => "started",
      () => "failed",
    );
    await lost();
    await engine.kill();
    expect(await outcome).toBe("failed");
    await engine.start();
    await found();
    await until("no container is left", async () => {
      const all = await made.engine.docker.listContainers({ all: true });
      return all.every(({ Names }) => !Names.some((name) => name.includes(worker.workerId)));
    });
    expect(await made.pool.list()).toEqual([]);
  });

  test("a full disk is told before an image is pulled", async () => {
    const rootDir = made.engine.facts()?.rootDir ?? "";
    const filler = path.join(rootDir, "filler");
    execFileSync("fallocate", ["--length", "1GiB", filler]);
    try {
      const built = { image: `127.0.0.1:1/x@sha256:${"0".repeat(64)}`, reference: "x:1" };
      await expect(made.start(made.worker("wait", { built }))).rejects.toMatchObject({
        message: "there is no room for the image 127.0.0.1:1/x",
        why: expect.stringMatching(/^it needs about 1 GiB, .* are free where the engine keeps images$/),
      });
    } finally {
      rmSync(filler);
    }
  });

  test("a daemon that starts while the engine is away finds its workers when it is back", async () => {
    const worker = await up("wait");
    await engine.kill();
    made = await made.restarted();
    expect(made.pool.away()).toMatch(/^no Docker engine answers/);
    await engine.start();
    await found();
    expect(await made.pool.list()).toMatchObject([{ workerId: worker.workerId, asleep: null, exit: null }]);
  });
});
