import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { LogLineBody } from "../../src/contract/schemas/worker.ts";
import { eventually, type RealDaemon, startRealDaemon } from "../support/real-daemon.ts";
import {
  attach,
  createFolder,
  type DeployedEndpoint,
  deploy,
  EXAMPLES,
  FIXTURES,
  isRunning,
} from "./endpoint.ts";

let daemon: RealDaemon;
const folder = createFolder();
const path = (name: string) => join(folder.path, name);

beforeAll(async () => {
  daemon = await startRealDaemon();
});

afterAll(async () => {
  folder.remove();
  expect(await daemon.stop()).toBe(0);
  expect(daemon.stderr()).not.toContain('"level":50');
});

/** An endpoint of one worker that runs a file of test/fixtures/e2e. */
function oneWorker(name: string, handler: string, config = {}): Promise<DeployedEndpoint> {
  return deploy(
    daemon,
    name,
    { folder: FIXTURES, handler },
    { workers: { max: 1, idle_timeout: "60s" }, ...config },
  );
}

async function exists(file: string): Promise<void> {
  await eventually(async () => existsSync(file), 15_000, `the handler makes ${file}`);
}

async function workerPid(endpoint: DeployedEndpoint): Promise<number> {
  const done = await endpoint.run({ do: "pid" });
  expect(done).toMatchObject({ status: "COMPLETED", output: expect.any(Number) });
  return Number(done.output);
}

async function logs(query: string): Promise<LogLineBody[]> {
  const { text } = await daemon.call("GET", query);
  return text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as LogLineBody);
}

function bytesBelow(directory: string): number {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0);
}

/** Chunks of a stream, read until its final state is said. */
async function readStream(endpoint: DeployedEndpoint, id: string): Promise<{ output: unknown }[]> {
  const chunks: { output: unknown }[] = [];
  for (;;) {
    const reply = await daemon.call("GET", `/v2/${endpoint.name}/stream/${id}`);
    const body = reply.json<{ status: string; stream: { output: unknown }[] }>();
    chunks.push(...body.stream);
    if (body.status !== "IN_QUEUE" && body.status !== "IN_PROGRESS") return chunks;
  }
}

describe("the handlers of RunPod's programming model", () => {
  test("the plain one", async () => {
    const plain = await oneWorker("plain", "plain.py");
    expect(await plain.run({ instruction: "draw a horse", seconds: 0.1 })).toMatchObject({
      status: "COMPLETED",
      output: "draw a horse",
    });
    const lines = await logs("/api/endpoints/plain/logs?tail=50");
    expect(lines.map(({ line }) => line)).toContain("Instruction: draw a horse, sleeping for 0.1 seconds");
  });

  test("the generator: ten chunks through /stream, its return value as the output", async () => {
    const generator = await oneWorker("generator", "generator.py");
    const id = await generator.submit({});
    const chunks = await readStream(generator, id);
    expect(chunks).toEqual(
      Array.from({ length: 10 }, (_, step) => ({ output: { progress: (step + 1) * 10, step } })),
    );
    expect(await generator.end(id)).toMatchObject({ status: "COMPLETED", output: { status: "complete" } });
    // Without a reader of the stream: the same output.
    expect(await generator.run({})).toMatchObject({ status: "COMPLETED", output: { status: "complete" } });
  });
});

