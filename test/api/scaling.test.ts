import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { endpointSchema } from "../../src/contract/schemas/endpoint.ts";
import { jobBodySchema, jobDetailSchema } from "../../src/contract/schemas/job.ts";
import { TAKE_HOLD_MS } from "../../src/runtime/service/deliveries.ts";
import { parsed, startTestDaemon, type TestDaemon } from "../support/test-daemon.ts";
import type { TestWorker } from "../support/test-worker.ts";

let daemon: TestDaemon;
beforeEach(async () => {
  daemon = await startTestDaemon();
});
afterEach(() => daemon.stop());

const status = async (endpoint: string, id: string) =>
  parsed(jobBodySchema, await daemon.call("GET", `/v2/${endpoint}/status/${id}`)).status;
const reason = async (id: string) =>
  parsed(jobDetailSchema, await daemon.call("GET", `/api/jobs/${id}`)).reason;
const shown = async (endpoint: string) =>
  parsed(endpointSchema, await daemon.call("GET", `/api/endpoints/${endpoint}`));
const configure = async (endpoint: string, config: Record<string, unknown>) =>
  parsed(endpointSchema, await daemon.call("PATCH", `/api/endpoints/${endpoint}`, { body: { config } }));
const running = () => daemon.pool.running().length;

/** A poll that stays open until the test ends: the worker is up and idle. */
async function poll(worker: TestWorker): Promise<void> {
  const before = daemon.clock.sleeps(TAKE_HOLD_MS);
  worker.take().catch(() => null);
  await daemon.until("the take is held", () => daemon.clock.sleeps(TAKE_HOLD_MS) > before);
}

