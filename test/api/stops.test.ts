import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { jobBodySchema } from "../../src/contract/schemas/job.ts";
import { TAKE_HOLD_MS } from "../../src/runtime/service/deliveries.ts";
import { parsed, startTestDaemon, type TestDaemon } from "../support/test-daemon.ts";
import type { TestWorker } from "../support/test-worker.ts";

const STOP_HOLD_MS = 25_000;

let daemon: TestDaemon;
let endpoint: string;
let worker: TestWorker;

beforeEach(async () => {
  daemon = await startTestDaemon();
  ({ endpoint, worker } = await daemon.ready());
});
afterEach(() => daemon.stop());

const jobBody = async (id: string) =>
  parsed(jobBodySchema, await daemon.call("GET", `/v2/${endpoint}/status/${id}`));
const cancel = (id: string) => daemon.call("POST", `/v2/${endpoint}/cancel/${id}`);
const asked = () => daemon.pool.started[0]?.asked ?? [];

async function taken(body?: unknown): Promise<string> {
  const id = await daemon.submit(endpoint, body);
  await worker.takeJob({ jobInProgress: 1 });
  return id;
}

describe("job-stop", () => {
  it("is held, below the SDK's 90 s, then 204", async () => {
    const poll = worker.stopPoll();
    await daemon.until("it is held", () => daemon.clock.sleeps(STOP_HOLD_MS) === 1);
    await daemon.clock.advance(STOP_HOLD_MS);
    expect((await poll).status).toBe(204);
  });

  it("names a cancelled job at once; the job is final whatever the worker says after", async () => {
    const poll = worker.stopPoll();
    await daemon.until("it is held", () => daemon.clock.sleeps(STOP_HOLD_MS) === 1);
    const id = await taken();
    expect((await cancel(id)).json()).toEqual({ id, status: "CANCELLED" });
    const reply = await poll;
    expect([reply.status, reply.json()]).toEqual([200, { jobsToStop: [id] }]);
    expect(reply.headers.get("content-type")).toBe("application/json");
    await worker.done(id, { output: "late" });
    expect((await jobBody(id)).status).toBe("CANCELLED");
  });

  it("names a job whose execution time is used up: FAILED, timed out after N retries", async () => {
    const poll = worker.stopPoll();
    await daemon.until("it is held", () => daemon.clock.sleeps(STOP_HOLD_MS) === 1);
    const id = await taken({ input: 1, policy: { executionTimeout: 5_000 } });
    await daemon.clock.advance(6_500);
    expect((await poll).json()).toEqual({ jobsToStop: [id] });
    const body = await jobBody(id);
    expect(body).toMatchObject({
      status: "FAILED",
      error: "job timed out after 0 retries",
      workerId: worker.id,
    });
    expect(body.executionTime).toBeGreaterThanOrEqual(5_000);
    expect(body.output).toBeUndefined();
  });

  it("keeps the worker when it lets go of the job, and kills it after the grace when it does not (F-16)", async () => {
    const first = worker.stopPoll();
    await daemon.until("it is held", () => daemon.clock.sleeps(STOP_HOLD_MS) === 1);
    const stopped = await taken();
    await cancel(stopped);
    await first;
    const next = worker.takeJob({ jobInProgress: 0 });
    await daemon.until("the take is held", () => daemon.clock.sleeps(TAKE_HOLD_MS) === 1);
    const second = worker.stopPoll();
    await daemon.until("it is held", () => daemon.clock.sleeps(STOP_HOLD_MS) === 1);
    await daemon.clock.advance(15_000);
    await worker.ping();
    expect(asked()).toEqual([]);
    const stuck = await daemon.submit(endpoint);
    expect((await next).id).toBe(stuck);
    await cancel(stuck);
    expect((await second).json()).toEqual({ jobsToStop: [stuck] });
    const third = worker.stopPoll().catch(() => null);
    await daemon.clock.advance(9_000);
    expect(asked()).toEqual([]);
    await daemon.clock.advance(1_500);
    expect(asked()).toContain("kill");
    expect((await worker.ping()).status).toBe(401);
    await third;
  });

  it("never asked for by the worker: cancel kills it at once, and the job goes to nobody", async () => {
    const id = await taken();
    await cancel(id);
    await daemon.until("it is killed", () => asked().includes("kill"));
    expect((await jobBody(id)).status).toBe("CANCELLED");
    expect((await worker.take()).status).toBe(401);
    const next = await daemon.submit(endpoint);
    const fresh = await daemon.nextWorker();
    expect((await fresh.takeJob()).id).toBe(next);
  });

  it("counts the other jobs of a killed worker as lost attempts, and runs them again", async () => {
    const stopped = await daemon.submit(endpoint);
    const other = await daemon.submit(endpoint);
    await worker.take({ batch: 2, jobInProgress: 1 });
    await cancel(stopped);
    const fresh = await daemon.nextWorker();
    expect((await fresh.takeJob()).id).toBe(other);
    expect((await jobBody(other)).retries).toBe(1);
  });

  it("offers the stop again when the reply did not arrive", async () => {
    const leaving = new AbortController();
    const lost = worker.stopPoll(leaving.signal).catch(() => null);
    await daemon.until("it is held", () => daemon.clock.sleeps(STOP_HOLD_MS) === 1);
    const id = await taken();
    leaving.abort();
    await lost;
    await daemon.until("the close is seen", () => daemon.clock.sleeps(STOP_HOLD_MS) === 0);
    await cancel(id);
    expect((await worker.stopPoll()).json()).toEqual({ jobsToStop: [id] });
  });

  it("tells of a job whose ttl passed while it ran: TIMED_OUT, then 404 after the retention", async () => {
    const poll = worker.stopPoll();
    await daemon.until("it is held", () => daemon.clock.sleeps(STOP_HOLD_MS) === 1);
    const id = await taken({ input: 1, policy: { ttl: 10_000 } });
    await daemon.clock.advance(11_500);
    expect((await poll).json()).toEqual({ jobsToStop: [id] });
    expect(await jobBody(id)).toMatchObject({ status: "TIMED_OUT", workerId: worker.id });
    await daemon.clock.advance(31 * 60_000);
    expect((await daemon.call("GET", `/v2/${endpoint}/status/${id}`)).status).toBe(404);
  });
});
