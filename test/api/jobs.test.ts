import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { API_ROUTES, JOB_ROUTES, type Route, routePath } from "../../src/contract/routes.ts";
import { errorBodySchema } from "../../src/contract/schemas/daemon.ts";
import { healthSchema, jobBodySchema, jobDetailSchema } from "../../src/contract/schemas/job.ts";
import { parsed, startTestDaemon, type TestDaemon } from "../support/test-daemon.ts";
import type { Reply, TestWorker } from "../support/test-worker.ts";

let daemon: TestDaemon;
let endpoint: string;
let worker: TestWorker;

beforeEach(async () => {
  daemon = await startTestDaemon();
  ({ endpoint, worker } = await daemon.ready());
});
afterEach(() => daemon.stop());

const call = (method: string, operation: string, body?: unknown) =>
  daemon.call(method, `/v2/${endpoint}/${operation}`, { body });
const jobBody = async (id: string) => parsed(jobBodySchema, await call("GET", `status/${id}`));

function expectError(reply: Reply, code: number, text?: RegExp): void {
  expect(reply.status).toBe(code);
  expect(errorBodySchema.parse(reply.json()).error).toMatch(text ?? /\S/);
}

/** A job that a worker has taken. */
async function taken(body?: unknown): Promise<string> {
  const id = await daemon.submit(endpoint, body);
  expect((await worker.takeJob({ jobInProgress: 1 })).id).toBe(id);
  return id;
}

describe("/status", () => {
  it("shows a job in each state with the members of that state", async () => {
    const id = await daemon.submit(endpoint, { input: { a: 1 } });
    expect(await jobBody(id)).toEqual({ id, status: "IN_QUEUE" });
    await daemon.clock.advance(1_200);
    await worker.takeJob();
    const running = await jobBody(id);
    expect(running).toEqual({
      id,
      status: "IN_PROGRESS",
      input: { a: 1 },
      delayTime: expect.any(Number),
      workerId: worker.id,
    });
    expect(running.delayTime).toBeGreaterThanOrEqual(1_200);
    await worker.progress(id, { at: "50%" });
    expect((await jobBody(id)).output).toEqual({ at: "50%" });
    await daemon.clock.advance(800);
    await worker.done(id, { output: null });
    expect(await jobBody(id)).toEqual({
      id,
      status: "COMPLETED",
      output: null,
      delayTime: running.delayTime,
      executionTime: expect.any(Number),
      workerId: worker.id,
    });
  });

  it("answers POST as GET, also with a body (the Go client)", async () => {
    const id = await daemon.submit(endpoint);
    for (const operation of [`status/${id}`, `stream/${id}?wait=1000`]) {
      const held = call("POST", operation, {});
      await daemon.clock.advance(0);
      await call("POST", `cancel/${id}`);
      expect((await held).status).toBe(200);
    }
    expect((await call("POST", `status-sync/${id}`, {})).json()).toMatchObject({ id, status: "CANCELLED" });
    expect((await call("POST", `status/${id}`)).json()).toMatchObject({ id, status: "CANCELLED" });
  });

  it("?ttl sets how long the result is kept, and answers the body even when that is no time at all", async () => {
    const kept = await taken();
    await worker.done(kept, { output: 1 });
    expect((await call("GET", `status/${kept}?ttl=60000`)).status).toBe(200);
    await daemon.clock.advance(59_000);
    expect((await call("POST", `status/${kept}?ttl=3600000`)).status).toBe(200);
    await daemon.clock.advance(31 * 60_000);
    expect((await call("GET", `status/${kept}?ttl=1500.5`)).status).toBe(200);
    await daemon.clock.advance(2_000);
    expectError(await call("GET", `status/${kept}`), 404);
    for (const ttl of ["abc", "", "-1", "NaN"])
      expectError(await call("GET", `status/${kept}?ttl=${ttl}`), 400, /ttl/);
  });

  it("?ttl=0 answers the body once, then 404", async () => {
    const id = await taken();
    await worker.done(id, { output: 1 });
    expect((await call("GET", `status/${id}?ttl=0`)).json()).toMatchObject({ output: 1 });
    expectError(await call("GET", `status/${id}`), 404);
  });
});