describe("workers", () => {
  it("start from zero at once when a job comes", async () => {
    const endpoint = await daemon.deploy("zero");
    await daemon.clock.advance(20_000);
    expect(running()).toBe(0);
    const before = daemon.clock.nowMs();
    const id = await daemon.submit(endpoint);
    const worker = await daemon.nextWorker();
    expect(daemon.clock.nowMs() - before).toBeLessThan(1_000);
    expect((await worker.takeJob()).id).toBe(id);
  });

  it("of a low-priority job alone are not started", async () => {
    const endpoint = await daemon.deploy("low");
    const id = await daemon.submit(endpoint, { input: 1, policy: { lowPriority: true } });
    await daemon.clock.advance(60_000);
    expect(running()).toBe(0);
    expect(await reason(id)).toMatch(/low.priority/i);
    await daemon.submit(endpoint);
    const worker = await daemon.nextWorker();
    await worker.takeJob();
    expect((await worker.takeJob({ jobInProgress: 1 })).id).toBe(id);
  });

  it("are kept at min without jobs, and never pass max however much waits (INV-5)", async () => {
    const endpoint = await daemon.deploy("bounded", { workers: { min: 2, max: 3 } });
    await daemon.until("two are up", () => running() === 2);
    for (let n = 0; n < 20; n += 1) await daemon.submit(endpoint);
    await daemon.clock.advance(60_000);
    expect(running()).toBe(3);
    expect(daemon.pool.started).toHaveLength(3);
  });

  it("go after the idle timeout, back to zero, each held poll answered first", async () => {
    const endpoint = await daemon.deploy("idle", { workers: { idle_timeout: "5s", flashboot: false } });
    const id = await daemon.submit(endpoint);
    const worker = await daemon.nextWorker();
    await worker.takeJob();
    await worker.done(id, { output: 1 });
    const take = worker.take();
    await daemon.until("the take is held", () => daemon.clock.sleeps(TAKE_HOLD_MS) > 0);
    await daemon.clock.advance(4_000);
    expect(running()).toBe(1);
    await daemon.until("it is gone", () => running() === 0);
    expect((await take).status).toBe(204);
    expect(daemon.pool.started[0]?.asked).toEqual(["stop"]);
    await daemon.clock.advance(30_000);
    expect(daemon.pool.started).toHaveLength(1);
    expect((await shown(endpoint)).state).toBe("idle");
  });

  it("that do not end when asked are killed after a short grace", async () => {
    const { endpoint } = await daemon.ready("stubborn", {
      workers: { idle_timeout: "1s", flashboot: false },
    });
    daemon.pool.obeysStop = false;
    await configure(endpoint, { workers: { min: 0 } });
    await daemon.clock.advance(15_000);
    expect(daemon.pool.started[0]?.asked).toEqual(["stop", "kill"]);
    expect(running()).toBe(0);
  });

  it("lowered max drains: running jobs end, nothing new is handed out, then the worker ends (F-42)", async () => {
    const endpoint = await daemon.deploy("shrink", { workers: { min: 2, max: 2 } });
    const workers = [await daemon.nextWorker(), await daemon.nextWorker()] as const;
    const ids = [await daemon.submit(endpoint), await daemon.submit(endpoint)];
    for (const worker of workers) await worker.takeJob();
    await configure(endpoint, { workers: { min: 0, max: 1 } });
    await daemon.until("one drains", () =>
      daemon.store.fleet.workers().some(({ state }) => state === "draining"),
    );
    await daemon.clock.advance(2_000);
    expect(running()).toBe(2);
    const draining = daemon.store.fleet.workers().find(({ state }) => state === "draining");
    const worker = workers.find(({ id }) => id === draining?.id);
    const held = ids[workers.findIndex(({ id }) => id === draining?.id)] ?? "";
    expect((await worker?.done(held, { output: 1 }))?.json()).toEqual({});
    expect(await status(endpoint, held)).toBe("COMPLETED");
    await daemon.until("it has ended", () => running() === 1);
    const next = await daemon.submit(endpoint);
    const other = workers.find(({ id }) => id !== draining?.id);
    expect((await other?.takeJob({ jobInProgress: 1 }))?.id).toBe(next);
  });

  it("max 0 keeps jobs waiting and says why; raising it starts a worker", async () => {
    const endpoint = await daemon.deploy("paused", { workers: { max: 0 } });
    const id = await daemon.submit(endpoint);
    await daemon.clock.advance(30_000);
    expect(running()).toBe(0);
    expect(await status(endpoint, id)).toBe("IN_QUEUE");
    expect(await reason(id)).toMatch(/workers?.?max|max.*0/i);
    expect(await shown(endpoint)).toMatchObject({ state: "paused", reason: expect.stringContaining("max") });
    await configure(endpoint, { workers: { max: 1 } });
    expect((await (await daemon.nextWorker()).takeJob()).id).toBe(id);
  });

  it("a change of code replaces workers after their jobs, new ones first (F-41)", async () => {
    const { endpoint, worker } = await daemon.ready("rolling");
    const id = await daemon.submit(endpoint);
    await worker.takeJob();
    await configure(endpoint, { env: { VERSION: "2" } });
    const next = await daemon.nextWorker();
    expect(running()).toBe(2);
    // Until the new one asks for work, the old one serves.
    const second = await daemon.submit(endpoint);
    await daemon.clock.advance(10_000);
    await worker.ping();
    expect((await worker.done(id, { output: 1 })).json()).toEqual({});
    expect((await worker.takeJob()).id).toBe(second);
    next.take().catch(() => null);
    await daemon.until("the new release serves", async () => (await shown(endpoint)).release === 2);
    await daemon.clock.advance(5_000);
    expect(daemon.pool.started[0]?.asked, "it has a job").toEqual([]);
    expect((await worker.done(second, { output: 2 })).json()).toEqual({});
    await daemon.until("the old one has ended", () => running() === 1);
    expect(daemon.pool.running()[0]?.workerId).toBe(next.id);
    expect(daemon.pool.running()[0]?.env.VERSION).toBe("2");
    expect(await status(endpoint, second)).toBe("COMPLETED");
    expect(await status(endpoint, id)).toBe("COMPLETED");
  });

  it("of a deleted endpoint end, its jobs are cancelled, and its id can be used again", async () => {
    const source = { id: "myown" };
    await daemon.deploy("first", { workers: { max: 0 } }, source);
    const old = [];
    for (let n = 0; n < 5; n += 1) old.push(await daemon.submit("myown"));
    expect((await daemon.call("DELETE", "/api/endpoints/myown")).status).toBe(200);
    expect((await daemon.call("GET", `/v2/myown/status/${old[0]}`)).status).toBe(404);
    await daemon.deploy("second", { workers: { min: 1, max: 1 } }, source);
    const worker = await daemon.nextWorker();
    const id = await daemon.submit("myown");
    expect((await worker.takeJob()).id).toBe(id);
    await worker.done(id, { output: 1 });
    // Held takes are woken for every further job too.
    for (let n = 0; n < 3; n += 1) {
      const held = worker.takeJob({ jobInProgress: 1 });
      await daemon.until("the take is held", () => daemon.clock.sleeps(TAKE_HOLD_MS) > 0);
      const next = await daemon.submit("myown");
      expect((await held).id).toBe(next);
      await worker.done(next, { output: 1 });
    }
  });
});

