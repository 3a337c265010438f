import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { JOB_ROUTES, type Route, routePath, WORKER_ROUTES } from "../../src/contract/routes.ts";
import { errorBodySchema } from "../../src/contract/schemas/daemon.ts";
import { jobBodySchema, jobDetailSchema } from "../../src/contract/schemas/job.ts";
import { TAKE_HOLD_MS } from "../../src/runtime/service/deliveries.ts";
import { openRaw } from "../support/raw-http.ts";
import { parsed, startTestDaemon, type TestDaemon } from "../support/test-daemon.ts";
import { createTestWorker, request, type TestWorker } from "../support/test-worker.ts";

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
const history = async (id: string) =>
  parsed(jobDetailSchema, await daemon.call("GET", `/api/jobs/${id}`)).events.map(({ kind }) => kind);
const takesHeld = (count = 1) =>
  daemon.until(`${count} takes are held`, () => daemon.clock.sleeps(TAKE_HOLD_MS) === count);

async function taken(body?: unknown): Promise<string> {
  const id = await daemon.submit(endpoint, body);
  expect((await worker.takeJob({ jobInProgress: 1 })).id).toBe(id);
  return id;
}

describe("environment", () => {
  it("has URLs with a query and with /job-take/ and the SDK's placeholders (rule 4)", () => {
    const env = daemon.pool.started[0]?.env ?? {};
    for (const name of ["GET_JOB", "POST_OUTPUT", "POST_STREAM", "PING"])
      expect(env[`RUNPOD_WEBHOOK_${name}`]).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/v2\/[^?]+\?gpu=\w+$/);
    expect(env.RUNPOD_WEBHOOK_GET_JOB).toContain("/job-take/$ID?");
    expect(env.RUNPOD_WEBHOOK_POST_OUTPUT).toContain("/job-done/$RUNPOD_POD_ID/$ID?");
    expect(env.RUNPOD_WEBHOOK_POST_STREAM).toContain("/job-stream/$RUNPOD_POD_ID/$ID?");
    expect(env.RUNPOD_WEBHOOK_JOB_STREAM).toBe(env.RUNPOD_WEBHOOK_POST_STREAM);
    expect(env.RUNPOD_WEBHOOK_PING).toContain("/ping/$RUNPOD_POD_ID?");
    expect(Number(env.RUNPOD_PING_INTERVAL)).toBeGreaterThanOrEqual(1_000);
    expect(env.RUNPOD_ENDPOINT_ID).toBe(endpoint);
  });
});