describe("/status-sync", () => {
  it.each(["GET", "POST"])("%s waits for the end", async (method) => {
    const id = await taken();
    const before = daemon.clock.sleeps(7_321);
    const held = call(method, `status-sync/${id}?wait=7321`);
    await daemon.until("it is held", () => daemon.clock.sleeps(7_321) > before);
    await worker.done(id, { output: "x" });
    expect(parsed(jobBodySchema, await held)).toMatchObject({ id, status: "COMPLETED", output: "x" });
  });

  it("answers the state when the wait is over, and 404 at once for an unknown job", async () => {
    const id = await taken();
    const held = call("GET", `status-sync/${id}?wait=7321`);
    await daemon.until("it is held", () => daemon.clock.sleeps(7_321) > 0);
    await daemon.clock.advance(7_321);
    expect(parsed(jobBodySchema, await held)).toMatchObject({ id, status: "IN_PROGRESS" });
    expectError(await call("GET", "status-sync/nobody?wait=300000"), 404);
    expectError(await call("GET", `status-sync/${id}?wait=soon`), 400, /wait/);
  });
});

describe("/cancel", () => {
  it("takes an empty body with a JSON content type, as the Python client sends it", async () => {
    const id = await daemon.submit(endpoint);
    for (const operation of [`cancel/${id}`, "purge-queue"]) {
      const reply = await daemon.call("POST", `/v2/${endpoint}/${operation}`, {
        headers: { "content-type": "application/json" },
      });
      expect(reply.status).toBe(200);
    }
  });

  it("cancels a queued job for ever: no worker gets it", async () => {
    const id = await daemon.submit(endpoint);
    expect((await call("POST", `cancel/${id}`)).json()).toEqual({ id, status: "CANCELLED" });
    const next = await daemon.submit(endpoint);
    expect((await worker.takeJob()).id).toBe(next);
    expect((await jobBody(id)).status).toBe("CANCELLED");
  });

  it("leaves a job that has ended as it is and says so; unknown ids are 404", async () => {
    const id = await taken();
    await worker.done(id, { output: 1 });
    expect((await call("POST", `cancel/${id}`)).json()).toEqual({ id, status: "COMPLETED" });
    expect(await jobBody(id)).toMatchObject({ status: "COMPLETED", output: 1 });
    expectError(await call("POST", "cancel/nobody"), 404);
  });

  it("races with take and result to exactly one end, which the answer tells (F-43, INV-2)", async () => {
    const listening = new AbortController();
    const listen = (): Promise<unknown> => worker.stopPoll(listening.signal).then(listen, () => null);
    const polls = listen();
    const ends = new Set<string>();
    for (let round = 0; round < 40; round += 1) {
      const id = await daemon.submit(endpoint);
      const leave = new AbortController();
      const take = worker.take({ jobInProgress: 1, signal: leave.signal }).catch(() => null);
      if (round % 2 === 0) await take;
      const result = worker.done(id, { output: round });
      // The result's request needs longer to arrive: now and then it gets a head start.
      if (round % 4 === 2) await result;
      const cancelled = await call("POST", `cancel/${id}`);
      expect((await result).status).toBe(200);
      leave.abort();
      await take;
      const end = (await jobBody(id)).status;
      expect(cancelled.json()).toEqual({ id, status: end });
      ends.add(end);
      const rows = daemon.store.journal.read({ jobId: id as never, limit: 50 });
      expect(rows.filter(({ data }) => data.to === end)).toHaveLength(1);
    }
    expect([...ends].sort()).toEqual(["CANCELLED", "COMPLETED"]);
    listening.abort();
    await polls;
  });
});

