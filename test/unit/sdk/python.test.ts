import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import {
  createMockJobServer,
  type MockJobServer,
  type MockJobServerOptions,
} from "../../support/mock-job-server.ts";
import { createSdkWorkers, type SdkWorker } from "./sdk-worker.ts";

const SITE = fileURLToPath(new URL("../../../sdk/python/site", import.meta.url));
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

async function serve(
  handler: string,
  options: MockJobServerOptions & { env?: Record<string, string> } = {},
): Promise<Running> {
  const jobs = await createMockJobServer(options);
  server = jobs;
  const cwd = await workers.folder({ "handler.py": handler });
  const worker = python(cwd, { ...jobs.env(), ...options.env });
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

function python(cwd: string, env: Record<string, string> = {}, ...args: string[]): SdkWorker {
  return workers.start(["python3", "handler.py", ...args], cwd, { PYTHONPATH: SITE, ...env });
}

const PLAIN = `
import runpod, threading
def handler(job):
    return {"got": job["input"], "main": threading.current_thread() is threading.main_thread()}
runpod.serverless.start({"handler": handler})
`;

const ASYNC = `
import asyncio, runpod
async def handler(job):
    await asyncio.sleep(job["input"].get("seconds", 0))
    return {"got": job["input"]}
runpod.serverless.start({"handler": handler, "concurrency_modifier": lambda now: 4})
`;

describe("what handlers return", () => {
  test("a sync handler runs in the main thread; its result has no isStream", async () => {
    const { run, server } = await serve(PLAIN);
    expect(await run({ a: 1 })).toEqual({ output: { got: { a: 1 }, main: true } });
    expect(server.of("job-done")[0]?.query.get("isStream")).toBe("false");
    expect(server.of("job-take")[0]?.query.get("job_in_progress")).toBe("0");
  });

  test.each([
    ["a list", "[1, 2]", { output: [1, 2] }],
    ["nothing", "None", { output: null }],
    ["an empty dict", "{}", {}],
    ["a dict with an error and more", '{"error": "bad", "at": 3}', { error: "bad", output: { at: 3 } }],
    ["an error that is no text", '{"error": {"code": 4}}', { error: { code: 4 } }],
    ["an error that is empty", '{"error": "", "at": 3}', { output: { at: 3 } }],
  ])("%s", async (_, value, body) => {
    const { run } = await serve(`import runpod\nrunpod.serverless.start({"handler": lambda job: ${value}})`);
    expect(await run({})).toEqual(body);
  });

  test("NaN, big integers, unicode and half a surrogate pair travel as Python prints them", async () => {
    const { server } = await serve(`
import runpod
def handler(job):
    return [float("nan"), float("-inf"), 2**80, job["input"], "\\u00e9\\U0001f600", "\\ud800"] if job["id"] == "odd" else ["\\u00e9"]
runpod.serverless.start({"handler": handler})`);
    server.submit({ id: "odd", input: "ü" }, { id: "plain", input: 1 });
    const { body } = await server.result("odd");
    expect(body).toBe(
      String.raw`{"output": [NaN, -Infinity, 1208925819614629174706176, "\u00fc", "\u00e9\ud83d\ude00", "\ud800"]}`,
    );
    expect((await server.result("plain")).body).toBe('{"output": ["é"]}');
  });

  test("10 MB in and out", async () => {
    const { server } = await serve(
      `import runpod\nrunpod.serverless.start({"handler": lambda job: job["input"]})`,
    );
    server.submit({ id: "big", input: "x".repeat(10_000_000) });
    expect((await server.result("big")).body.length).toBe(10_000_000 + '{"output": ""}'.length);
  });

  test("an exception is JSON text that starts at the handler's own frame", async () => {
    const { run, server } = await serve(`
import runpod
def handler(job):
    raise ValueError("no good")
runpod.serverless.start({"handler": handler})`);
    const { error } = (await run({})) as { error: string };
    const info = JSON.parse(error) as Record<string, string>;
    expect(info).toMatchObject({
      error_type: "<class 'ValueError'>",
      error_message: "no good",
      worker_id: "w-test",
    });
    expect(info.error_traceback).toContain('handler.py", line 4, in handler');
    expect(info.error_traceback).not.toContain("_rpx");
    expect(Object.keys(info)).toEqual([
      "error_type",
      "error_message",
      "error_traceback",
      "hostname",
      "worker_id",
      "runpod_version",
    ]);
    expect(await run({})).toHaveProperty("error");
    expect(server.of("job-done")).toHaveLength(2);
  });

  test("a result that JSON cannot carry fails the job, naming the type", async () => {
    const { run } = await serve(
      `import runpod\nrunpod.serverless.start({"handler": lambda job: {"image": b"123"}})`,
    );
    const { error } = (await run({})) as { error: string };
    expect(JSON.parse(error)).toHaveProperty(
      "error_message",
      expect.stringContaining("type bytes is not JSON"),
    );
  });

  test("an awaitable from a sync handler is awaited", async () => {
    const { run } = await serve(`
import runpod
async def work(job):
    return "done"
runpod.serverless.start({"handler": lambda job: work(job)})`);
    expect(await run({})).toEqual({ output: "done" });
    expect(await run({})).toEqual({ output: "done" });
  });
});

describe("generators", () => {
  const generator = (config: string, kind = "def"): string => `
import runpod
${kind} handler(job):
    for number in range(3):
        yield {"number": number}
    ${kind === "def" ? 'return "the end"' : ""}
runpod.serverless.start({"handler": handler${config}})`;

  test.each([
    ["a generator's return value is the output", generator(""), { output: "the end" }],
    [
      "return_aggregate_stream makes the chunks the output",
      generator(', "return_aggregate_stream": True'),
      { output: [{ number: 0 }, { number: 1 }, { number: 2 }] },
    ],
    ["an async generator has no return value", generator("", "async def"), { output: [] }],
    [
      "an async generator aggregates too",
      generator(', "return_aggregate_stream": True', "async def"),
      { output: [{ number: 0 }, { number: 1 }, { number: 2 }] },
    ],
    [
      "a generator in threads, at concurrency 3",
      generator(', "concurrency_modifier": lambda now: 3'),
      { output: "the end" },
    ],
  ])("%s", async (_, handler, body) => {
    const { run, server } = await serve(handler);
    expect(await run({})).toEqual(body);
    const chunks = server.of("job-stream");
    expect(chunks.map((chunk) => chunk.body)).toEqual([0, 1, 2].map((n) => `{"output": {"number": ${n}}}`));
    expect(chunks.map((chunk) => chunk.headers["x-rpx-chunk"])).toEqual(["0", "1", "2"]);
    expect(chunks[0]?.query.get("isStream")).toBe("false");
    expect(server.of("job-done")[0]?.query.get("isStream")).toBe("true");
  });

  test.each(["def", "async def"])("a chunk with an error ends the stream (%s)", async (kind) => {
    const { run, server } = await serve(`
import runpod
${kind} handler(job):
    yield 1
    yield {"error": {"code": 7}}
    yield 2
runpod.serverless.start({"handler": handler})`);
    expect(await run({})).toEqual({ error: "{'code': 7}" });
    expect(server.of("job-stream")).toHaveLength(1);
  });

  test("a generator that raises fails the job after its chunks", async () => {
    const { run, server } = await serve(`
import runpod
def handler(job):
    yield 1
    raise KeyError("lost")
runpod.serverless.start({"handler": handler})`);
    const { error } = (await run({})) as { error: string };
    expect(JSON.parse(error)).toMatchObject({ error_type: "<class 'KeyError'>" });
    expect(server.of("job-stream")).toHaveLength(1);
  });
});

describe("several jobs at once", () => {
  test("async jobs overlap, are taken as a batch, and say that jobs are in progress", async () => {
    const { server } = await serve(ASYNC);
    const jobs = [0, 1, 2].map((n) => ({ id: `slow-${n}`, input: { seconds: 0.3 } }));
    server.submit(...jobs);
    const posts = await Promise.all(jobs.map((job) => server.result(job.id)));
    const times = posts.map((post) => post.atMs);
    expect(Math.max(...times) - Math.min(...times)).toBeLessThan(250);
    const takes = server.seen.filter(isTake);
    expect(takes[0]?.query.get("batch_size")).toBe("4");
    expect(takes.map((take) => take.query.get("job_in_progress"))).toContain("1");
  });

  test("sync jobs overlap in threads; back at concurrency 1 they run in the main thread", async () => {
    const { server } = await serve(
      `
import runpod, threading, time
met = threading.Barrier(2)
wanted = [2]
def handler(job):
    if job["input"] == "meet":
        met.wait(5)
        wanted[0] = 1
    return threading.current_thread() is threading.main_thread()
runpod.serverless.start({"handler": handler, "concurrency_modifier": lambda now: wanted[0]})`,
      { holdMs: 300 },
    );
    server.submit({ id: "a", input: "meet" }, { id: "b", input: "meet" });
    expect((await server.result("a")).body).toBe('{"output": false}');
    server.submit({ id: "c", input: "alone" });
    await server.result("c");
    server.submit({ id: "d", input: "alone" });
    expect((await server.result("d")).body).toBe('{"output": true}');
  });

  test("more jobs than asked for wait their turn", async () => {
    const { server } = await serve(PLAIN, { prefetch: 3 });
    server.submit(...["a", "b", "c"].map((id) => ({ id, input: id })));
    await server.result("c");
    expect(server.of("job-done").map((post) => post.job)).toEqual(["a", "b", "c"]);
    expect(
      server.of("job-take").filter((take) => take.query.get("job_in_progress") === "0"),
    ).not.toHaveLength(0);
  });
});

describe("progress", () => {
  test.each([
    ["sync", "def handler(job):"],
    ["async", "async def handler(job):"],
  ])("updates arrive in order and before the result (%s)", async (_, head) => {
    const { run, server } = await serve(`
import runpod
${head}
    for percent in (10, 20, 30):
        runpod.serverless.progress_update(job, {"percent": percent})
    runpod.serverless.progress_update(job, object())
    return "done"
runpod.serverless.start({"handler": handler})`);
    await run({});
    expect(server.of("job-done").map((post) => post.body)).toEqual([
      '{"status": "IN_PROGRESS", "output": {"percent": 10}}',
      '{"status": "IN_PROGRESS", "output": {"percent": 20}}',
      '{"status": "IN_PROGRESS", "output": {"percent": 30}}',
      '{"output": "done"}',
    ]);
  });
});

describe("ending", () => {
  test.each([
    ["the result asks for it", 'lambda job: {"a": 1, "refresh_worker": True}', ""],
    ["the configuration asks for it", 'lambda job: {"a": 1}', ', "refresh_worker": True'],
  ])("refresh: %s", async (_, handler, config) => {
    const { run, worker, server } = await serve(
      `import runpod\nrunpod.serverless.start({"handler": ${handler}${config}})`,
      { isFast: true },
    );
    expect(await run({})).toEqual({ output: { a: 1 }, stopPod: true });
    expect(await worker.exit()).toBe(0);
    expect(server.of("job-done")[0]?.headers["x-rpx-take"]).toBeUndefined();
  });

  test.each([
    ["sync", PLAIN],
    ["async", ASYNC],
  ])("SIGTERM ends an idle worker though its polls are held (%s)", async (_, handler) => {
    const { worker, server } = await serve(handler);
    await server.until(
      "a take and a stop poll",
      () => server.of("job-stop").length > 0 && server.seen.some(isTake),
    );
    worker.signal("SIGTERM");
    expect(await worker.exit()).toBe(0);
  });

  test.each([
    ["sync", "import time", "def handler(job):\n    time.sleep(0.3)"],
    ["async", "import asyncio", "async def handler(job):\n    await asyncio.sleep(0.3)"],
  ])("SIGTERM lets the running job end and takes no other (%s)", async (_, imports, head) => {
    const { worker, server } = await serve(
      `import runpod\n${imports}\n${head}\n    return 1\nrunpod.serverless.start({"handler": handler})`,
      { isFast: true },
    );
    server.submit({ id: "a", input: 1 });
    await worker.printed("Started.");
    server.submit({ id: "b", input: 1 });
    worker.signal("SIGTERM");
    expect(await worker.exit()).toBe(0);
    expect(server.of("job-done").map((post) => post.job)).toEqual(["a"]);
  });

  test("SIGTERM while the server is away ends an idle worker", async () => {
    const { worker, server } = await serve(PLAIN);
    await server.until("a take", () => server.seen.some(isTake));
    await server.close();
    await worker.printed("Failed to get job.");
    worker.signal("SIGTERM");
    expect(await worker.exit()).toBe(0);
  });

  test("the ping process dies with its parent", async () => {
    const { worker, server } = await serve(PLAIN);
    await server.until("a ping", () => server.of("ping").length > 0);
    worker.signal("SIGKILL");
    await worker.exit();
    const before = server.of("ping").length;
    await expect(
      server.until("another ping", () => server.of("ping").length > before + 1, 700),
    ).rejects.toThrow();
  });
});

describe("stopping one job", () => {
  test.each([
    ["a sync handler that sleeps", "import time", "def handler(job):\n    time.sleep(job['input'])"],
    ["a sync handler that computes", "import time", "def handler(job):\n    while job['input']: pass"],
    ["an async handler", "import asyncio", "async def handler(job):\n    await asyncio.sleep(job['input'])"],
    [
      "a generator",
      "import time",
      "def handler(job):\n  while job['input']:\n    yield 1\n    time.sleep(0.02)",
    ],
    [
      "a sync handler that returns an awaitable",
      "import asyncio",
      "async def work(job):\n    await asyncio.sleep(job['input'])\ndef handler(job):\n    return work(job)",
    ],
  ])("%s is interrupted, reports nothing, and the worker goes on", async (_, imports, head) => {
    const { worker, server, run } = await serve(
      `import runpod\n${imports}\n${head}\nrunpod.serverless.start({"handler": handler})`,
    );
    server.submit({ id: "long", input: 30 });
    await worker.printed("Started.");
    server.stop("unknown", "long");
    await run(0);
    expect(server.of("job-done").map((post) => post.job)).not.toContain("long");
    expect(worker.output()).toContain("Job stopped.");
  });

  test("a sync handler in a thread cannot be interrupted: its result is dropped", async () => {
    const { worker, server } = await serve(`
import runpod, time
def handler(job):
    time.sleep(job["input"])
runpod.serverless.start({"handler": handler, "concurrency_modifier": lambda now: 2})`);
    server.submit({ id: "long", input: 0.4 });
    await worker.printed("Started.");
    server.stop("long");
    await worker.printed("Job stopped.");
    expect(server.of("job-done")).toEqual([]);
  });
});

describe("heartbeat", () => {
  test("pings go on while a handler holds the interpreter, and name the running job", async () => {
    const { worker, server } = await serve(`
import runpod, re
def handler(job):
    re.match(r"(a*)*b", "a" * job["input"])  # one call in C that never lets go
runpod.serverless.start({"handler": handler})`);
    server.submit({ id: "hog", input: 60 });
    await worker.printed("Started.");
    const before = server.of("ping").length;
    await server.until("pings", () => server.of("ping").length >= before + 3);
    expect(server.of("ping").at(-1)?.query.get("job_id")).toBe("hog");
    expect(server.of("ping")[0]?.query.get("runpod_version")).toMatch(/\+rpx$/);
  });

  test("no key, no pings", async () => {
    const { worker } = await serve(PLAIN, { env: { RUNPOD_AI_API_KEY: "" } });
    await server?.until("a take", () => server?.seen.some(isTake) ?? false);
    worker.signal("SIGTERM");
    expect(await worker.exit()).toBe(0);
    expect(server?.of("ping")).toEqual([]);
    (server?.violations as string[]).length = 0; // each request lacks the key, as meant
  });
});

describe("a server that fails", () => {
  test.each([
    ["sync", PLAIN],
    ["async", ASYNC],
  ])(
    "F-04 a result is repeated after resets and 5xx, once each, until it is taken (%s)",
    async (_, handler) => {
      const { run, server } = await serve(handler);
      server.failNext("job-done", "reset-before", 503, "reset-after", 429);
      expect(await run({ a: 1 })).toHaveProperty("output.got", { a: 1 });
      expect(server.of("job-done")).toHaveLength(1);
    },
  );

  test("a chunk is repeated in its place", async () => {
    const { run, server } = await serve(`
import runpod
def handler(job):
    yield from range(3)
runpod.serverless.start({"handler": handler})`);
    server.failNext("job-stream", 500, "reset-after");
    await run({});
    expect(server.of("job-stream").map((chunk) => chunk.body)).toEqual(
      [0, 1, 2].map((n) => `{"output": ${n}}`),
    );
  });

  test("a refused result is dropped and said, and the worker goes on", async () => {
    const { run, server, worker } = await serve(PLAIN);
    server.failNext("job-done", 413);
    server.submit({ id: "refused", input: 1 });
    await run(2);
    expect(server.of("job-done", "refused")).toEqual([]);
    expect(worker.output()).toContain("Failed to return job results. | HTTP 413");
  });

  test.each([
    ["sync", PLAIN],
    ["async", ASYNC],
  ])("takes go on after resets, 400, 403 and 500 (%s)", async (_, handler) => {
    const { run, server } = await serve(handler);
    for (const route of ["job-take", "job-take-batch"] as const)
      server.failNext(route, "reset-after", 400, 403, 500);
    await run({});
  });
});

describe("fast path", () => {
  test("one take, then each result brings the next job; attempts are echoed", async () => {
    const { server } = await serve(PLAIN, { isFast: true });
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
    const { server } = await serve(ASYNC, { isFast: true });
    const ids = Array.from({ length: 40 }, (_, n) => `n-${n}`);
    server.submit(...ids.map((id) => ({ id, input: {} })));
    await Promise.all(ids.map((id) => server.result(id)));
    const posts = server.of("job-done");
    expect(posts).toHaveLength(40);
    for (const post of posts) expect(Number(post.headers["x-rpx-take"] ?? 0)).toBeLessThanOrEqual(4);
    // Two jobs that end together may ask for both places in one post.
    expect(posts.filter((post) => Number(post.headers["x-rpx-take"] ?? 0) > 0).length).toBeGreaterThan(10);
  });

  test("chunks and progress carry the attempt", async () => {
    const { run, server } = await serve(
      `import runpod
def handler(job):
    runpod.serverless.progress_update(job, 1)
    yield 1
runpod.serverless.start({"handler": handler})`,
      { isFast: true },
    );
    await run({});
    const posts = server.seen.filter(
      (request) => request.route === "job-stream" || request.route === "job-done",
    );
    expect(posts.map((post) => post.headers["x-rpx-attempt"])).toEqual(["1", "1", "1"]);
  });

  test("a server that does not speak it is asked in the stock way", async () => {
    const { run, server } = await serve(PLAIN);
    await run(1);
    await run(2);
    await server.until("a take after each job", () => server.of("job-take").length === 3);
    expect(server.of("job-done").every((post) => post.headers["x-rpx-take"] === undefined)).toBe(true);
  });
});

describe("fitness checks", () => {
  test("a check that fails is reported and ends the worker with 1, before any take", async () => {
    const { worker, server } = await serve(`
import runpod
@runpod.serverless.register_fitness_check
async def gpu_is_there():
    raise RuntimeError("no GPU & no hope")
runpod.serverless.start({"handler": lambda job: 1})`);
    expect(await worker.exit()).toBe(1);
    const [ping] = server.seen;
    expect(server.seen).toHaveLength(1);
    expect(Object.fromEntries(ping?.query ?? [])).toMatchObject({
      status: "unhealthy",
      check: "gpu_is_there",
      reason: "RuntimeError: no GPU & no hope",
    });
  });
});

describe("logs", () => {
  test("on an endpoint a line is JSON with the job's id; a batch job's lines name the batch", async () => {
    const { worker, server } = await serve(PLAIN);
    server.submit({ id: "one", input: 1, batchId: "batch_7" });
    await worker.printed("Finished.");
    const lines = worker
      .output()
      .split("\n")
      .filter((line) => line.startsWith("{"));
    expect(lines.map((line) => JSON.parse(line))).toContainEqual({
      requestId: "one",
      message: "[batchId=batch_7] Started.",
      level: "INFO",
    });
    expect(worker.output()).toMatch(/^--- Starting Serverless Worker \| {2}Version .*\+rpx ---\n/);
  });

  test("long messages lose their middle, levels are kept, elsewhere a line is aligned text", async () => {
    const cwd = await workers.folder({
      "handler.py": `
from runpod import RunPodLogger
log = RunPodLogger()
log.info("x" * 5000)
log.set_level("WARN")
log.info("unseen")
log.warn("seen", "job-1")
log.tip("tip")
log.secret("key", "abcdef")`,
    });
    const worker = python(cwd);
    await worker.exit();
    const lines = worker.output().split("\n");
    expect(lines[0]).toBe(`INFO   | ${"x".repeat(2048)}`);
    expect(lines[1]).toBe("...TRUNCATED 904 CHARACTERS...");
    expect(lines.slice(3)).toEqual(["WARN   | job-1 | seen", "TIP    | tip", ""]);
  });
});

describe("local tests", () => {
  test.each([
    [
      "--test_input",
      { "handler.py": PLAIN },
      ["--test_input", '{"input": {"a": 1}}'],
      0,
      "Job result: {'output': {'got': {'a': 1}",
    ],
    ["--test_input=", { "handler.py": PLAIN }, ['--test_input={"input": 5}'], 0, "'got': 5"],
    ["test_input.json", { "handler.py": PLAIN, "test_input.json": '{"input": 3}' }, [], 0, "'got': 3"],
    ["neither", { "handler.py": PLAIN }, [], 1, "test_input.json not found"],
    ["no input", { "handler.py": PLAIN }, ["--test_input", "{}"], 1, "Job has no input parameter"],
    ["no JSON", { "handler.py": PLAIN }, ["--test_input", "{"], 1, "--test_input is not JSON"],
    [
      "an error",
      { "handler.py": PLAIN.replace("return {", 'return {"error": "bad", ') },
      ["--test_input", '{"input": 1}'],
      1,
      "failed with error: bad",
    ],
    ["--rp_serve_api", { "handler.py": PLAIN }, ["--rp_serve_api", "--rp_api_port", "8001"], 1, "rpx dev"],
    [
      "--rp_log_level",
      { "handler.py": PLAIN },
      ["--rp_log_level", "ERROR", "--test_input", '{"input": 1}'],
      0,
      "",
    ],
  ])("%s", async (_, files, args, code, text) => {
    const worker = python(await workers.folder(files), {}, ...args);
    expect(await worker.exit()).toBe(code);
    expect(worker.output()).toContain(text);
  });
});

describe("which runpod is imported", () => {
  const MAIN = 'import runpod, sys\nprint("version", runpod.__version__, "argv", sys.argv[1:])';
  const OTHER = { "runpod/__init__.py": '__version__ = "other"' };

  test("a runpod folder beside the handler wins", async () => {
    const worker = python(await workers.folder({ "handler.py": MAIN, ...OTHER }));
    await worker.exit();
    expect(worker.output()).toContain("version other");
  });

  test("an installed runpod wins", async () => {
    const cwd = await workers.folder({ "handler.py": MAIN });
    const site = await workers.folder(OTHER);
    const worker = python(cwd, { PYTHONPATH: `${SITE}:${site}` });
    await worker.exit();
    expect(worker.output()).toContain("version other");
  });

  test("the stand-in comes last, and the next sitecustomize still runs", async () => {
    const cwd = await workers.folder({
      "handler.py": `import sitecustomize\n${MAIN}\nprint(sitecustomize.mark)`,
    });
    const site = await workers.folder({ "sitecustomize.py": 'mark = "next"\nprint("customized")' });
    const worker = python(cwd, { PYTHONPATH: `${SITE}:${site}` });
    expect(await worker.exit()).toBe(0);
    expect(worker.output()).toMatch(/^customized\nversion .*\+rpx argv \[\]\nnext\n$/);
  });

  test.each([
    "from runpod import Endpoint",
    "import runpod; runpod.get_endpoints()",
    "from runpod.serverless.utils import rp_upload",
    "from runpod.serverless.utils.rp_download import download_files_from_urls",
  ])("what is lacking names the real package: %s", async (statement) => {
    const cwd = await workers.folder({
      "handler.py": `try:\n    ${statement}\nexcept ImportError as err:\n    print(err)`,
    });
    const worker = python(cwd);
    expect(await worker.exit()).toBe(0);
    expect(worker.output()).toMatch(/^runpod\..* is not part of rpx's stand-in .*pip install runpod/);
  });
});

test("rp_validator fills in defaults and lists every error", async () => {
  const cwd = await workers.folder({
    "handler.py": `
import json
from runpod.serverless.utils.rp_validator import validate
schema = {
    "n": {"type": float, "required": True},
    "m": {"type": int, "required": False, "default": 3, "constraints": lambda value: value < 5},
}
print(json.dumps([validate({"n": 1}, schema), validate({"m": 9, "z": 0}, schema), validate({"n": "x"}, schema)]))`,
  });
  const worker = python(cwd);
  await worker.exit();
  expect(JSON.parse(worker.output())).toEqual([
    { validated_input: { n: 1, m: 3 } },
    {
      errors: [
        "Unexpected input. z is not a valid input option.",
        "n is a required input.",
        "m does not meet the constraints.",
      ],
    },
    { errors: ["n should be <class 'float'> type, not <class 'str'>."] },
  ]);
});

test("only the standard library is imported, and no asyncio before a job needs it", async () => {
  const { worker, run } = await serve(
    `
import runpod, sys
def handler(job):
    return sorted(name for name in ("asyncio", "http.client", "urllib.request", "inspect", "argparse") if name in sys.modules)
runpod.serverless.start({"handler": handler})`,
    { env: { PYTHONNOUSERSITE: "1" } },
  );
  const bare = python(await workers.folder({ "handler.py": "import sys\nprint('asyncio' in sys.modules)" }));
  await bare.exit();
  expect(bare.output()).toBe("False\n");
  expect(await run({})).toEqual({ output: [] });
  worker.signal("SIGTERM");
  expect(await worker.exit()).toBe(0);
  const source = await readFile(
    fileURLToPath(new URL("../../../sdk/python/runpod/__init__.py", import.meta.url)),
    "utf8",
  );
  expect(source).not.toMatch(/import (requests|aiohttp)/);
});

function isTake(request: { readonly route: string }): boolean {
  return request.route.startsWith("job-take");
}