describe("job-take", () => {
  it("answers 200 application/json with id and input at once when a job waits", async () => {
    const id = await daemon.submit(endpoint, { input: {} });
    const reply = await worker.take();
    expect(reply.headers.get("content-type")).toBe("application/json");
    expect(reply.text).toBe(`{"id":"${id}","input":{}}`);
  });

  it("is held between 20 and 25 s, then 204 without a body; never 204 at once (rule 3)", async () => {
    let answered = false;
    const take = worker.take().then((reply) => {
      answered = true;
      return reply;
    });
    await takesHeld();
    await daemon.clock.advance(20_000);
    expect(answered).toBe(false);
    await daemon.clock.advance(5_000);
    const reply = await take;
    expect([reply.status, reply.text]).toEqual([204, ""]);
  });

  it("is held for a draining worker too, which gets no more work (31; INV-5)", async () => {
    daemon.pool.obeysStop = false;
    expect((await daemon.call("POST", `/api/workers/${worker.id}/stop`)).status).toBe(200);
    await daemon.until("it is asked to end", () => daemon.pool.started[0]?.asked.includes("stop"));
    const id = await daemon.submit(endpoint);
    let answered = false;
    const take = worker.take().then((reply) => {
      answered = true;
      return reply;
    });
    await takesHeld();
    expect(answered).toBe(false);
    expect((await jobBody(id)).status).toBe("IN_QUEUE");
    daemon.pool.obeysStop = true;
    daemon.pool.exit(worker.id, { code: 0 });
    await daemon.until("it is gone", () => daemon.store.fleet.worker(worker.id as never)?.state === "gone");
    expect((await take).status).toBe(204);
    const next = await daemon.nextWorker();
    expect((await next.takeJob()).id).toBe(id);
  });

  it("answers a held take as soon as a job comes, the longest waiting first", async () => {
    const first = worker.takeJob();
    await takesHeld();
    const second = worker.takeJob();
    await takesHeld(2);
    const a = await daemon.submit(endpoint);
    expect((await first).id).toBe(a);
    const b = await daemon.submit(endpoint);
    expect((await second).id).toBe(b);
  });

  it("in batches gives a list of at most batch_size jobs and does not wait to fill it", async () => {
    const ids = [];
    for (let n = 0; n < 5; n += 1) ids.push(await daemon.submit(endpoint));
    const batch = async (size: number) =>
      (await worker.take({ batch: size, jobInProgress: 1 })).json<{ id: string; input: unknown }[]>();
    expect((await batch(2)).map(({ id }) => id)).toEqual(ids.slice(0, 2));
    expect((await batch(99)).map(({ id }) => id)).toEqual(ids.slice(2));
    const held = worker.take({ batch: 3, jobInProgress: 1 });
    await takesHeld();
    const id = await daemon.submit(endpoint);
    expect((await held).json()).toEqual([{ id, input: {} }]);
  });

  it("puts the job back, uncounted, when the socket had closed", async () => {
    for (let round = 0; round < 10; round += 1) {
      const leaving = new AbortController();
      const take = worker.take({ signal: leaving.signal, jobInProgress: 1 }).catch(() => null);
      await takesHeld();
      const [id] = await Promise.all([daemon.submit(endpoint), leaving.abort()]);
      await take;
      expect((await worker.takeJob({ jobInProgress: 1 })).id).toBe(id);
      await worker.done(id, { output: 1 });
      const body = await jobBody(id);
      expect([body.status, body.retries]).toEqual(["COMPLETED", undefined]);
      await daemon.until("no take is left", () => daemon.clock.sleeps(TAKE_HOLD_MS) === 0);
    }
  });

  it("puts a job back whose reply found its socket destroyed", async () => {
    const raw = await openRaw(Number(new URL(daemon.workerUrl).port));
    raw.socket.write(
      `GET /v2/${endpoint}/job-take/${worker.id}?gpu=x&job_in_progress=1 HTTP/1.1\r\nHost: x\r\nAuthorization: ${worker.token}\r\n\r\n`,
    );
    await takesHeld();
    raw.socket.resetAndDestroy();
    await daemon.until("the close is seen", () => daemon.clock.sleeps(TAKE_HOLD_MS) === 0);
    const id = await daemon.submit(endpoint);
    expect((await worker.takeJob({ jobInProgress: 1 })).id).toBe(id);
    expect((await history(id)).filter((kind) => kind === "job.take")).toHaveLength(1);
  });

  it("some job starts within 5 s while a worker polls and jobs wait (INV-12)", async () => {
    const ids = new Set<string>();
    for (let n = 0; n < 30; n += 1) ids.add(await daemon.submit(endpoint));
    const started: string[] = [];
    while (started.length < 30) {
      const before = daemon.clock.nowMs();
      const job = await worker.takeJob();
      expect(daemon.clock.nowMs() - before).toBeLessThan(5_000);
      started.push(job.id);
      await worker.done(job.id, { output: 1 });
    }
    expect(new Set(started)).toEqual(ids);
  });
});