describe("/retry", () => {
  it("runs a failed job again: same id and input, old output dropped, attempts and generation anew", async () => {
    const id = await taken({ input: { n: 1 }, mine: 2 });
    await worker.done(id, { error: "boom", output: "partial" });
    expect(await jobBody(id)).toMatchObject({ status: "FAILED", error: "boom", output: "partial" });
    expect((await call("POST", `retry/${id}`)).json()).toEqual({ id, status: "IN_QUEUE" });
    expect(await jobBody(id)).toEqual({ id, status: "IN_QUEUE" });
    expect(await worker.takeJob()).toEqual({ id, input: { n: 1 }, mine: 2 });
    await worker.done(id, { output: 2 });
    const body = await jobBody(id);
    expect(body).toMatchObject({ status: "COMPLETED", output: 2 });
    expect(body.error).toBeUndefined();
    expect(body.retries).toBeUndefined();
  });

  it("is 400 in every other state and 404 for unknown ids, and changes nothing", async () => {
    const queued = await daemon.submit(endpoint);
    expectError(await call("POST", `retry/${queued}`), 400, /IN_QUEUE/);
    await worker.takeJob();
    expectError(await call("POST", `retry/${queued}`), 400, /IN_PROGRESS/);
    await worker.done(queued, { output: 1 });
    expectError(await call("POST", `retry/${queued}`), 400, /COMPLETED/);
    expect((await jobBody(queued)).output).toBe(1);
    const cancelled = await daemon.submit(endpoint);
    await call("POST", `cancel/${cancelled}`);
    expectError(await call("POST", `retry/${cancelled}`), 400, /CANCELLED/);
    expectError(await call("POST", "retry/nobody"), 404);
  });

  it("takes a job that timed out in the queue, whose ttl starts anew", async () => {
    const idle = await daemon.deploy("idle", { workers: { max: 0 } });
    const id = await daemon.submit(idle, { input: 1, policy: { ttl: 10_000 } });
    await daemon.clock.advance(12_000);
    const status = async () => parsed(jobBodySchema, await daemon.call("GET", `/v2/${idle}/status/${id}`));
    expect(await status()).toMatchObject({
      status: "TIMED_OUT",
      error: expect.stringContaining("time to live"),
    });
    expect((await daemon.call("POST", `/v2/${idle}/retry/${id}`)).status).toBe(200);
    await daemon.clock.advance(8_000);
    expect((await status()).status).toBe("IN_QUEUE");
    await daemon.clock.advance(4_000);
    expect((await status()).status).toBe("TIMED_OUT");
  });
});

describe("/purge-queue", () => {
  it("cancels what waits, leaves leased jobs, and counts the rows it changed (F-44)", async () => {
    const running = await taken();
    const ids = [];
    for (let n = 0; n < 5; n += 1) ids.push(await daemon.submit(endpoint));
    expect((await call("POST", "purge-queue")).json()).toEqual({ removed: 5, status: "completed" });
    expect((await call("POST", "purge-queue")).json()).toEqual({ removed: 0, status: "completed" });
    for (const id of ids) expect((await jobBody(id)).status).toBe("CANCELLED");
    expect((await jobBody(running)).status).toBe("IN_PROGRESS");
    expect(parsed(healthSchema, await call("GET", "health")).jobs).toMatchObject({
      failed: 0,
      inProgress: 1,
      inQueue: 0,
    });
  });
});

describe("/health, /requests, /metrics", () => {
  it("has all eleven keys, always, and ready follows idle", async () => {
    const fresh = await daemon.deploy("fresh");
    const zero = { completed: 0, failed: 0, inProgress: 0, inQueue: 0, retried: 0 };
    const none = { idle: 0, initializing: 0, ready: 0, running: 0, throttled: 0, unhealthy: 0 };
    expect((await daemon.call("GET", `/v2/${fresh}/health`)).json()).toEqual({ jobs: zero, workers: none });
    expect((await call("GET", "health")).json()).toEqual({
      jobs: zero,
      workers: { ...none, idle: 1, ready: 1 },
    });
    const id = await taken();
    expect((await call("GET", "health")).json()).toEqual({
      jobs: { ...zero, inProgress: 1 },
      workers: { ...none, running: 1 },
    });
    await worker.done(id, { error: "x" });
    await call("POST", `retry/${id}`);
    await call("POST", `cancel/${id}`);
    const { jobs } = parsed(healthSchema, await call("GET", "health"));
    expect(jobs).toEqual({ ...zero, retried: 1 });
  });

  it("counts a timed-out job as failed and a cancelled one as neither", async () => {
    const paused = await daemon.deploy("paused", { workers: { max: 0 } });
    await daemon.submit(paused, { input: 1, policy: { ttl: 10_000 } });
    const cancelled = await daemon.submit(paused);
    await daemon.call("POST", `/v2/${paused}/cancel/${cancelled}`);
    await daemon.clock.advance(12_000);
    const { jobs } = parsed(healthSchema, await daemon.call("GET", `/v2/${paused}/health`));
    expect(jobs).toEqual({ completed: 0, failed: 1, inProgress: 0, inQueue: 0, retried: 0 });
  });

  it("/requests lists the newest jobs first, without payloads", async () => {
    const first = await taken({ input: { secret: 1 } });
    await worker.done(first, { output: { secret: 2 } });
    const second = await daemon.submit(endpoint);
    const { requests } = (await call("GET", "requests")).json<{ requests: unknown[] }>();
    expect(requests).toEqual([
      { id: second, status: "IN_QUEUE" },
      expect.objectContaining({ id: first, status: "COMPLETED", workerId: worker.id }),
    ]);
    expect(JSON.stringify(requests)).not.toContain("secret");
  });

  it("/metrics names the ready workers and counts all six kinds", async () => {
    const counts = { ready: 1, running: 0, idle: 1, initializing: 0, throttled: 0, unhealthy: 0 };
    expect((await call("GET", "metrics")).json()).toEqual({ readyWorkers: [worker.id], workers: counts });
    await taken();
    expect((await call("GET", "metrics")).json()).toMatchObject({
      readyWorkers: [],
      workers: { running: 1, ready: 0 },
    });
  });
});

