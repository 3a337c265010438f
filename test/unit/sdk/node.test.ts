import { execPath } from "node:process";
import { fileURLToPath, pathToFileURL } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import {
  createMockJobServer,
  type MockJobServer,
  type MockJobServerOptions,
} from "../../support/mock-job-server.ts";
import { createSdkWorkers, type SdkWorker } from "./sdk-worker.ts";

const HOOK = pathToFileURL(fileURLToPath(new URL("../../../sdk/node/hook.js", import.meta.url))).href;
const workers = createSdkWorkers();
let server: MockJobServer | undefined;

afterEach(async () => {
  await workers.end();
  const violations = server?.violations ?? [];
  await server?.close();
  server = undefined;
  expect(violations).toEqual([]);
});

interface Running {
  readonly server: MockJobServer;
  readonly worker: SdkWorker;
  /** Submits one job and gives the body of its final post, as JSON. */
  run(input: unknown): Promise<unknown>;
}

let nextJob = 0;

/** `handler`: an expression; `config`: further fields of what start takes. */
async function serve(
  handler: string,
  options: MockJobServerOptions & { config?: string; env?: Record<string, string> } = {},
): Promise<Running> {
  const jobs = await createMockJobServer(options);
  server = jobs;
  const cwd = await workers.folder({ "handler.mjs": program(handler, options.config) });
  const worker = node(cwd, "handler.mjs", { ...jobs.env(), ...options.env });
  return {
    server: jobs,
    worker,
    async run(input) {
      const id = `job-${nextJob++}`;
      jobs.submit({ id, input });
      return JSON.parse((await jobs.result(id)).body);
    },
  };
}

function program(handler: string, config = ""): string {
  return `import { setTimeout as sleep } from "node:timers/promises";
import { start } from "rpx/worker";
start({ handler: ${handler}, ${config} });`;
}

function node(cwd: string, file: string, env: Record<string, string> = {}, ...args: string[]): SdkWorker {
  return workers.start([execPath, file, ...args], cwd, { NODE_OPTIONS: `--import ${HOOK}`, ...env });
}

const ECHO = "(job) => ({ got: job.input })";
const SLEEP =
  "async (job, { signal }) => { await sleep(job.input.ms ?? 0, undefined, { signal }); return job.input; }";

describe("what handlers return", () => {
  test.each([
    ["an object", "(job) => ({ got: job.input })", { output: { got: 1 } }],
    ["a promise", "async (job) => job.input", { output: 1 }],
    ["a list", "() => [1, 2]", { output: [1, 2] }],
    ["nothing", "() => {}", { output: null }],
    ["an empty object", "() => ({})", {}],
    [
      "an object with an error and more",
      '() => ({ error: "bad", at: 3 })',
      { error: "bad", output: { at: 3 } },
    ],
    ["an error that is no text", "() => ({ error: { code: 4 } })", { error: { code: 4 } }],
    ["a date", "() => new Date(0)", { output: "1970-01-01T00:00:00.000Z" }],
    ["NaN", "() => [NaN]", { output: [null] }],
  ])("%s", async (_, handler, body) => {
    const { run, server } = await serve(handler);
    expect(await run(1)).toEqual(body);
    expect(server.of("job-done")[0]?.query.get("isStream")).toBe("false");
  });

  test("10 MB of unicode in and out", async () => {
    const { server } = await serve("(job) => job.input");
    server.submit({ id: "big", input: "é".repeat(5_000_000) });
    expect((await server.result("big")).body).toBe(`{"output":"${"é".repeat(5_000_000)}"}`);
  });

  test.each(["() => { throw new RangeError('no good') }", "async () => { throw new RangeError('no good') }"])(
    "an exception is JSON text: %s",
    async (handler) => {
      const { run } = await serve(handler);
      const info = JSON.parse(((await run({})) as { error: string }).error) as Record<string, string>;
      expect(info).toMatchObject({ error_type: "RangeError", error_message: "no good", worker_id: "w-test" });
      expect(info.error_traceback).toContain("handler.mjs:3");
    },
  );

  test("a result that JSON cannot carry fails the job, naming the type", async () => {
    const { run } = await serve("() => ({ big: 1n })");
    const { error } = (await run({})) as { error: string };
    expect(JSON.parse(error)).toHaveProperty("error_message", expect.stringContaining("BigInt"));
  });
});