describe("failing starts (F-13, F-34)", () => {
  it("back off 10, 20, 40 s, and the waiting job says why", async () => {
    const endpoint = await daemon.deploy("crashing");
    const id = await daemon.submit(endpoint);
    const startedAt: number[] = [];
    for (let n = 0; n < 4; n += 1) {
      const count = daemon.pool.started.length;
      await daemon.until("a start", async () => {
        if (daemon.pool.started.length > count) return true;
        await daemon.clock.advance(100);
        return daemon.pool.started.length > count;
      });
      startedAt.push(daemon.clock.nowMs());
      const worker = daemon.pool.started.at(-1);
      await daemon.until("it has a row", () => daemon.store.fleet.worker(worker?.workerId as never)?.handle);
      daemon.pool.exit(worker?.workerId ?? "", {
        code: 1,
        reason: "it ended with code 1: No module named torch",
      });
      await daemon.until("the exit is seen", () =>
        daemon.store.fleet.workers().every(({ state }) => state === "failed"),
      );
    }
    const pauses = startedAt
      .slice(1)
      .map((atMs, index) => Math.round((atMs - (startedAt[index] ?? 0)) / 1_000));
    expect(pauses).toEqual([10, 20, 40]);
    expect(await status(endpoint, id)).toBe("IN_QUEUE");
    expect(await reason(id)).toMatch(/No module named torch/);
    expect((await shown(endpoint)).reason).toMatch(/4 in a row; the last: .*No module named torch/);
    const { workers } = (await daemon.call("GET", `/v2/${endpoint}/health`)).json<{ workers: object }>();
    expect(workers).toMatchObject({ unhealthy: 1, ready: 0 });
  });

  it.each([
    ["reports itself unfit and exits with code 1", "unfit"],
    ["never asks for a job within its start timeout", "silent"],
    ["cannot be started at all", "unstartable"],
  ])("back off too when the worker %s", async (_what, kind) => {
    if (kind === "unstartable") daemon.pool.startFailure = "no such file: python3";
    const endpoint = await daemon.deploy("failing", { limits: { start_timeout: "5s" } });
    const id = await daemon.submit(endpoint);
    if (kind === "unfit") {
      const worker = await daemon.nextWorker();
      await worker.ping("&status=unhealthy&check=memory&reason=3+GB+free");
      daemon.pool.exit(worker.id, { code: 1 });
    }
    await daemon.clock.advance(kind === "silent" ? 9_000 : 4_000);
    expect(daemon.pool.started.length).toBeLessThanOrEqual(1);
    await daemon.clock.advance(300_000);
    // 10, 20, 40, 80, 160 s: a handful of starts in five minutes, not dozens.
    const starts = daemon.store.fleet.listWorkers({ limit: 1_000 }).length;
    expect(starts).toBeLessThanOrEqual(9);
    expect(starts).toBeGreaterThanOrEqual(kind === "unfit" ? 2 : 3);
    expect(await reason(id)).toMatch(kind === "unstartable" ? /no such file/ : /start|worker|memory/);
  });

  it("a worker that worked before it died is replaced at once, and success clears the count", async () => {
    const { endpoint, worker } = await daemon.ready("flaky");
    const id = await daemon.submit(endpoint);
    await worker.takeJob();
    await worker.done(id, { output: 1 });
    daemon.pool.exit(worker.id, { code: 139 });
    const before = daemon.clock.nowMs();
    await daemon.nextWorker();
    expect(daemon.clock.nowMs() - before).toBeLessThan(1_000);
  });

  it("an exit with code 0 without jobs is a refresh: replaced without penalty", async () => {
    const { endpoint, worker } = await daemon.ready("refresh");
    daemon.pool.exit(worker.id, { code: 0 });
    await daemon.nextWorker();
    expect((await shown(endpoint)).state).not.toBe("degraded");
    expect((await shown(endpoint)).reason).not.toMatch(/failed/);
  });
});