describe("results", () => {
  let odd: DeployedEndpoint;
  beforeAll(async () => {
    odd = await oneWorker("odd", "odd.py");
  });

  test("a handler that raises: FAILED, with type, message and traceback", async () => {
    const failed = await odd.run({ do: "raise" });
    expect(failed).toMatchObject({ status: "FAILED", error: expect.any(String) });
    expect(failed).not.toHaveProperty("output");
    const error = JSON.parse(failed.error ?? "") as Record<string, string>;
    expect(error).toMatchObject({
      error_type: "<class 'ValueError'>",
      error_message: "no such prompt: ünïcode",
      worker_id: failed.workerId,
    });
    expect(error.error_traceback).toContain('odd.py", line');
    expect(error.error_traceback).toContain("in fail");
    expect(failed.error).not.toMatch(/rpx_[a-z]/);
  });

  test.each([
    ["integers beyond 2^53", "[12345678901234567890123456789, -9007199254740993]"],
    ["unicode, also astral", '{"ü": "Zwölf Boxkämpfer", "emoji": "👩‍👩‍👧 😀", "zero": "a\\u0000b"}'],
    ["half of a surrogate pair", '{"lone": "a\\ud800b", "rest": "\\ud83d\\ude00"}'],
    ["control characters and separators", '"\\u0001\\u001b[31m\u2028\u2029\x7f\\"\\\\"'],
    ["an empty object in a list", "[{}, [], null, true, 1.5, 1e+300]"],
    ["a name of JavaScript", '{"__proto__": {"polluted": true}, "constructor": 1}'],
    ["a text that looks like a number", '"00012"'],
    ["null", "null"],
    ["zero", "0"],
    ["false", "false"],
    ["an empty text", '""'],
  ])("%s: byte for byte", async (_, text) => {
    const reply = await daemon.call("POST", "/v2/odd/runsync", { input: { do: "json", text } });
    expect(reply.text).toContain(`"output":${text},`);
    expect(reply.text).toContain('"status":"COMPLETED"');
    const again = await daemon.call("GET", `/v2/odd/status/${reply.json<{ id: string }>().id}`);
    expect(again.text).toContain(`"output":${text},`);
  });

  test("an empty dict: COMPLETED", async () => {
    expect(await odd.run({ do: "json", text: "{}" })).toMatchObject({ status: "COMPLETED" });
  });

  test("F-31: NaN becomes null", async () => {
    const done = await odd.run({ do: "nan" });
    expect(done).toMatchObject({ status: "COMPLETED", output: null });
    expect(await odd.run({ do: "json", text: '{"a": [NaN, -Infinity, "NaN"]}' })).toMatchObject({
      output: { a: [null, null, "NaN"] },
    });
  });

  test("base64 of 8 MB, in and out", async () => {
    const value = Buffer.from(
      Uint32Array.from({ length: 1_500_000 }, (_, n) => Math.imul(n, 2_654_435_761)).buffer,
    ).toString("base64");
    expect(value.length).toBe(8_000_000);
    const id = await odd.submit({ do: "echo", value });
    const done = await odd.end(id);
    expect(done.status).toBe("COMPLETED");
    expect(done.output === value).toBe(true);
  });

  test("a dict with an error: FAILED, the rest is the output", async () => {
    expect(await odd.run({ do: "error" })).toMatchObject({
      status: "FAILED",
      error: "the model said no",
      output: { code: 17 },
    });
  });

  test("a result that JSON cannot carry: FAILED at once, naming the type", async () => {
    const failed = await odd.run({ do: "bytes" });
    expect(failed.status).toBe("FAILED");
    expect(JSON.parse(failed.error ?? "")).toMatchObject({
      error_message: expect.stringContaining("type bytes is not JSON"),
    });
  });

  test("progress shows as output while the job runs", async () => {
    const gate = path("progress");
    const id = await odd.submit({ do: "progress", path: gate });
    const shown = await eventually(
      async () => {
        const body = await odd.status(id);
        return body.output !== undefined && body;
      },
      10_000,
      "progress is shown",
    );
    expect(shown).toMatchObject({ status: "IN_PROGRESS", output: { percent: 50, note: "half ✓" } });
    writeFileSync(gate, "");
    expect(await odd.end(id)).toMatchObject({ status: "COMPLETED", output: "done" });
  });

  test("refresh_worker: the next job runs in another process", async () => {
    const first = await odd.run({ do: "refresh" });
    expect(first).toMatchObject({ status: "COMPLETED", output: { pid: expect.any(Number) } });
    const startedMs = performance.now();
    expect(await workerPid(odd)).not.toBe((first.output as { pid: number }).pid);
    expect(performance.now() - startedMs, "replaced without a pause").toBeLessThan(5_000);
  });

  test("F-07: 10 MB printed: the job completes, the log is bounded and its end readable", async () => {
    const { workerId = "" } = await odd.run({ do: "flood", megabytes: 10 });
    const tail = await eventually(
      async () => {
        const lines = await logs(`/api/workers/${workerId}/logs?tail=20`);
        return lines.some(({ line }) => line === "the last line of the flood") && lines;
      },
      10_000,
      "the end of the flood is read",
    );
    expect(tail.length).toBeLessThanOrEqual(20);
    // Three segments of 10 MiB at most; a stamp makes each of these lines longer by a sixth.
    expect(bytesBelow(join(daemon.dataDir, "logs"))).toBeLessThan(3 * 10 * 2 ** 20);
  });
});