describe("job_in_progress=0 (ACC-06)", () => {
  /** An idle worker's take with a lease in doubt: answered with nothing after a moment, so that the worker says afresh. */
  async function asked(): Promise<void> {
    const take = worker.take({ jobInProgress: 0 });
    await takesHeld();
    await daemon.clock.advance(1_100);
    expect((await take).status).toBe(204);
  }

  it("puts a job whose result was lost back within 5 s of the take, and counts the attempt", async () => {
    const id = await taken();
    await daemon.clock.advance(2_000);
    const beforeMs = daemon.clock.nowMs();
    await asked();
    const again = await worker.takeJob({ jobInProgress: 0 });
    expect(daemon.clock.nowMs() - beforeMs).toBeLessThan(5_000);
    expect(again.id).toBe(id);
    expect((await jobBody(id)).retries).toBe(1);
    expect(await history(id)).toEqual(["job.submit", "job.take", "job.lose", "job.take"]);
  });

  it("believes no idle take that may have been sent before the delivery, however late it arrives", async () => {
    const id = await taken();
    // Sent long ago, held up on its way to a daemon that was away; meanwhile the job runs.
    await daemon.clock.advance(30_000);
    await asked();
    const fresh = worker.take({ jobInProgress: 1 });
    await takesHeld();
    expect((await jobBody(id)).status).toBe("IN_PROGRESS");
    await worker.done(id, { output: 1 });
    expect(await history(id)).toEqual(["job.submit", "job.take", "job.complete"]);
    await daemon.submit(endpoint);
    expect((await fresh).status).toBe(200);
  });

  it("does not lose a young lease that crossed the take on its way", async () => {
    const id = await daemon.submit(endpoint);
    const [job] = await Promise.all([worker.takeJob({ jobInProgress: 0 })]);
    expect(job.id).toBe(id);
    // The idle take that was sent before the answer had arrived; the worker then says that it is busy.
    const leaving = new AbortController();
    const crossing = worker.take({ jobInProgress: 0, signal: leaving.signal }).catch(() => null);
    await takesHeld();
    leaving.abort();
    await crossing;
    await daemon.until("no take is held", () => daemon.clock.sleeps(TAKE_HOLD_MS) === 0);
    await daemon.clock.advance(3_000);
    expect((await jobBody(id)).status).toBe("IN_PROGRESS");
    expect(await history(id)).not.toContain("job.lose");
  });

  it("fails the job as worker_lost after three deliveries whose results were lost", async () => {
    const id = await taken();
    for (let n = 0; n < 2; n += 1) {
      await daemon.clock.advance(2_000);
      await asked();
      expect((await worker.takeJob()).id).toBe(id);
    }
    await daemon.clock.advance(2_000);
    await asked();
    const leaving = new AbortController();
    const idle = worker.take({ signal: leaving.signal }).catch(() => null);
    await daemon.until("it has failed", async () => (await jobBody(id)).status === "FAILED");
    expect((await jobBody(id)).error).toMatch(/worker_lost: 3 deliveries/);
    leaving.abort();
    await idle;
  });

  it("says nothing of jobs when it is absent or 1: pings and busy takes end no lease", async () => {
    const id = await taken();
    await daemon.clock.advance(2_000);
    await worker.ping("&job_id=");
    const leaving = new AbortController();
    const take = worker.take({ jobInProgress: 1, signal: leaving.signal }).catch(() => null);
    await takesHeld();
    await daemon.clock.advance(3_000);
    expect((await jobBody(id)).status).toBe("IN_PROGRESS");
    leaving.abort();
    await take;
  });
});

