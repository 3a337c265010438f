import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { z } from "zod";
import { errorBodySchema } from "../../src/contract/schemas/daemon.ts";
import { TAKE_HOLD_MS } from "../../src/runtime/service/deliveries.ts";
import { openRaw } from "../support/raw-http.ts";
import { parsed, startTestDaemon, type TestDaemon } from "../support/test-daemon.ts";
import type { Reply, TestWorker } from "../support/test-worker.ts";

const streamSchema = z.strictObject({
  status: z.string(),
  stream: z.array(z.strictObject({ output: z.unknown() })),
});
/** A hold that no other sleep of the daemon has. */
const WAIT_MS = 7_321;

let daemon: TestDaemon;
let endpoint: string;
let worker: TestWorker;

beforeEach(async () => {
  daemon = await startTestDaemon();
  ({ endpoint, worker } = await daemon.ready());
});
afterEach(() => daemon.stop());

const read = (id: string, wait = WAIT_MS, signal?: AbortSignal): Promise<Reply> =>
  daemon.call("GET", `/v2/${endpoint}/stream/${id}?wait=${wait}`, { ...(signal && { signal }) });
const page = async (id: string) => {
  const { status, stream } = parsed(streamSchema, await read(id));
  return { status, chunks: stream.map(({ output }) => output) };
};
const held = (waitMs: number) => daemon.until("the read is held", () => daemon.clock.sleeps(waitMs) > 0);

async function taken(): Promise<string> {
  const id = await daemon.submit(endpoint);
  await worker.takeJob();
  return id;
}

/** Reads an event stream until its text satisfies the condition. */
async function events(id: string, key = daemon.adminKey) {
  const connection = await openRaw(Number(new URL(daemon.url).port));
  connection.socket.write(
    `GET /v2/${endpoint}/stream/${id} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: ${key}\r\nAccept: text/event-stream\r\n\r\n`,
  );
  return connection;
}