describe.concurrent("jobs that do not end by themselves", () => {
  test("execution timeout of an endless loop: FAILED after 5 s, the worker stops the job and goes on", async () => {
    const endpoint = await oneWorker("spins", "odd.py", { limits: { execution_timeout: "5s" } });
    const pid = await workerPid(endpoint);
    const id = await endpoint.submit({ do: "spin" });
    const failed = await endpoint.end(id);
    expect(failed).toMatchObject({ status: "FAILED", error: "job timed out after 0 retries" });
    expect(failed.executionTime).toBeGreaterThanOrEqual(5_000);
    expect(failed.executionTime).toBeLessThan(6_500);
    expect(await workerPid(endpoint)).toBe(pid);
  });

  test("F-16: one that lets nothing stop it: the worker is killed and replaced, the next job runs", {
    timeout: 40_000,
  }, async () => {
    const endpoint = await oneWorker("stubborn", "odd.py");
    const pid = await workerPid(endpoint);
    const id = await endpoint.submit(
      { do: "stubborn", path: path("never") },
      { policy: { executionTimeout: 5_000 } },
    );
    await endpoint.until(id, ["IN_PROGRESS"]);
    const next = await endpoint.submit({ do: "pid" });
    expect(await endpoint.end(id)).toMatchObject({
      status: "FAILED",
      error: "job timed out after 0 retries",
    });
    const done = await endpoint.end(next);
    expect(done).toMatchObject({ status: "COMPLETED", output: expect.any(Number) });
    expect(done.output).not.toBe(pid);
    expect(isRunning(pid)).toBe(false);
    expect((await endpoint.detail(id)).reason).toContain("its execution timeout of 5.0 s was over");
  });

  test("cancel of a running job: the handler is stopped, the worker stays", async () => {
    const endpoint = await oneWorker("cancels", "odd.py");
    const pid = await workerPid(endpoint);
    const gate = path("cancelled");
    const id = await endpoint.submit({ do: "gated", path: gate });
    await exists(`${gate}.begun`);
    expect((await daemon.call("POST", `/v2/cancels/cancel/${id}`)).json()).toMatchObject({
      id,
      status: "CANCELLED",
    });
    await exists(`${gate}.stopped`);
    expect(await workerPid(endpoint)).toBe(pid);
    expect(await endpoint.status(id)).toMatchObject({ status: "CANCELLED" });
    expect((await daemon.call("POST", `/v2/cancels/cancel/${id}`)).json()).toMatchObject({
      id,
      status: "CANCELLED",
    });
  });

  test("ACC-08, F-15: a poison job is FAILED worker_lost after 3 deliveries, 20 others complete", async () => {
    const endpoint = await deploy(
      daemon,
      "poisoned",
      { folder: FIXTURES, handler: "odd.py" },
      { workers: { max: 2, idle_timeout: "60s" } },
    );
    const deliveries = path("poison");
    const ids = [];
    for (let n = 0; n < 10; n += 1) ids.push(await endpoint.submit({ do: "echo", value: n }));
    const poison = await endpoint.submit({ do: "crash", path: deliveries });
    for (let n = 10; n < 20; n += 1) ids.push(await endpoint.submit({ do: "echo", value: n }));
    for (const [n, id] of ids.entries())
      expect(await endpoint.end(id)).toMatchObject({ status: "COMPLETED", output: n });
    const failed = await endpoint.end(poison);
    expect(failed).toMatchObject({
      status: "FAILED",
      retries: 2,
      error: expect.stringContaining("worker_lost"),
    });
    expect(readFileSync(deliveries, "utf8")).toBe("delivered\n".repeat(3));
    const detail = await endpoint.detail(poison);
    expect(detail).toMatchObject({ failure: "worker_lost", attempts: 3 });
    expect(
      new Set(detail.events.flatMap(({ kind, workerId }) => (kind === "job.take" ? [workerId] : []))).size,
    ).toBe(3);
    expect(await endpoint.run({ do: "echo", value: "alive" })).toMatchObject({ status: "COMPLETED" });
  });

  test("F-13: a handler that does not import: the job says why it waits; corrected code runs it at once", async () => {
    const broken = folder.write({ "handler.py": "import runpod\nimport no_such_module\n" });
    const endpoint = await deploy(
      daemon,
      "broken",
      { folder: broken, handler: "handler.py" },
      { workers: { max: 1 } },
    );
    const id = await endpoint.submit({ name: "Ada" });
    const { reason } = await eventually(
      async () => {
        const detail = await endpoint.detail(id);
        return detail.reason.includes("next start in") && detail;
      },
      15_000,
      "the job's reason says when the next start is",
    );
    expect(reason).toMatch(
      /code 1\b.*ModuleNotFoundError: No module named 'no_such_module'.*next start in \d+/,
    );
    expect((await endpoint.status(id)).status).toBe("IN_QUEUE");
    const [worker] = await endpoint.workers();
    expect(worker).toMatchObject({ state: "unhealthy", reason: expect.stringContaining("no_such_module") });
    const fixed = readFileSync(join(EXAMPLES, "hello/handler.py"), "utf8");
    expect(
      await endpoint.update({ folder: folder.write({ "handler.py": fixed }), handler: "handler.py" }),
    ).toBe(200);
    expect(await endpoint.end(id, 5_000)).toMatchObject({ status: "COMPLETED", output: "Hello, Ada!" });
  });
});