describe("what is not there", () => {
  it("answers 404 for unknown endpoints, jobs and paths, with an error body", async () => {
    const parameters = {
      endpoint: "nowhere",
      job: "nobody",
      worker: "nobody",
      key: "nobody",
      digest: "0".repeat(64),
    };
    for (const route of Object.values<Route>(JOB_ROUTES)) {
      const [method] = route.methods;
      const body = method === "POST" ? { input: 1 } : undefined;
      expectError(await daemon.call(method ?? "", routePath(route, parameters), { body }), 404);
      if (!route.path.includes(":job")) continue;
      expectError(
        await daemon.call(method ?? "", routePath(route, { ...parameters, endpoint }), { body }),
        404,
      );
    }
    for (const path of [
      "/",
      "/v2",
      `/v2/${endpoint}`,
      `/v2/${endpoint}/nothing`,
      "/v3/x/run",
      `/v2/${endpoint}/status/`,
    ])
      expectError(await daemon.call("GET", path), 404);
  });

  it("shows a job on its own endpoint alone", async () => {
    const id = await daemon.submit(endpoint);
    const other = await daemon.deploy("other");
    expectError(await daemon.call("GET", `/v2/${other}/status/${id}`), 404);
    expectError(await daemon.call("POST", `/v2/${other}/cancel/${id}`), 404);
    expect((await jobBody(id)).status).toBe("IN_QUEUE");
    expect((await daemon.call("GET", `/v2/hello/status/${id}`)).status).toBe(200);
  });

  it("answers every wrong method 405 with Allow, whoever asks", async () => {
    const parameters = {
      ...{ endpoint, job: "j", worker: "w", key: "k", digest: "d", secret: "s" },
      ...{ version: "1", registry: "r" },
    };
    const routes = Object.values<Route>({ ...JOB_ROUTES, ...API_ROUTES });
    const pathOf = (route: Route) => routePath(route, parameters);
    for (const route of routes) {
      const known = routes.filter((each) => pathOf(each) === pathOf(route)).flatMap(({ methods }) => methods);
      for (const method of ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]) {
        if (known.some((each) => each === method)) continue;
        const reply = await daemon.call(method, pathOf(route));
        expectError(reply, 405);
        const allowed = reply.headers.get("allow")?.split(", ") ?? [];
        expect(allowed.sort()).toEqual([...new Set(known)].sort());
      }
    }
  });
});

describe("lost workers", () => {
  it("puts the job back, counts the attempt, and shows retries; the third loss fails it (F-15)", async () => {
    const id = await taken();
    daemon.pool.exit(worker.id, { code: 137, reason: "it was killed for memory" });
    await daemon.until("the job is back", async () => (await jobBody(id)).status === "IN_QUEUE");
    for (const retries of [1, 2]) {
      const next = await daemon.nextWorker();
      expect((await next.takeJob()).id).toBe(id);
      expect((await jobBody(id)).retries).toBe(retries);
      daemon.pool.exit(next.id, { code: 1, reason: "it crashed" });
      await daemon.until("the loss is seen", async () => (await jobBody(id)).status !== "IN_PROGRESS");
    }
    const body = await jobBody(id);
    expect(body).toMatchObject({
      status: "FAILED",
      error: expect.stringContaining("worker_lost"),
      retries: 2,
    });
    const detail = parsed(jobDetailSchema, await daemon.call("GET", `/api/jobs/${id}`));
    expect(detail.failure).toBe("worker_lost");
    expect(detail.events.filter(({ kind }) => kind === "job.lose")).toHaveLength(3);
  });
});