describe("authorization (rule 5, T-10)", () => {
  it("takes the key bare and after Bearer in any case", async () => {
    const env = daemon.pool.started[0]?.env ?? {};
    for (const authorization of [worker.token, `Bearer ${worker.token}`, `bearer ${worker.token}`])
      expect((await createTestWorker(env, { authorization }).ping()).status).toBe(200);
  });

  it("refuses every worker route 401 without the very key of that worker on that endpoint", async () => {
    const { worker: other, endpoint: elsewhere } = await daemon.ready("other");
    const parameters = { endpoint, worker: worker.id, job: "j" };
    const wrong: Record<string, string>[] = [
      {},
      { authorization: other.token },
      { authorization: `Bearer ${daemon.adminKey}` },
      { authorization: worker.token.slice(0, -1) },
      { authorization: "" },
    ];
    for (const route of Object.values<Route>(WORKER_ROUTES)) {
      const [method = ""] = route.methods;
      for (const headers of wrong) {
        const reply = await request(`${daemon.workerUrl}${routePath(route, parameters)}`, {
          method,
          headers,
        });
        expect([route.path, reply.status]).toEqual([route.path, 401]);
        errorBodySchema.parse(reply.json());
      }
      const path = routePath(route, { ...parameters, endpoint: elsewhere });
      const foreign = await request(`${daemon.workerUrl}${path}`, {
        method,
        headers: { authorization: worker.token },
      });
      expect([route.path, foreign.status]).toEqual([route.path, 401]);
    }
  });

  it("opens nothing on the client listener, and the worker listener serves no client route", async () => {
    const parameters = { endpoint, job: "j" };
    for (const route of Object.values<Route>(JOB_ROUTES)) {
      const [method = ""] = route.methods;
      const path = routePath(route, parameters);
      // More than ten wrong keys a minute from one address are told to wait (T-02).
      await daemon.clock.advance(10_000);
      expect((await daemon.call(method, path, { key: worker.token })).status).toBe(401);
      const headers = { authorization: `Bearer ${daemon.adminKey}` };
      expect((await request(`${daemon.workerUrl}${path}`, { method, headers })).status).toBe(404);
    }
    for (const path of ["/api/status", "/api/keys", "/healthz"])
      expect((await request(`${daemon.workerUrl}${path}`)).status).toBe(404);
  });

  it("dies with the worker", async () => {
    daemon.pool.exit(worker.id);
    await daemon.until("it is gone", async () => (await worker.ping()).status === 401);
    const id = await daemon.submit(endpoint);
    expect((await worker.done(id, { output: "forged" })).status).toBe(401);
    expect((await jobBody(id)).output).toBeUndefined();
  });

  it("reports only on jobs that this worker holds (INV-4)", async () => {
    const id = await taken();
    const { worker: other } = await daemon.ready("other");
    for (const post of [
      other.done(id, { output: "x" }),
      other.chunk(id, { output: 1 }),
      other.progress(id, 1),
    ]) {
      const reply = await post;
      expect([reply.status, reply.json()]).toEqual([200, { ignored: true }]);
    }
    expect((await jobBody(id)).output).toBeUndefined();
    expect((await jobBody(id)).status).toBe("IN_PROGRESS");
  });
});