describe.concurrent("several jobs at once", () => {
  test("async jobs of one worker overlap", async () => {
    const endpoint = await oneWorker("overlapping", "overlapping.py");
    const ids = await Promise.all(Array.from({ length: 16 }, () => endpoint.submit({ seconds: 0.5 })));
    const outputs = await Promise.all(ids.map(async (id) => (await endpoint.end(id)).output));
    expect(Math.max(...outputs.map(Number))).toBe(8);
    expect(await endpoint.workers()).toHaveLength(1);
  });

  test("a low priority job starts no worker and goes last", async () => {
    const endpoint = await deploy(
      daemon,
      "patient",
      { folder: FIXTURES, handler: "odd.py" },
      { workers: { max: 1, idle_timeout: "2s" } },
    );
    const order = path("order-low");
    const low = await endpoint.submit({ do: "order", n: 2, path: order }, { policy: { lowPriority: true } });
    await eventually(
      async () => (await endpoint.detail(low)).reason.includes("low priority"),
      5_000,
      "its reason says so",
    );
    expect(await endpoint.workers()).toEqual([]);
    expect(await endpoint.run({ do: "order", n: 1, path: order })).toMatchObject({ status: "COMPLETED" });
    expect(await endpoint.end(low)).toMatchObject({ status: "COMPLETED" });
    expect(readFileSync(order, "utf8")).toBe("1\n2\n");
  });

  test("D19: prefetch 8 hands eight jobs over at once, and they run in order", async () => {
    const endpoint = await oneWorker("prefetch", "odd.py", { workers: { max: 0, prefetch: 8 } });
    const order = path("order-prefetch");
    const gate = path("prefetch-gate");
    const first = await endpoint.submit({ do: "gated", path: gate });
    const ids: string[] = [];
    for (let n = 0; n < 20; n += 1) ids.push(await endpoint.submit({ do: "order", n, path: order }));
    await daemon.call("PATCH", "/api/endpoints/prefetch", { config: { workers: { max: 1 } } });
    await exists(`${gate}.begun`);
    const [worker] = await endpoint.workers();
    expect(worker?.jobIds).toHaveLength(8);
    expect((await endpoint.detail(ids[0] ?? "")).reason).toContain("behind the job that it runs");
    expect((await endpoint.status(ids[7] ?? "")).status).toBe("IN_QUEUE");
    writeFileSync(gate, "");
    expect(await endpoint.end(first)).toMatchObject({ status: "COMPLETED" });
    for (const [n, id] of ids.entries())
      expect(await endpoint.end(id)).toMatchObject({ status: "COMPLETED", output: n });
    expect(readFileSync(order, "utf8").trim().split("\n").map(Number)).toEqual(ids.map((_, n) => n));
  });

  test("D19: a worker that dies takes no prefetched job's attempt with it", async () => {
    const endpoint = await oneWorker("prefetch-poison", "odd.py", { workers: { max: 0, prefetch: 8 } });
    const poison = await endpoint.submit({ do: "crash", path: path("prefetch-poison") });
    const ids: string[] = [];
    for (let n = 0; n < 10; n += 1) ids.push(await endpoint.submit({ do: "echo", value: n }));
    await daemon.call("PATCH", "/api/endpoints/prefetch-poison", { config: { workers: { max: 1 } } });
    expect(await endpoint.end(poison)).toMatchObject({ status: "FAILED", retries: 2 });
    for (const [n, id] of ids.entries()) {
      const done = await endpoint.end(id);
      expect(done).toMatchObject({ status: "COMPLETED", output: n });
      expect(done.retries, "it had not begun").toBeUndefined();
    }
  });
});