describe("generators", () => {
  const BODY = '(job) { for (let number = 0; number < 3; number++) yield { number }; return "the end"; }';

  test.each([
    ["a generator's return value is the output", `function* ${BODY}`, "", { output: "the end" }],
    ["an async generator too", `async function* ${BODY}`, "", { output: "the end" }],
    [
      "returnAggregateStream makes the chunks the output",
      `async function* ${BODY}`,
      "returnAggregateStream: true",
      { output: [{ number: 0 }, { number: 1 }, { number: 2 }] },
    ],
    ["no return value is []", `function* ${BODY.replace('return "the end";', "")}`, "", { output: [] }],
  ])("%s", async (_, handler, config, body) => {
    const { run, server } = await serve(handler, { config });
    expect(await run({})).toEqual(body);
    const chunks = server.of("job-stream");
    expect(chunks.map((chunk) => chunk.body)).toEqual([0, 1, 2].map((n) => `{"output":{"number":${n}}}`));
    expect(chunks.map((chunk) => chunk.headers["x-rpx-chunk"])).toEqual(["0", "1", "2"]);
    expect(server.of("job-done")[0]?.query.get("isStream")).toBe("true");
  });

  test("a chunk with an error ends the stream, and the generator is closed", async () => {
    const { run, server, worker } = await serve(
      'function* () { try { yield 1; yield { error: "bad" }; yield 2; } finally { console.log("closed"); } }',
    );
    expect(await run({})).toEqual({ error: "bad" });
    expect(server.of("job-stream")).toHaveLength(1);
    expect(worker.output()).toContain("closed");
  });

  test("a generator that throws fails the job after its chunks", async () => {
    const { run, server } = await serve("function* () { yield 1; throw new TypeError('lost'); }");
    expect(JSON.parse(((await run({})) as { error: string }).error)).toMatchObject({
      error_type: "TypeError",
    });
    expect(server.of("job-stream")).toHaveLength(1);
  });
});

describe("several jobs at once", () => {
  test("jobs overlap, are taken as a batch, and say that jobs are in progress", async () => {
    const { server } = await serve(SLEEP, { config: "concurrencyModifier: () => 4" });
    const jobs = [0, 1, 2].map((n) => ({ id: `slow-${n}`, input: { ms: 300 } }));
    server.submit(...jobs);
    const posts = await Promise.all(jobs.map((job) => server.result(job.id)));
    const times = posts.map((post) => post.atMs);
    expect(Math.max(...times) - Math.min(...times)).toBeLessThan(250);
    const takes = server.seen.filter(isTake);
    expect(takes[0]?.query.get("batch_size")).toBe("4");
    expect(takes.map((take) => take.query.get("job_in_progress"))).toContain("1");
  });

  test("without a concurrencyModifier jobs run one after the other, also when more were handed over", async () => {
    const { server } = await serve(SLEEP, { prefetch: 3 });
    server.submit(...[30, 20, 10].map((ms) => ({ id: `ms-${ms}`, input: { ms } })));
    await server.result("ms-10");
    expect(server.of("job-done").map((post) => post.job)).toEqual(["ms-30", "ms-20", "ms-10"]);
  });
});

test("progress arrives in order and before the result", async () => {
  const { run, server } = await serve(
    '(job, { progress }) => { for (const percent of [10, 20, 30]) progress({ percent }); progress(1n); return "done"; }',
  );
  await run({});
  expect(server.of("job-done").map((post) => post.body)).toEqual([
    '{"status":"IN_PROGRESS","output":{"percent":10}}',
    '{"status":"IN_PROGRESS","output":{"percent":20}}',
    '{"status":"IN_PROGRESS","output":{"percent":30}}',
    '{"output":"done"}',
  ]);
});