describe("job-done", () => {
  it.each([
    ['{"output": {"a": 1}}', "COMPLETED", '{"a": 1}', undefined],
    ["{}", "COMPLETED", undefined, undefined],
    ['{"output": null}', "COMPLETED", "null", undefined],
    ['{"output": []}', "COMPLETED", "[]", undefined],
    ['{"error": null, "output": 1}', "COMPLETED", "1", undefined],
    ['{"error": "boom"}', "FAILED", undefined, "boom"],
    ['{"error": ""}', "FAILED", undefined, ""],
    ['{"error": {"code": 7}, "output": "rest"}', "FAILED", '"rest"', '{"code": 7}'],
    ['{"error": false}', "FAILED", undefined, "false"],
    ['{"error": "boom", "status": "IN_PROGRESS"}', "FAILED", undefined, "boom"],
    ['{"output": NaN}', "COMPLETED", "null", undefined],
    [
      '{"output": {"x": [NaN, Infinity, -Infinity], "t": "NaN"}}',
      "COMPLETED",
      '{"x": [null, null, null], "t": "NaN"}',
      undefined,
    ],
    ['{"output": 123456789012345678901234567890}', "COMPLETED", "123456789012345678901234567890", undefined],
    ['{"output": "\\ud800é"}', "COMPLETED", '"\\ud800é"', undefined],
  ])("%s ends the job %s", async (body, state, output, error) => {
    const id = await taken();
    expect((await worker.done(id, body)).status).toBe(200);
    const reply = await daemon.call("GET", `/v2/${endpoint}/status/${id}`);
    const { status, error: shown } = parsed(jobBodySchema, reply);
    expect([status, shown]).toEqual([state, error]);
    if (output === undefined) expect(reply.text).not.toContain('"output"');
    else expect(reply.text).toContain(`"output":${output}`);
  });

  it.each(["", "not json", "{", '{"output": 1', "[]", "null", '"text"', '{"output": undefined}'])(
    "%j is answered 200 and fails the job as invalid_result at once (F-31)",
    async (body) => {
      const id = await taken();
      expect((await worker.done(id, body)).status).toBe(200);
      expect(await jobBody(id)).toMatchObject({
        status: "FAILED",
        error: expect.stringMatching(/^invalid_result/),
      });
    },
  );

  it("takes 1000 levels of nesting and refuses more as invalid_result, with 200", async () => {
    const nested = (levels: number) => `{"output":${"[".repeat(levels)}${"]".repeat(levels)}}`;
    const deep = await taken();
    await worker.done(deep, nested(999));
    expect((await jobBody(deep)).status).toBe("COMPLETED");
    const deeper = await taken();
    expect((await worker.done(deeper, nested(100_000))).status).toBe(200);
    expect((await jobBody(deeper)).error).toMatch(/invalid_result/);
  });

  it("over 20 MB is answered 200 and fails the job as result_too_large", async () => {
    const most = await taken();
    const body = (bytes: number) => `{"output":"${"x".repeat(bytes - 13)}"}`;
    expect((await worker.done(most, body(20_000_000))).status).toBe(200);
    expect((await jobBody(most)).status).toBe("COMPLETED");
    const more = await taken();
    expect((await worker.done(more, body(20_000_001))).status).toBe(200);
    expect(await jobBody(more)).toMatchObject({
      status: "FAILED",
      error: expect.stringMatching(/^result_too_large/),
    });
    expect((await jobBody(most)).status).toBe("COMPLETED");
  });

  it("ignores duplicates: 50 at once give one end, one webhook id and 200 each (ACC-07, F-19)", async () => {
    const id = await taken({ input: 1, webhook: "http://127.0.0.1:49151/hook" });
    const replies = await Promise.all(Array.from({ length: 50 }, (_, n) => worker.done(id, { output: n })));
    expect(replies.map(({ status }) => status)).toEqual(Array(50).fill(200));
    expect(replies.filter((reply) => reply.text === "{}")).toHaveLength(1);
    const recorded = await daemon.call("GET", `/v2/${endpoint}/status/${id}`);
    await worker.done(id, { output: "late" });
    await worker.done(id, { error: "late" });
    await worker.progress(id, "late");
    expect((await daemon.call("GET", `/v2/${endpoint}/status/${id}`)).text).toBe(recorded.text);
    expect((await history(id)).filter((kind) => kind === "job.complete")).toHaveLength(1);
    expect(daemon.store.outbox.due(Number.MAX_SAFE_INTEGER, 100).length).toBeLessThanOrEqual(1);
  });

  it("ignores a late result after cancel, execution timeout and ttl (ACC-07, F-20)", async () => {
    const polling = new AbortController();
    const listen = (): Promise<unknown> => worker.stopPoll(polling.signal).then(listen, () => null);
    const polls = listen();
    await daemon.until("the stop poll is held", () => daemon.clock.sleeps(25_000) > 0);
    const cancelled = await taken();
    await daemon.call("POST", `/v2/${endpoint}/cancel/${cancelled}`);
    const late = await worker.done(cancelled, { output: "late" });
    expect([late.status, late.json()]).toEqual([200, { ignored: true }]);
    expect(await jobBody(cancelled)).toMatchObject({ status: "CANCELLED" });
    expect((await jobBody(cancelled)).output).toBeUndefined();
    for (const [policy, state] of [
      [{ executionTimeout: 5_000 }, "FAILED"],
      [{ ttl: 10_000 }, "TIMED_OUT"],
    ] as const) {
      const id = await taken({ input: 1, policy });
      await daemon.until("it is over", async () => {
        await daemon.clock.advance(500);
        return (await jobBody(id)).status === state;
      });
      const before = await daemon.call("GET", `/v2/${endpoint}/status/${id}`);
      expect((await worker.done(id, { output: "late" })).status).toBe(200);
      expect((await daemon.call("GET", `/v2/${endpoint}/status/${id}`)).text).toBe(before.text);
      // Between two jobs the worker says that it holds nothing: it let go of the stopped one.
      const leaving = new AbortController();
      const idle = worker.take({ signal: leaving.signal }).catch(() => null);
      await takesHeld();
      leaving.abort();
      await idle;
      await daemon.until("no take is held", () => daemon.clock.sleeps(TAKE_HOLD_MS) === 0);
    }
    polling.abort();
    await polls;
  });

  it("ignores progress after the result and shows the latest before it (rule 10, F-21)", async () => {
    const id = await taken();
    await worker.progress(id, { step: 1 });
    await worker.progress(id, { step: 2 });
    expect(await jobBody(id)).toMatchObject({ status: "IN_PROGRESS", output: { step: 2 } });
    await worker.done(id, { output: "final" });
    const reply = await worker.progress(id, { step: 3 });
    expect([reply.status, reply.json()]).toEqual([200, { ignored: true }]);
    expect(await jobBody(id)).toMatchObject({ status: "COMPLETED", output: "final" });
  });

  it("of an unknown job is answered 200 and ignored", async () => {
    const reply = await worker.done("no-such-job", { output: 1 });
    expect([reply.status, reply.json()]).toEqual([200, { ignored: true }]);
  });

  it("with stopPod keeps the result, hands the worker nothing more and replaces it (rule 9)", async () => {
    const id = await taken();
    await worker.done(id, { output: "kept", stopPod: true });
    expect(await jobBody(id)).toMatchObject({ status: "COMPLETED", output: "kept" });
    const next = await daemon.submit(endpoint);
    // The SDK goes straight to the next take when its handler asked for the refresh.
    const take = worker.take().catch(() => null);
    const fresh = await daemon.nextWorker();
    expect(fresh.id).not.toBe(worker.id);
    expect((await fresh.takeJob()).id).toBe(next);
    const reply = await take;
    expect(reply === null || reply.status === 204 || reply.status === 401).toBe(true);
    expect(daemon.pool.started[0]?.asked).toContain("stop");
  });
});

