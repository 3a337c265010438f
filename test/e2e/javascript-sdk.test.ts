import runpodSdk from "runpod-sdk";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type RealDaemon, startRealDaemon } from "../support/real-daemon.ts";
import { createFolder, deploy, EXAMPLES } from "./endpoint.ts";

const STREAM = `
import time
import runpod

def handler(job):
    for number in range(job["input"]["chunks"]):
        time.sleep(0.05)
        yield {"number": number}

runpod.serverless.start({"handler": handler, "return_aggregate_stream": True})
`;

const SLOW = `
import time
import runpod

def handler(job):
    time.sleep(job["input"]["seconds"])
    return job["input"]

runpod.serverless.start({"handler": handler})
`;

let daemon: RealDaemon;
const folder = createFolder();

/** The endpoint as the unmodified npm package sees it. */
function sdk(name: string) {
  const endpoint = runpodSdk(daemon.key, { baseUrl: `${daemon.url}/v2` }).endpoint(name);
  if (!endpoint) throw new Error("the package gave no endpoint");
  return endpoint;
}

beforeAll(async () => {
  daemon = await startRealDaemon();
  await deploy(daemon, "hello", { folder: `${EXAMPLES}/hello`, handler: "handler.py" });
  await deploy(daemon, "chunks", { folder: folder.write({ "handler.py": STREAM }), handler: "handler.py" });
  await deploy(
    daemon,
    "slow",
    { folder: folder.write({ "handler.py": SLOW }), handler: "handler.py" },
    { workers: { max: 1 } },
  );
});

afterAll(async () => {
  folder.remove();
  expect(await daemon.stop()).toBe(0);
});

describe("the npm package runpod-sdk", () => {
  test("runSync from zero workers", async () => {
    const done = await sdk("hello").runSync({ input: { name: "Ada" } });
    expect(done).toMatchObject({
      status: "COMPLETED",
      output: "Hello, Ada!",
      started: true,
      completed: true,
      succeeded: true,
      delayTime: expect.any(Number),
      executionTime: expect.any(Number),
    });
  });

  test("run, status and statusSync", async () => {
    const ticket = await sdk("hello").run({ input: { name: "Bob" } });
    expect(ticket).toEqual({ id: expect.stringMatching(/^[A-Za-z0-9_-]+$/), status: "IN_QUEUE" });
    const done = await sdk("hello").statusSync(ticket.id);
    expect(done).toMatchObject({ status: "COMPLETED", output: "Hello, Bob!", succeeded: true });
    expect(await sdk("hello").status(ticket.id)).toMatchObject({ ...done, completed: true });
  });

  test("a failed job: its error reaches the client", async () => {
    const done: Record<string, unknown> = { ...(await sdk("hello").runSync({ input: {} })) };
    expect(done).toMatchObject({ status: "FAILED", completed: true, succeeded: false });
    expect(JSON.parse(String(done.error))).toMatchObject({ error_type: "<class 'KeyError'>" });
  });

  test("stream: every chunk once and in order, then the end", async () => {
    const { id } = await sdk("chunks").run({ input: { chunks: 20 } });
    const numbers: number[] = [];
    for await (const chunk of sdk("chunks").stream(id)) numbers.push(chunk.output.number);
    expect(numbers).toEqual(Array.from({ length: 20 }, (_, n) => n));
    const done = await sdk("chunks").status(id);
    expect(done).toMatchObject({ status: "COMPLETED", output: numbers.map((number) => ({ number })) });
  });

  test("stream of a job that waits for its worker, and of one that yields nothing", async () => {
    const { id } = await sdk("chunks").run({ input: { chunks: 0 } });
    const chunks: unknown[] = [];
    for await (const chunk of sdk("chunks").stream(id)) chunks.push(chunk);
    expect(chunks).toEqual([]);
  });

  test("a job longer than its wait: the answer comes within the wait, the job goes on", async () => {
    const startedMs = performance.now();
    const first: Record<string, unknown> = {
      ...(await sdk("slow").runSync({ input: { seconds: 3 } }, 1_000)),
    };
    expect(performance.now() - startedMs).toBeLessThan(3_500);
    expect(first).toMatchObject({ id: expect.any(String), started: true, completed: false });
    const done = await sdk("slow").statusSync(String(first.id));
    expect(done).toMatchObject({ status: "COMPLETED", output: { seconds: 3 } });
  });

  test("a job longer than several waits: runSync polls until it ends", async () => {
    const done = await sdk("slow").runSync({ input: { seconds: 2.5 } }, 5_000);
    expect(done).toMatchObject({ status: "COMPLETED", succeeded: true });
  });

  test("cancel a running and a waiting job, purgeQueue, health", async () => {
    const running = await sdk("slow").run({ input: { seconds: 30 } });
    await expect
      .poll(async () => (await sdk("slow").status(running.id)).status, { timeout: 10_000 })
      .toBe("IN_PROGRESS");
    const waiting = await Promise.all([1, 2, 3].map(() => sdk("slow").run({ input: { seconds: 30 } })));
    expect((await sdk("slow").health()).jobs).toMatchObject({ inProgress: 1, inQueue: 3 });
    expect(await sdk("slow").cancel(String(waiting[0]?.id))).toMatchObject({
      id: waiting[0]?.id,
      status: "CANCELLED",
    });
    expect(await sdk("slow").purgeQueue()).toEqual({ removed: 2, status: "completed" });
    expect(await sdk("slow").cancel(running.id)).toMatchObject({ id: running.id, status: "CANCELLED" });
    expect(await sdk("slow").status(running.id)).toMatchObject({ status: "CANCELLED", completed: true });
    const health = await sdk("slow").health();
    expect(Object.keys(health.jobs).sort()).toEqual([
      "completed",
      "failed",
      "inProgress",
      "inQueue",
      "retried",
    ]);
    expect(Object.keys(health.workers).sort()).toEqual([
      "idle",
      "initializing",
      "ready",
      "running",
      "throttled",
      "unhealthy",
    ]);
    expect(health.jobs).toMatchObject({ inProgress: 0, inQueue: 0, failed: 0 });
    // The worker is free again: a job that follows runs.
    expect(await sdk("slow").runSync({ input: { seconds: 0 } })).toMatchObject({ status: "COMPLETED" });
  });

  test("an unknown endpoint and a wrong key are errors", async () => {
    await expect(sdk("nobody").runSync({ input: {} })).rejects.toThrow();
    const stranger = runpodSdk("rpx_wrong", { baseUrl: `${daemon.url}/v2` }).endpoint("hello");
    await expect(stranger?.run({ input: {} })).rejects.toThrow();
  });
});