describe("ending", () => {
  test.each([
    ["the result asks for it", "() => ({ a: 1, refresh_worker: true })", ""],
    ["the configuration asks for it", "() => ({ a: 1 })", "refreshWorker: true"],
  ])("refresh: %s", async (_, handler, config) => {
    const { run, worker, server } = await serve(handler, { config, isFast: true });
    expect(await run({})).toEqual({ output: { a: 1 }, stopPod: true });
    expect(await worker.exit()).toBe(0);
    expect(server.of("job-done")[0]?.headers["x-rpx-take"]).toBeUndefined();
  });

  test("SIGTERM ends an idle worker though its polls are held", async () => {
    const { worker, server } = await serve(ECHO);
    await server.until(
      "a take and a stop poll",
      () => server.of("job-stop").length > 0 && server.seen.some(isTake),
    );
    worker.signal("SIGTERM");
    expect(await worker.exit()).toBe(0);
  });

  test("SIGTERM while the server is away ends an idle worker", async () => {
    const { worker, server } = await serve(ECHO);
    await server.until("a take", () => server.seen.some(isTake));
    await server.close();
    await worker.printed("Failed to get job.");
    worker.signal("SIGTERM");
    expect(await worker.exit()).toBe(0);
  });

  test("SIGTERM lets the running job end and takes no other", async () => {
    const { worker, server } = await serve(SLEEP, { isFast: true });
    server.submit({ id: "a", input: { ms: 300 } });
    await worker.printed("Started.");
    server.submit({ id: "b", input: {} });
    worker.signal("SIGTERM");
    expect(await worker.exit()).toBe(0);
    expect(server.of("job-done").map((post) => post.job)).toEqual(["a"]);
  });
});

describe("stopping one job", () => {
  test.each([
    ["a handler that heeds the signal", SLEEP],
    ["a generator", "async function* (job) { while (job.input.ms) { yield 1; await sleep(20); } }"],
  ])("%s ends, reports nothing, and the worker goes on", async (_, handler) => {
    const { worker, server, run } = await serve(handler);
    server.submit({ id: "long", input: { ms: 30_000 } });
    await worker.printed("Started.");
    server.stop("unknown", "long");
    await run({});
    expect(server.of("job-done").map((post) => post.job)).not.toContain("long");
    expect(worker.output()).toContain("Job stopped.");
  });

  test("the result of a handler that ignores the signal is dropped", async () => {
    const { worker, server } = await serve(
      "async (job, { signal }) => { await sleep(400); return signal.aborted; }",
    );
    server.submit({ id: "long", input: 1 });
    await worker.printed("Started.");
    server.stop("long");
    await worker.printed("Job stopped.");
    expect(server.of("job-done")).toEqual([]);
  });
});

test("pings go on while a handler keeps the event loop busy, and name the running job", async () => {
  const { worker, server } = await serve("() => { for (;;); }");
  server.submit({ id: "hog", input: 1 });
  await worker.printed("Started.");
  const before = server.of("ping").length;
  await server.until("pings", () => server.of("ping").length >= before + 3);
  expect(server.of("ping").at(-1)?.query.get("job_id")).toBe("hog");
});

describe("a server that fails", () => {
  test("F-04 a result is repeated after resets and 5xx until it is taken", async () => {
    const { run, server } = await serve(ECHO);
    server.failNext("job-done", "reset-before", 503, "reset-after", 429);
    expect(await run({ a: 1 })).toEqual({ output: { got: { a: 1 } } });
    expect(server.of("job-done")).toHaveLength(1);
  });

  test("a chunk is repeated in its place", async () => {
    const { run, server } = await serve("function* () { yield 0; yield 1; yield 2; }");
    server.failNext("job-stream", 500, "reset-after");
    await run({});
    expect(server.of("job-stream").map((chunk) => chunk.body)).toEqual(
      [0, 1, 2].map((n) => `{"output":${n}}`),
    );
  });

  test("a refused result is dropped and said, and the worker goes on", async () => {
    const { run, server, worker } = await serve(ECHO);
    server.failNext("job-done", 413);
    server.submit({ id: "refused", input: 1 });
    await run(2);
    expect(server.of("job-done", "refused")).toEqual([]);
    expect(worker.output()).toContain("Failed to return job results. | HTTP 413");
  });

  test("takes go on after resets, 400, 403 and 500", async () => {
    const { run, server } = await serve(ECHO);
    server.failNext("job-take", "reset-after", 400, 403, 500);
    await run({});
  });
});