describe("a daemon that stood still (F-25)", () => {
  it("condemns no worker for a silence that was its own, and ends no job", async () => {
    const { endpoint, worker } = await daemon.ready("suspended");
    const id = await daemon.submit(endpoint);
    await worker.takeJob();
    daemon.clock.jump(300_000);
    await daemon.clock.advance(10_000);
    expect(await status(endpoint, id)).toBe("IN_PROGRESS");
    expect(daemon.pool.started[0]?.asked).toEqual([]);
    expect((await worker.done(id, { output: 1 })).json()).toEqual({});
    expect(await status(endpoint, id)).toBe("COMPLETED");
  });

  it("whichever of its loops wakes first", async () => {
    const { endpoint, worker } = await daemon.ready("suspended");
    const other = await daemon.deploy("other", { workers: { max: 0 } });
    const id = await daemon.submit(endpoint, { input: 1, policy: { executionTimeout: 86_400_000 } });
    await worker.takeJob();
    for (let round = 0; round < 10; round += 1) {
      await daemon.clock.advance(137 * round);
      await worker.ping();
      daemon.clock.jump(300_000);
      // A change nudges the reconciler before the sweep has looked.
      await configure(other, { scale: { max_queued: round + 1 } });
      await daemon.clock.advance(3_000);
      expect([round, daemon.pool.started[0]?.asked]).toEqual([round, []]);
    }
    expect(await status(endpoint, id)).toBe("IN_PROGRESS");
  });

  it("lets a result that waited meanwhile in before it judges deadlines", async () => {
    const { endpoint, worker } = await daemon.ready("suspended");
    const id = await daemon.submit(endpoint, { input: 1, policy: { executionTimeout: 60_000 } });
    await worker.takeJob();
    daemon.clock.jump(300_000);
    const result = worker.done(id, { output: "kept" });
    await daemon.clock.advance(1_000);
    expect((await result).json()).toEqual({});
    expect(await status(endpoint, id)).toBe("COMPLETED");
  });
});

describe("stopping", () => {
  it("SIGTERM refuses new jobs with 503, lets running ones end, puts the rest back uncounted (F-40)", async () => {
    const { endpoint, worker } = await daemon.ready("draining", { workers: { min: 1, max: 2 } });
    const id = await daemon.submit(endpoint);
    await worker.takeJob();
    const waiting = await daemon.submit(endpoint);
    let closed = false;
    const drained = daemon.daemon.drain().then(() => {
      closed = true;
    });
    const refused = await daemon.call("POST", `/v2/${endpoint}/run`, { body: { input: 1 } });
    expect(refused.status).toBe(503);
    expect(refused.headers.get("retry-after")).not.toBeNull();
    expect(await status(endpoint, waiting)).toBe("IN_QUEUE");
    expect((await worker.done(id, { output: 1 })).json()).toEqual({});
    expect(await status(endpoint, id)).toBe("COMPLETED");
    await daemon.until("it has closed", () => closed);
    await drained;
    expect(running()).toBe(0);
    daemon = await startTestDaemon();
  });
});

it("counts idle and starting workers apart", async () => {
  const endpoint = await daemon.deploy("counted", { workers: { min: 2, max: 2 } });
  const first = await daemon.nextWorker();
  await daemon.nextWorker();
  await poll(first);
  expect((await shown(endpoint)).workerCounts).toMatchObject({ idle: 1, initializing: 1, running: 0 });
});