describe("ping", () => {
  it("keeps a busy worker alive; 60 s of silence condemn it and its job goes elsewhere (F-22)", async () => {
    const id = await taken();
    for (let n = 0; n < 9; n += 1) {
      await daemon.clock.advance(10_000);
      expect((await worker.ping(`&job_id=${id}`)).status).toBe(200);
    }
    expect((await jobBody(id)).status).toBe("IN_PROGRESS");
    await daemon.clock.advance(70_000);
    expect(daemon.pool.started[0]?.asked).toContain("kill");
    const next = await daemon.nextWorker();
    expect((await next.takeJob()).id).toBe(id);
    const late = await worker.done(id, { output: "fenced" });
    expect([200, 401]).toContain(late.status);
    expect((await jobBody(id)).output).toBeUndefined();
  });

  it("missed once or twice condemns nobody", async () => {
    const id = await taken();
    await daemon.clock.advance(30_000);
    await worker.ping();
    await daemon.clock.advance(30_000);
    expect((await jobBody(id)).status).toBe("IN_PROGRESS");
    expect((await worker.done(id, { output: 1 })).json()).toEqual({});
  });

  it("with status=unhealthy takes the worker out, and its exit counts as a failed start", async () => {
    const reply = await worker.ping("&status=unhealthy&check=disk&reason=too+full&runpod_version=1.12.0");
    expect(reply.status).toBe(200);
    const id = await daemon.submit(endpoint);
    const leaving = new AbortController();
    const take = worker.take({ signal: leaving.signal }).catch(() => null);
    daemon.pool.exit(worker.id, { code: 1 });
    const next = await daemon.nextWorker();
    expect((await next.takeJob()).id).toBe(id);
    leaving.abort();
    await take;
  });

  it("job ids in a ping decide nothing", async () => {
    const id = await taken();
    await daemon.clock.advance(2_000);
    await worker.ping("&job_id=someone%2Celse");
    await worker.ping("");
    expect((await jobBody(id)).status).toBe("IN_PROGRESS");
  });
});
