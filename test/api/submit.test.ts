import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { errorBodySchema } from "../../src/contract/schemas/daemon.ts";
import { jobBodySchema } from "../../src/contract/schemas/job.ts";
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

const run = (body: unknown, headers: Record<string, string> = {}) =>
  daemon.call("POST", `/v2/${endpoint}/run`, { body, headers });
const runSync = (query: string, body: unknown = { input: {} }, headers: Record<string, string> = {}) =>
  daemon.call("POST", `/v2/${endpoint}/runsync${query}`, { body, headers });
const status = (id: string) => daemon.call("GET", `/v2/${endpoint}/status/${id}`);

function expectError(reply: Reply, code: number, text?: RegExp): void {
  expect(reply.status).toBe(code);
  const body = errorBodySchema.parse(reply.json());
  expect(body.error).toMatch(text ?? /\S/);
}

describe("/run", () => {
  it("answers exactly 200 with id and IN_QUEUE, as does every client operation (rule 1)", async () => {
    const reply = await run({ input: { a: 1 } });
    expect(reply.status).toBe(200);
    expect(reply.headers.get("content-type")).toBe("application/json");
    expect(reply.json()).toEqual({ id: expect.stringMatching(/^[A-Za-z0-9_-]+$/), status: "IN_QUEUE" });
    const id = String(reply.json().id);
    expect((await status(id)).status).toBe(200);
    expect((await daemon.call("POST", `/v2/${endpoint}/cancel/${id}`)).status).toBe(200);
    expect((await daemon.call("POST", `/v2/${endpoint}/purge-queue`)).status).toBe(200);
  });

  it("hands the worker the input byte for byte: big integers, 1e400, unicode, escapes (D4)", async () => {
    const input =
      '{"big":12345678901234567890,"huge":1e400,"zero":-0.0,"t":"\\u00e9\\ud83d\\ude00é😀\\/","lone":"\\ud800","n":1.10}';
    const { id } = (await run(`{"input": ${input} }`)).json();
    const taken = await worker.take();
    expect(taken.text).toContain(`"input":${input}`);
    await worker.done(String(id), `{"output": ${input}}`);
    expect((await status(String(id))).text).toContain(`"output":${input}`);
  });

  it.each([["{}"], ["null"], ["[]"], ['"text"'], ["0"], ["false"]])(
    "takes the input %s as present and sends it to the worker (rule 8)",
    async (input) => {
      const reply = await run(`{"input":${input}}`);
      expect(reply.status).toBe(200);
      expect((await worker.take()).text).toBe(`{"id":"${reply.json().id}","input":${input}}`);
    },
  );

  it("refuses what is no request with 400 and an error body", async () => {
    for (const body of [
      "",
      "{",
      "[]",
      "null",
      '"x"',
      "{}",
      '{"inputs":{}}',
      '{"input":{}}x',
      '{"input":NaN}',
    ])
      expectError(await run(body), 400);
    expectError(await run(new Uint8Array([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x7d])), 400, /UTF-8/);
    expect(daemon.store.journal.read({ limit: 1_000 }).filter(({ kind }) => kind === "job.submit")).toEqual(
      [],
    );
  });

  it("reads JSON whatever the content type says", async () => {
    for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/xml"])
      expect((await run({ input: 1 }, { "content-type": type })).status).toBe(200);
  });

  it("accepts an input nested 200 levels deep and refuses 201 with 400 (F-30)", async () => {
    const nested = (levels: number) => `{"input":${"[".repeat(levels)}${"]".repeat(levels)}}`;
    expect((await run(nested(200))).status).toBe(200);
    expectError(await run(nested(201)), 400, /deep|nest/);
    expectError(await run(`{"input":${"[".repeat(1_000_000)}`), 400);
  });

  it("passes __proto__ inside input through as data and pollutes nothing (T-19)", async () => {
    const input = '{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}';
    await run(`{"input":${input}}`);
    expect((await worker.take()).text).toContain(`"input":${input}`);
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
  });

  it("hands every other member on at top level, except what breaks the SDK's job tracker", async () => {
    const s3 = { accessId: "a", accessSecret: "b", bucketName: "c", endpointUrl: "http://d" };
    const body = JSON.stringify({
      input: 1,
      s3Config: s3,
      mine: { big: 0 },
      policy: { ttl: 20_000 },
      batchId: "batch_1",
    }).replace('"big":0', '"big":12345678901234567890');
    await run(
      `${body.slice(0, -1)},"id":"forged","self":1,"__class__":2,"__proto__":{"x":1},"no-name":3,"1st":4,"é":5,"":6}`,
    );
    const taken = await worker.take();
    expect(taken.text).toContain('"big":12345678901234567890');
    const job = taken.json();
    expect(Object.keys(job).sort()).toEqual(["batchId", "id", "input", "mine", "policy", "s3Config"]);
    expect(job.id).not.toBe("forged");
    expect(job.s3Config).toEqual(s3);
  });

  it.each([
    [{ executionTimeout: 4_999 }, /5000 to 604800000/],
    [{ executionTimeout: 604_800_001 }, /5000 to 604800000/],
    [{ executionTimeout: "5000" }, /executionTimeout/],
    [{ executionTimeout: 5_000.5 }, /executionTimeout/],
    [{ ttl: 9_999 }, /10000 to 604800000/],
    [{ ttl: 604_800_001 }, /10000 to 604800000/],
    [{ lowPriority: "yes" }, /lowPriority/],
    ["fast", /policy/],
  ])("refuses the policy %j with 400 naming the range", async (policy, text) => {
    expectError(await run({ input: 1, policy }), 400, text);
  });

  it("takes a policy at the ends of its ranges", async () => {
    for (const policy of [
      { executionTimeout: 5_000, ttl: 10_000, lowPriority: true },
      { executionTimeout: 604_800_000, ttl: 604_800_000, lowPriority: false },
      null,
      {},
    ])
      expect((await run({ input: 1, policy })).status).toBe(200);
  });

  it("refuses a body over 10 MB with 413 that reaches the sender; /runsync takes up to 20 MB (F-30)", async () => {
    const body = (bytes: number) => `{"input":"${"x".repeat(bytes - 12)}"}`;
    expect((await run(body(10_000_000))).status).toBe(200);
    expectError(await run(body(10_000_001)), 413);
    expectError(await runSync("", body(20_000_001)), 413);
    const { id } = (await daemon.call("POST", `/v2/${endpoint}/purge-queue`)).json();
    expect(id).toBeUndefined();
    const held = runSync("", body(20_000_000));
    const job = await worker.takeJob();
    await worker.done(job.id, {});
    expect((await held).status).toBe(200);
  });

  it("hands out low-priority jobs after all others", async () => {
    const low = await daemon.submit(endpoint, { input: 1, policy: { lowPriority: true } });
    const first = await daemon.submit(endpoint);
    const second = await daemon.submit(endpoint);
    const order = [await worker.takeJob(), await worker.takeJob({ jobInProgress: 1 })];
    expect(order.map(({ id }) => id)).toEqual([first, second]);
    expect((await worker.takeJob({ jobInProgress: 1 })).id).toBe(low);
  });
});