describe("Node handlers", () => {
  test("examples/node", async () => {
    const endpoint = await deploy(daemon, "node", { folder: join(EXAMPLES, "node"), handler: "handler.mjs" });
    expect(await endpoint.run({ name: "Ada" })).toMatchObject({ status: "COMPLETED", output: "Hello, Ada!" });
  });

  test("errors, streams, cancel, and a process that ends in a job", async () => {
    const endpoint = await oneWorker("node-odd", "odd.mjs");
    const pid = await workerPid(endpoint);
    const failed = await endpoint.run({ do: "raise" });
    expect(failed.status).toBe("FAILED");
    expect(failed.error).toContain("out of range");
    expect(failed.error).toContain("odd.mjs");
    expect((await endpoint.run({ do: "cycle" })).status).toBe("FAILED");
    expect(await endpoint.run({ do: "nan" })).toMatchObject({ status: "COMPLETED", output: { value: null } });
    expect(await endpoint.run({ any: ["ü", { "😀": 1 }] })).toMatchObject({
      output: { any: ["ü", { "😀": 1 }] },
    });
    const streamed = await endpoint.submit({ do: "stream", steps: 5 });
    expect(await readStream(endpoint, streamed)).toEqual(
      [0, 1, 2, 3, 4].map((step) => ({ output: { step } })),
    );
    expect(await endpoint.end(streamed)).toMatchObject({ output: { status: "complete" } });
    const gate = path("node-gate");
    const id = await endpoint.submit({ do: "gated", path: gate });
    await exists(`${gate}.begun`);
    await daemon.call("POST", `/v2/node-odd/cancel/${id}`);
    await exists(`${gate}.stopped`);
    expect(await workerPid(endpoint), "the same worker").toBe(pid);
    const lost = await endpoint.end(await endpoint.submit({ do: "exit" }));
    expect(lost).toMatchObject({ status: "FAILED", retries: 2 });
    expect(await workerPid(attach(daemon, "node-odd"))).not.toBe(pid);
  });
});
