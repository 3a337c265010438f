import { createHmac } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { startTestDaemon, type TestDaemon } from "../support/test-daemon.ts";
import type { TestWorker } from "../support/test-worker.ts";

type Hook = {
  readonly method: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  readonly atMs: number;
};

let daemon: TestDaemon;
let endpoint: string;
let worker: TestWorker;
let receiver: Awaited<ReturnType<typeof startReceiver>>;

beforeEach(async () => {
  daemon = await startTestDaemon();
  ({ endpoint, worker } = await daemon.ready());
  receiver = await startReceiver();
});
afterEach(async () => {
  await receiver.close();
  await daemon.stop();
});

/** A real receiver on loopback that keeps what it gets. */
async function startReceiver() {
  const hooks: Hook[] = [];
  const answers: number[] = [];
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk) => {
      body += chunk;
    });
    request.on("end", () => {
      const { method = "", headers } = request;
      hooks.push({ method, headers, body, atMs: daemon.clock.nowMs() });
      response.writeHead(answers.shift() ?? 200, { location: "http://127.0.0.1/elsewhere" }).end();
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`,
    hooks,
    /** Statuses of the next answers; 200 after them. */
    answers,
    close: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

async function ended(body: Record<string, unknown>, result: unknown): Promise<string> {
  const id = await daemon.submit(endpoint, { webhook: receiver.url, ...body });
  await worker.takeJob({ jobInProgress: 1 });
  await worker.done(id, result);
  return id;
}

const received = (count: number) =>
  daemon.until(`${count} webhooks arrived`, () => receiver.hooks.length === count && receiver.hooks);
/** Nothing is due any more and nothing under way: what has not come will not. */
const settled = () => daemon.until("the outbox is settled", () => daemon.store.outbox.nextDueMs() === null);
/** No try is due or under way at this moment. */
const recorded = () =>
  daemon.until("the try is recorded", () => {
    const dueMs = daemon.store.outbox.nextDueMs();
    return dueMs === null || dueMs > daemon.clock.nowMs();
  });

describe("webhooks", () => {
  it("are a POST of JSON: status's members plus input and webhook, in RunPod's order, raw", async () => {
    const id = await ended(
      { input: { n: 1 }, extra: 2 },
      '{"output": {"big": 12345678901234567890, "t": "\\u00e9"}}',
    );
    const [hook] = await received(1);
    expect(hook?.method).toBe("POST");
    expect(hook?.headers["content-type"]).toMatch(/^application\/json/);
    const body = JSON.parse(hook?.body ?? "") as Record<string, unknown>;
    const seen = ["delayTime", "executionTime", "id", "input", "output", "status", "webhook"];
    expect(Object.keys(body).filter((name) => name !== "workerId")).toEqual(seen);
    expect(body).toMatchObject({ id, input: { n: 1 }, status: "COMPLETED", webhook: receiver.url });
    expect(hook?.body).toContain('"output":{"big": 12345678901234567890, "t": "\\u00e9"}');
    await settled();
    expect(receiver.hooks).toHaveLength(1);
  });

  it("are sent for FAILED, CANCELLED and TIMED_OUT too", async () => {
    await ended({ input: 1 }, { error: "boom" });
    expect(JSON.parse((await received(1))[0]?.body ?? "")).toMatchObject({
      status: "FAILED",
      error: "boom",
      input: 1,
    });
    const paused = await daemon.deploy("paused", { workers: { max: 0 } });
    const cancelled = await daemon.submit(paused, { input: 1, webhook: receiver.url });
    await daemon.call("POST", `/v2/${paused}/cancel/${cancelled}`);
    expect(JSON.parse((await received(2))[1]?.body ?? "")).toMatchObject({ status: "CANCELLED" });
    await daemon.submit(paused, { input: 1, webhook: receiver.url, policy: { ttl: 10_000 } });
    await daemon.clock.advance(12_000);
    expect(JSON.parse((await received(3))[2]?.body ?? "")).toMatchObject({ status: "TIMED_OUT" });
  });

  it.each([500, 404, 301, 201])(
    "that are answered %d are tried twice more, 10 s apart, with one id",
    async (status) => {
      receiver.answers.push(status, status, status, status);
      const id = await ended({ input: 1 }, { output: 1 });
      await received(1);
      for (const tries of [2, 3]) {
        await recorded();
        await daemon.clock.advance(9_000);
        expect(receiver.hooks).toHaveLength(tries - 1);
        await daemon.clock.advance(1_000);
        await received(tries);
      }
      await settled();
      await daemon.clock.advance(60_000);
      expect(receiver.hooks).toHaveLength(3);
      const ids = new Set(receiver.hooks.map(({ headers }) => headers["webhook-id"]));
      expect([...ids]).toEqual([`msg_${id}_1`]);
      expect(new Set(receiver.hooks.map(({ body }) => body)).size).toBe(1);
    },
  );

  it("stop after the first that is accepted", async () => {
    receiver.answers.push(503);
    await ended({ input: 1 }, { output: 1 });
    await received(1);
    await recorded();
    await daemon.clock.advance(10_000);
    await received(2);
    await settled();
    await daemon.clock.advance(60_000);
    expect(receiver.hooks).toHaveLength(2);
  });

  it("of a retried job carry a new id for the new end (F-29)", async () => {
    const id = await ended({ input: 1 }, { error: "boom" });
    await received(1);
    await settled();
    await daemon.call("POST", `/v2/${endpoint}/retry/${id}`);
    await worker.takeJob({ jobInProgress: 1 });
    await worker.done(id, { output: "second" });
    const hooks = await received(2);
    expect(hooks.map(({ headers }) => headers["webhook-id"])).toEqual([`msg_${id}_1`, `msg_${id}_2`]);
  });

  it("take webhookV2 where webhook is absent", async () => {
    await ended({ input: 1, webhook: undefined, webhookV2: receiver.url }, { output: 1 });
    expect(await received(1)).toHaveLength(1);
  });

  it.each([
    "ftp://127.0.0.1/x",
    "file:///etc/passwd",
    "nonsense",
    "",
    5,
    ["http://a"],
    "http://169.254.169.254/",
    "http://user:pass@127.0.0.1:8080/",
  ])("refuse %j with 400 at submission", async (webhook) => {
    const reply = await daemon.call("POST", `/v2/${endpoint}/run`, { body: { input: 1, webhook } });
    expect([reply.status, String(reply.json().error)]).toEqual([400, expect.stringMatching(/webhook/)]);
  });

  it("never go to the daemon's own listeners (T-16)", async () => {
    const target = await daemon.deploy("target", { workers: { max: 0 } });
    for (const origin of [daemon.url, daemon.workerUrl]) {
      const url = `${origin}/v2/${target}/run`;
      const body = { input: 1, webhook: url };
      const reply = await daemon.call("POST", `/v2/${endpoint}/run`, { body });
      if (reply.status === 400) continue;
      await worker.takeJob({ jobInProgress: 1 });
      await worker.done(String(reply.json().id), { output: 1 });
      for (let n = 0; n < 3; n += 1) {
        await recorded();
        await daemon.clock.advance(10_000);
      }
      await settled();
    }
    const rows = daemon.store.journal.read({ limit: 1_000 });
    expect(rows.filter(({ kind }) => kind === "job.submit")).toHaveLength(2);
    expect(daemon.store.jobs.counts(target as never, null).accepted).toBe(0);
  });

  it("never hold up jobs, and one slow host no others (F-28)", async () => {
    const silent = createServer(() => {});
    silent.listen(0, "127.0.0.1");
    await once(silent, "listening");
    const url = `http://127.0.0.1:${(silent.address() as AddressInfo).port}/`;
    for (let n = 0; n < 6; n += 1) await ended({ input: n, webhook: url }, { output: n });
    await ended({ input: "quick" }, { output: 1 });
    expect(JSON.parse((await received(1))[0]?.body ?? "")).toMatchObject({ input: "quick" });
    silent.closeAllConnections();
    silent.close();
  });
});

describe("webhook signatures (T-16)", () => {
  it("are HMAC-SHA256 over id, time and body with the endpoint's secret, which no answer shows", async () => {
    const secret = `whsec_${Buffer.alloc(32, 7).toString("base64")}`;
    const changed = await daemon.call("PATCH", `/api/endpoints/${endpoint}`, {
      body: { config: { webhook: { secret } } },
    });
    expect(changed.status, changed.text).toBe(200);
    expect(changed.text).not.toContain(secret);
    await ended({ input: {} }, { output: 1 });
    const [hook] = await received(1);
    const {
      "webhook-id": id,
      "webhook-timestamp": timestamp,
      "webhook-signature": signature,
    } = hook?.headers ?? {};
    const digest = createHmac("sha256", Buffer.alloc(32, 7))
      .update(`${id}.${timestamp}.${hook?.body}`)
      .digest("base64");
    expect(signature).toBe(`v1,${digest}`);
    await settled();
  });
});