describe("/stream", () => {
  it("gives the chunks since the last read in order of arrival, once each", async () => {
    const id = await taken();
    for (const n of [1, 2]) await worker.chunk(id, { output: { n } });
    expect(await page(id)).toEqual({ status: "IN_PROGRESS", chunks: [{ n: 1 }, { n: 2 }] });
    await worker.chunk(id, { output: "three" });
    expect(await page(id)).toEqual({ status: "IN_PROGRESS", chunks: ["three"] });
  });

  it("is held until a chunk comes, and its body is the object form with an array (rules 2 and 3)", async () => {
    const id = await daemon.submit(endpoint);
    const reading = read(id);
    await held(WAIT_MS);
    await worker.takeJob();
    await worker.chunk(id, { output: null });
    expect((await reading).text).toBe('{"status":"IN_PROGRESS","stream":[{"output":null}]}');
  });

  it("without wait holds 5 s, below the 10 s of the clients, then answers an empty array", async () => {
    const id = await taken();
    const before = daemon.clock.sleeps(5_000);
    const reading = daemon.call("GET", `/v2/${endpoint}/stream/${id}`);
    await daemon.until("the read is held", () => daemon.clock.sleeps(5_000) > before);
    await daemon.clock.advance(5_000);
    expect(parsed(streamSchema, await reading)).toEqual({ status: "IN_PROGRESS", stream: [] });
  });

  it.each([
    [1, 1_000],
    [400_000, 300_000],
  ])("clamps wait=%d to %d ms and refuses what is no number", async (wait, waitMs) => {
    const id = await taken();
    const before = daemon.clock.sleeps(waitMs);
    const reading = read(id, wait);
    await daemon.until("the read is held", () => daemon.clock.sleeps(waitMs) > before);
    await worker.done(id, { output: [] });
    expect((await reading).status).toBe(200);
    const refused = await daemon.call("GET", `/v2/${endpoint}/stream/${id}?wait=x`);
    expect(refused.status).toBe(400);
    expect(errorBodySchema.parse(refused.json()).error).toMatch(/wait/);
  });

  it("shows the final status only with the last chunks, and then an empty array for ever", async () => {
    const id = await taken();
    await worker.chunk(id, { output: 1 });
    await worker.chunk(id, { output: 2 });
    await worker.done(id, { output: [] }, { isStream: true });
    expect(await page(id)).toEqual({ status: "COMPLETED", chunks: [1, 2] });
    for (let n = 0; n < 3; n += 1) expect(await page(id)).toEqual({ status: "COMPLETED", chunks: [] });
  });

  it("stays IN_PROGRESS while chunks remain for a later reply, though the job has ended", async () => {
    const id = await taken();
    const chunk = "x".repeat(5_000_000);
    for (let n = 0; n < 3; n += 1) await worker.chunk(id, { output: `${n}${chunk}` });
    await worker.done(id, { output: [] }, { isStream: true });
    const seen: string[] = [];
    for (;;) {
      const { status, chunks } = await page(id);
      seen.push(...chunks.map((text) => String(text).charAt(0)));
      expect(status).toBe(seen.length < 3 ? "IN_PROGRESS" : "COMPLETED");
      expect(chunks.length).toBeGreaterThan(0);
      if (status === "COMPLETED") break;
    }
    expect(seen).toEqual(["0", "1", "2"]);
  });

  it("of a job without chunks gives its status and an empty array", async () => {
    const id = await taken();
    await worker.done(id, { output: { plain: true } });
    expect(await page(id)).toEqual({ status: "COMPLETED", chunks: [] });
    const cancelled = await daemon.submit(endpoint);
    await daemon.call("POST", `/v2/${endpoint}/cancel/${cancelled}`);
    expect(await page(cancelled)).toEqual({ status: "CANCELLED", chunks: [] });
  });

  it("passes chunks on byte for byte, also NaN repaired to null", async () => {
    const id = await taken();
    await worker.chunk(id, '{"output": {"n": 12345678901234567890, "t": "\\u00e9\\n"}}');
    await worker.chunk(id, '{"output": [NaN, -Infinity]}');
    const { text } = await read(id);
    expect(text).toContain('{"output":{"n": 12345678901234567890, "t": "\\u00e9\\n"}}');
    expect(text).toContain('{"output":[null, null]}');
  });

  it("gives the chunks to the next reader when the client vanished under the reply", async () => {
    const id = await taken();
    const leaving = new AbortController();
    const reading = read(id, WAIT_MS, leaving.signal).catch(() => "gone");
    await held(WAIT_MS);
    leaving.abort();
    expect(await reading).toBe("gone");
    await daemon.until("the waiter is freed", () => daemon.clock.sleeps(WAIT_MS) === 0);
    await worker.chunk(id, { output: "kept" });
    expect((await page(id)).chunks).toEqual(["kept"]);
  });

  it("sends no chunk twice and none out of order to readers that vanish while chunks arrive", async () => {
    const id = await taken();
    const port = Number(new URL(daemon.url).port);
    const seen: unknown[] = [];
    for (let round = 0; round < 20; round += 1) {
      const connection = await openRaw(port);
      const request = `GET /v2/${endpoint}/stream/${id}?wait=${WAIT_MS} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: ${daemon.adminKey}\r\n\r\n`;
      connection.socket.write(request);
      const answered = () => connection.text().endsWith("}");
      await daemon.until("it is held or answered", () => daemon.clock.sleeps(WAIT_MS) > 0 || answered());
      const outputs = connection.text().matchAll(/"output":(\d+)/g);
      seen.push(...[...outputs].map((match) => Number(match[1])));
      const chunk = worker.chunk(id, { output: round });
      connection.socket.resetAndDestroy();
      await chunk;
      await daemon.until("the waiter is freed", () => daemon.clock.sleeps(WAIT_MS) === 0);
    }
    await worker.done(id, { output: [] });
    // What the kernel took for a socket that was reset is beyond knowing.
    seen.push(...(await page(id)).chunks);
    expect(seen).toEqual([...(seen as number[])].sort((a, b) => a - b));
    expect(new Set(seen).size).toBe(seen.length);
    expect(seen.length).toBeGreaterThan(0);
  });

  it("is 404 for unknown jobs, at once, and a chunk after the end is ignored (F-21)", async () => {
    expect((await read("nobody")).status).toBe(404);
    const id = await taken();
    await worker.done(id, { output: [] });
    const late = await worker.chunk(id, { output: "late" });
    expect([late.status, late.json()]).toEqual([200, { ignored: true }]);
    expect(await page(id)).toEqual({ status: "COMPLETED", chunks: [] });
  });

  it("starts anew for another attempt: chunks of the lost one are dropped (INV-4)", async () => {
    const id = await taken();
    await worker.chunk(id, { output: "lost" });
    // In doubt whether it was said after the delivery, an idle take is answered with nothing; the worker says it again.
    const first = worker.take({ jobInProgress: 0 });
    await daemon.until("a take is held", () => daemon.clock.sleeps(TAKE_HOLD_MS) > 0);
    await daemon.clock.advance(1_100);
    expect((await first).status).toBe(204);
    expect((await worker.takeJob({ jobInProgress: 0 })).id).toBe(id);
    await worker.chunk(id, { output: "second" });
    expect((await page(id)).chunks).toEqual(["second"]);
  });
});

describe("/stream as events", () => {
  it("sends each chunk as it comes and ends with the job's body", async () => {
    const id = await taken();
    const connection = await events(id);
    await connection.until((text) => text.includes("text/event-stream"));
    await worker.chunk(id, '{"output": {"a":\n 1}}');
    await connection.until((text) => /data: \{"output":\{"a":\s+1\}\}\n\n/.test(text));
    await worker.done(id, { output: [] });
    const text = await connection.until((all) => all.includes("event: end"));
    const body = /event: end\ndata: (.*)\n/.exec(text)?.[1] ?? "{}";
    expect(JSON.parse(body)).toMatchObject({ id, status: "COMPLETED" });
    connection.socket.destroy();
  });

  it("stays open with comments while nothing comes", async () => {
    const id = await taken();
    const connection = await events(id);
    await connection.until((text) => text.includes("text/event-stream"));
    await daemon.clock.advance(5_100);
    await connection.until((text) => text.includes(": waiting"));
    connection.socket.destroy();
  });

  it("closes within 5 s of its key's end; the next request is 401 (F-47)", async () => {
    const key = await daemon.key("leaving", { endpoints: [endpoint], scope: "run" });
    const id = await daemon.submit(endpoint, { input: 1 }, { key });
    const connection = await events(id, key);
    await connection.until((text) => text.includes("text/event-stream"));
    expect((await daemon.call("DELETE", "/api/keys/leaving")).status).toBe(200);
    expect((await daemon.call("GET", `/v2/${endpoint}/status/${id}`, { key })).status).toBe(401);
    await daemon.clock.advance(5_000);
    const closed = connection
      .until((text) => text.includes("\r\n0\r\n\r\n"))
      .catch((error: Error) => error.message);
    await worker.takeJob();
    await worker.chunk(id, { output: "secret" });
    expect(await closed).not.toContain("secret");
    connection.socket.destroy();
  });
});