describe("/runsync", () => {
  it("is held until the end and answers the job's body", async () => {
    const held = runSync("");
    const job = await worker.takeJob();
    expect(job.id).toMatch(/^sync-/);
    await daemon.clock.advance(1_500);
    await worker.done(job.id, { output: { ok: true } });
    const body = parsed(jobBodySchema, await held);
    expect(body).toEqual({
      id: job.id,
      status: "COMPLETED",
      output: { ok: true },
      delayTime: expect.any(Number),
      executionTime: expect.any(Number),
      workerId: worker.id,
    });
    expect(body.executionTime).toBeGreaterThanOrEqual(1_500);
  });

  it.each([
    ["?wait=1", 1_000],
    ["?wait=-5", 1_000],
    ["?wait=2345", 2_345],
    ["?wait=2345.5", 2_345.5],
    ["?wait=999999999", 300_000],
    ["", 90_000],
  ])(
    "%j: holds for the wait clamped to 1000..300000 ms, then 200 with id and state",
    async (query, waitMs) => {
      const before = daemon.clock.sleeps(waitMs);
      const held = runSync(query);
      await daemon.until("it is held", () => daemon.clock.sleeps(waitMs) > before);
      await daemon.clock.advance(waitMs);
      const body = parsed(jobBodySchema, await held);
      expect(body).toEqual({ id: expect.stringMatching(/^sync-/), status: "IN_QUEUE" });
    },
  );

  it.each(["abc", "", "NaN", "Infinity", "5s", "1,000"])("refuses wait=%j with 400", async (wait) => {
    expectError(await runSync(`?wait=${wait}`), 400, /wait/);
  });

  it("keeps its result one minute, five when wait was given; /run keeps it 30", async () => {
    const ids = [await daemon.submit(endpoint)];
    for (const query of ["", "?wait=60000"]) {
      const held = runSync(query);
      await daemon.until("held", () => daemon.clock.sleeps(query ? 60_000 : 90_000) > 0);
      const queued = daemon.store.jobs.list({ states: ["IN_QUEUE"], limit: 9 }).map(({ id }) => String(id));
      await daemon.call("POST", `/v2/${endpoint}/cancel/${queued.find((id) => id.startsWith("sync-"))}`);
      ids.push(parsed(jobBodySchema, await held).id);
    }
    const [asyncId, short, long] = ids as [string, string, string];
    await daemon.call("POST", `/v2/${endpoint}/cancel/${asyncId}`);
    const codes = async () => [
      (await status(short)).status,
      (await status(long)).status,
      (await status(asyncId)).status,
    ];
    expect(await codes()).toEqual([200, 200, 200]);
    await daemon.clock.advance(61_000);
    expect(await codes()).toEqual([404, 200, 200]);
    await daemon.clock.advance(240_000);
    expect(await codes()).toEqual([404, 404, 200]);
    await daemon.clock.advance(1_500_000);
    expect(await codes()).toEqual([404, 404, 404]);
  });

  it("lets the job go on when the client leaves, and leaks no listener (F-27)", async () => {
    const aborted = new AbortController();
    const held = daemon
      .call("POST", `/v2/${endpoint}/runsync?wait=77777`, { body: { input: 1 }, signal: aborted.signal })
      .catch(() => "gone");
    await daemon.until("it is held", () => daemon.clock.sleeps(77_777) === 1);
    aborted.abort();
    expect(await held).toBe("gone");
    await daemon.until("the waiter is freed", () => daemon.clock.sleeps(77_777) === 0);
    const job = await worker.takeJob();
    await worker.done(job.id, { output: 5 });
    expect(parsed(jobBodySchema, await status(job.id)).output).toBe(5);
  });
});