describe("fast path", () => {
  test("one take, then each result brings the next job; attempts are echoed", async () => {
    const { server } = await serve(ECHO, { isFast: true });
    const ids = ["a", "b", "c", "d"];
    server.setAttempt("c", 3);
    server.submit(...ids.map((id) => ({ id, input: id })));
    await server.result("d");
    await server.until("the take after the last", () => server.of("job-take").length === 2);
    const posts = server.of("job-done");
    expect(posts.map((post) => post.headers["x-rpx-attempt"])).toEqual(["1", "1", "3", "1"]);
    expect(posts.map((post) => post.headers["x-rpx-take"])).toEqual(["1", "1", "1", "1"]);
    expect(new Set([...posts, ...server.of("job-take")].map((request) => request.port)).size).toBe(1);
  });

  test("concurrent jobs refill the places that they free, never more", async () => {
    const { server } = await serve(SLEEP, { isFast: true, config: "concurrencyModifier: () => 4" });
    const ids = Array.from({ length: 40 }, (_, n) => `n-${n}`);
    server.submit(...ids.map((id) => ({ id, input: {} })));
    await Promise.all(ids.map((id) => server.result(id)));
    const posts = server.of("job-done");
    expect(posts).toHaveLength(40);
    for (const post of posts) expect(Number(post.headers["x-rpx-take"] ?? 0)).toBeLessThanOrEqual(4);
    // Two jobs that end together may ask for both places in one post.
    expect(posts.filter((post) => Number(post.headers["x-rpx-take"] ?? 0) > 0).length).toBeGreaterThan(10);
  });

  test("a server that does not speak it is asked in the stock way", async () => {
    const { run, server } = await serve(ECHO);
    await run(1);
    await run(2);
    await server.until("a take after each job", () => server.of("job-take").length === 3);
    expect(server.of("job-done").every((post) => post.headers["x-rpx-take"] === undefined)).toBe(true);
  });
});

test("on an endpoint a log line is JSON with the job's id and batch", async () => {
  const { worker, server } = await serve('(job, { log }) => log.warn("look")');
  server.submit({ id: "one", input: 1, batchId: "batch_7" });
  await worker.printed("Finished.");
  const lines = worker
    .output()
    .split("\n")
    .filter((line) => line.startsWith("{"));
  const line = { requestId: "one", message: "[batchId=batch_7] look", level: "WARN" };
  expect(lines.map((text) => JSON.parse(text))).toContainEqual(line);
});

describe("local tests", () => {
  const ECHO_FILE = { "handler.mjs": program(ECHO) };
  const GENERATOR = { "handler.mjs": program("function* () { yield 1; return 2; }") };

  test.each([
    [
      "--test_input",
      ECHO_FILE,
      ["--test_input", '{"input": {"a": 1}}'],
      0,
      'Job result: {"output":{"got":{"a":1}}}',
    ],
    ["test_input.json", { ...ECHO_FILE, "test_input.json": '{"input": 3}' }, [], 0, '{"got":3}'],
    ["a generator", GENERATOR, ['--test_input={"input": 1}'], 0, 'INFO   | Job result: {"output":2}'],
    ["neither", ECHO_FILE, [], 1, "test_input.json not found"],
    ["no input", ECHO_FILE, ["--test_input", "{}"], 1, "Job has no input parameter"],
    ["no JSON", ECHO_FILE, ["--test_input", "{"], 1, "--test_input is not JSON"],
    [
      "an error",
      { "handler.mjs": program("() => { throw 1 }") },
      ['--test_input={"input": 1}'],
      1,
      "failed with error",
    ],
  ])("%s", async (_, files, args, code, text) => {
    const worker = node(await workers.folder(files), "handler.mjs", {}, ...args);
    expect(await worker.exit()).toBe(code);
    expect(worker.output()).toContain(text);
  });
});

describe("the hook", () => {
  test("a TypeScript handler runs as it is", async () => {
    const cwd = await workers.folder({
      "handler.ts": `import { type Job, start } from "rpx/worker";
start({ handler: (job: Job<number>): number => job.input + 1 });`,
    });
    const worker = node(cwd, "handler.ts", {}, "--test_input", '{"input": 1}');
    expect(await worker.exit()).toBe(0);
    expect(worker.output()).toContain('{"output":2}');
  });

  test("other specifiers are left alone", async () => {
    const cwd = await workers.folder({
      "handler.mjs": 'import("rpx/other").catch((error) => console.log(error.code));',
    });
    const worker = node(cwd, "handler.mjs");
    await worker.exit();
    expect(worker.output()).toBe("ERR_MODULE_NOT_FOUND\n");
  });
});

function isTake(request: { readonly route: string }): boolean {
  return request.route.startsWith("job-take");
}