describe("Idempotency-Key", () => {
  const key = (text: string) => ({ "idempotency-key": text });

  it("gives the same job and its present state for the same body, 409 for another (INV-3)", async () => {
    const first = await run({ input: 1 }, key("k"));
    expect((await run({ input: 1 }, key("k"))).json()).toEqual(first.json());
    expectError(await run({ input: 2 }, key("k")), 409);
    const job = await worker.takeJob();
    await worker.done(job.id, { output: 1 });
    expect((await run({ input: 1 }, key("k"))).json()).toEqual({ id: job.id, status: "COMPLETED" });
  });

  it("makes one job of 30 concurrent repeats", async () => {
    const replies = await Promise.all(Array.from({ length: 30 }, () => run({ input: 1 }, key("c"))));
    expect(new Set(replies.map((reply) => reply.json().id)).size).toBe(1);
    expect(daemon.store.jobs.counts(endpoint as never, null).accepted).toBe(1);
  });

  it("answers a repeat after the result's retention, within 24 h, with the same id and runs nothing", async () => {
    const first = await run({ input: 1 }, key("late"));
    await worker.done((await worker.takeJob()).id, { output: 1 });
    const sync = runSync("", { input: 2 }, key("sync"));
    const second = await worker.takeJob();
    await worker.done(second.id, { output: 1 });
    expect((await sync).status).toBe(200);
    await daemon.clock.advance(31 * 60_000);
    const repeat = await run({ input: 1 }, key("late"));
    expect([repeat.status, repeat.json()]).toEqual([200, { id: first.json().id, status: "COMPLETED" }]);
    const again = await runSync("", { input: 2 }, key("sync"));
    expect([again.status, again.json()]).toEqual([200, { id: second.id, status: "COMPLETED" }]);
    expect(daemon.store.jobs.counts(endpoint as never, null).accepted).toBe(2);
  });

  it("stores no refusal: a corrected request with the same key runs", async () => {
    expectError(await run({}, key("v")), 400);
    expect((await run({ input: 1 }, key("v"))).status).toBe(200);
    expectError(await run({ input: 1 }, key("x".repeat(256))), 400);
  });
});

describe("queue limits", () => {
  it("answers 429 with Retry-After once max_queued jobs wait, and takes more when one has left", async () => {
    const full = await daemon.deploy("full", { workers: { max: 0 }, scale: { max_queued: 2 } });
    const submit = () => daemon.call("POST", `/v2/${full}/run`, { body: { input: 1 } });
    const codes = (await Promise.all([submit(), submit(), submit()])).map((reply) => reply.status).sort();
    expect(codes).toEqual([200, 200, 429]);
    const refused = await submit();
    expectError(refused, 429);
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
    await daemon.call("POST", `/v2/${full}/purge-queue`);
    expect((await submit()).status).toBe(200);
  });

  it("answers 429 once an owner has its limit of jobs waiting on all endpoints; others go on", async () => {
    const other = await daemon.deploy("other", { workers: { max: 0 } });
    const alice = await daemon.key("alice", { endpoints: ["hello", "other"], maxQueued: 1 });
    const submit = (to: string, key?: string) =>
      daemon.call("POST", `/v2/${to}/run`, { body: { input: 1 }, ...(key && { key }) });
    expect((await submit(other, alice)).status).toBe(200);
    expectError(await submit(endpoint, alice), 429);
    expect((await submit(endpoint)).status).toBe(200);
  });

  it("answers 503 with Retry-After on a full disk; reads go on and running jobs keep results (F-07)", async () => {
    const id = await daemon.submit(endpoint);
    await worker.takeJob();
    daemon.disk.freeBytes = 0;
    await daemon.clock.advance(2_000);
    const refused = await run({ input: 1 });
    expectError(refused, 503, /disk/);
    expect(refused.headers.get("retry-after")).not.toBeNull();
    await worker.done(id, { output: 1 });
    expect(parsed(jobBodySchema, await status(id)).status).toBe("COMPLETED");
    daemon.disk.freeBytes = 10_000_000_000;
    await daemon.clock.advance(2_000);
    expect((await run({ input: 1 })).status).toBe(200);
  });
});
