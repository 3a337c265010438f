import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createdKeySchema, keySchema, statusSchema } from "../../src/contract/schemas/daemon.ts";
import { endpointSchema } from "../../src/contract/schemas/endpoint.ts";
import {
  healthSchema,
  jobBodySchema,
  jobDetailSchema,
  jobRecordSchema,
} from "../../src/contract/schemas/job.ts";
import { logLineSchema, workerSchema } from "../../src/contract/schemas/worker.ts";
import { createSandbox, type Ended, type Running, type Sandbox } from "./support/rpx.ts";

// The commands against a real daemon with real workers, in the order of a working day.

const HANDLER = `
import time
import runpod

def handler(event):
    job_input = event["input"]
    if "fail" in job_input:
        raise ValueError(job_input["fail"])
    time.sleep(job_input.get("sleep", 0))
    print("handled", job_input)
    return {"big": 12345678901234567890, "got": job_input}

runpod.serverless.start({"handler": handler})
`;
const STREAMER = `
import runpod

def handler(event):
    for index in range(3):
        yield {"index": index}

runpod.serverless.start({"handler": handler, "return_aggregate_stream": True})
`;

let sandbox: Sandbox;
let daemon: Running;

beforeAll(async () => {
  sandbox = createSandbox();
  for (const [name, source] of [
    ["hello", HANDLER],
    ["chunks", STREAMER],
  ] as const) {
    mkdirSync(join(sandbox.folder, name));
    writeFileSync(join(sandbox.folder, name, "handler.py"), source);
  }
  writeFileSync(join(sandbox.folder, "hello", "rpx.toml"), '[workers]\nmax = 2\nidle_timeout = "60s"\n');
  daemon = sandbox.start(["serve", "--port", "0", "--worker-port", "0"]);
  await daemon.said("ready at");
}, 60_000);

afterAll(async () => {
  daemon?.child.kill("SIGTERM");
  await daemon?.ended;
  sandbox?.remove();
}, 60_000);

async function ok(...args: string[]): Promise<Ended> {
  const ended = await sandbox.rpx(args);
  expect(ended.code, `rpx ${args.join(" ")}: ${ended.stderr}`).toBe(0);
  return ended;
}

/** The answer with --json, which is one document and nothing else. */
async function json(...args: string[]): Promise<unknown> {
  return JSON.parse((await ok(...args, "--json")).stdout);
}

test("status needs neither address nor key from the user who started the daemon", async () => {
  expect(statusSchema.parse(await json("status")).pool).toBe("process");
  expect((await ok("status")).stdout).toMatch(/^daemon +http:/);
});

test("endpoint create: flags over rpx.toml, NAME over its name, values in RunPod's spelling", async () => {
  const flags = [
    "--workers-max",
    "1",
    "--scale-by",
    "QUEUE_DELAY",
    "--execution-timeout",
    "30",
    "--env",
    "MODEL=tiny",
  ];
  const { stdout, stderr } = await ok(
    "endpoint",
    "create",
    "hello",
    "--handler",
    "hello",
    ...flags,
    "--json",
  );
  const endpoint = endpointSchema.parse(JSON.parse(stdout));
  expect(endpoint.name).toBe("hello");
  expect(endpoint.url.endsWith(`/v2/${endpoint.id}`)).toBe(true);
  expect(endpoint.config.workers).toMatchObject({
    max: 1,
    idle_timeout: expect.toSatisfy((value) => /^(60s|1m)/.test(String(value))),
  });
  expect(endpoint.config.scale?.by).toBe("queue-delay");
  expect(stderr).toContain("packing");
});

test("endpoint create: a taken name exits 6, and says what to do", async () => {
  const { code, stdout, stderr } = await sandbox.rpx(["endpoint", "create", "hello", "--handler", "hello"]);
  expect({ code, stdout }).toEqual({ code: 6, stdout: "" });
  expect(stderr).toMatch(/Error: .*hello/);
});

describe("job run", () => {
  test("prints the output as the handler wrote it; integers beyond 2^53 survive both ways (D4)", async () => {
    const { stdout } = await ok("job", "run", "hello", "-i", '{"number": 98765432109876543210}');
    expect(stdout).toBe('{"big": 12345678901234567890, "got": {"number": 98765432109876543210}}\n');
  });

  test("--json prints the whole job", async () => {
    const { stdout } = await ok("job", "run", "hello", "-i", "name=Ada", "-i", "count=3", "--json");
    expect(jobBodySchema.parse(JSON.parse(stdout)).status).toBe("COMPLETED");
    expect(stdout).toContain("12345678901234567890");
    expect(JSON.parse(stdout).output.got).toEqual({ name: "Ada", count: 3 });
  });

  test("takes the input from a file and from standard input", async () => {
    writeFileSync(join(sandbox.folder, "input.json"), '{"from": "file"}');
    expect(JSON.parse((await ok("job", "run", "hello", "-i", "@input.json")).stdout).got).toEqual({
      from: "file",
    });
    const piped = await sandbox.rpx(["job", "run", "hello", "-"], { stdin: '{"from": "pipe"}' });
    expect(JSON.parse(piped.stdout).got).toEqual({ from: "pipe" });
  });

  test("a failed job exits 7, error and traceback on stderr, nothing on stdout", async () => {
    const { code, stdout, stderr } = await sandbox.rpx(["job", "run", "hello", "-i", "fail=told to"]);
    expect({ code, stdout }).toEqual({ code: 7, stdout: "" });
    expect(stderr).toContain("Traceback (most recent call last)");
    expect(stderr).toMatch(/Error: job \S+ ended FAILED\nwhy: ValueError: told to\ntry: rpx job get \S+\n$/);
  });

  test("a failed job with --json is still one document", async () => {
    const { code, stdout } = await sandbox.rpx(["job", "run", "hello", "-i", "fail=told to", "--json"]);
    expect(code).toBe(7);
    expect(jobBodySchema.parse(JSON.parse(stdout)).status).toBe("FAILED");
  });

  test("--timeout exits 8, says what the job does, and leaves it running", async () => {
    const { code, stderr } = await sandbox.rpx(["job", "run", "hello", "-i", "sleep=60", "--timeout", "3s"]);
    expect(code).toBe(8);
    expect(stderr).toMatch(/waiting for job \S+ \(IN_PROGRESS: /);
    expect(stderr).toContain("the job goes on");
    expect((await ok("job", "cancel", "@last")).stdout).toMatch(/ CANCELLED\n$/);
  });

  test("Ctrl-C stops waiting, names the job that goes on, and exits 130", async () => {
    const running = sandbox.start(["job", "run", "hello", "-i", "sleep=60"]);
    await running.said("waiting for job");
    running.child.kill("SIGINT");
    const { code, stdout, stderr } = await running.ended;
    expect({ code, stdout }).toEqual({ code: 130, stdout: "" });
    expect(stderr).toMatch(/Error: stopped waiting; job \S+ goes on\ntry: rpx job cancel \S+\n$/);
    await ok("job", "cancel", "@last");
  });

  test("--async prints the id; job wait finds it by a prefix", async () => {
    const id = (await ok("job", "run", "hello", "--async")).stdout.trim();
    expect(id).toMatch(/^[\w-]+$/);
    expect(JSON.parse((await ok("job", "wait", id.slice(0, 12))).stdout).got).toEqual({});
    expect((await sandbox.rpx(["job", "cancel", id])).code, "it has ended").toBe(6);
    expect((await sandbox.rpx(["job", "retry", id])).code, "it did not fail").toBe(6);
  });

  test("--stream prints chunks, then the output, one JSON a line", async () => {
    await ok("endpoint", "create", "chunks", "--handler", "chunks");
    const lines = (await ok("job", "run", "chunks", "--stream")).stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines).toEqual([
      { index: 0 },
      { index: 1 },
      { index: 2 },
      [{ index: 0 }, { index: 1 }, { index: 2 }],
    ]);
    const objects = (await ok("job", "run", "chunks", "--stream", "--json")).stdout.trimEnd().split("\n");
    expect(JSON.parse(objects[0] ?? "")).toEqual({ output: { index: 0 } });
    expect(jobBodySchema.parse(JSON.parse(objects.at(-1) ?? "")).status).toBe("COMPLETED");
  });
});

test("job list and job get", async () => {
  const failed = jobRecordSchema
    .array()
    .parse(await json("job", "list", "--status", "FAILED", "--endpoint", "hello", "--limit", "1"));
  expect(failed).toHaveLength(1);
  expect(failed[0]?.status).toBe("FAILED");
  const detail = jobDetailSchema.parse(await json("job", "get", failed[0]?.id ?? ""));
  expect(detail.events.length).toBeGreaterThan(1);
  expect((await ok("job", "get", failed[0]?.id ?? "")).stdout).toContain("ValueError: told to");
  expect((await ok("job", "list")).stdout).toMatch(/^ID +ENDPOINT +STATUS/);
});

test("job list --watch --json prints one object a line, and ends by Ctrl-C with 130", async () => {
  const watching = sandbox.start(["job", "list", "--watch", "--json", "--limit", "2"]);
  const first = await new Promise<string>((resolve) =>
    watching.child.stdout.once("data", (part) => resolve(String(part))),
  );
  for (const line of first.trimEnd().split("\n")) jobRecordSchema.parse(JSON.parse(line));
  watching.child.kill("SIGINT");
  expect((await watching.ended).code).toBe(130);
});

test("workers and what they printed", async () => {
  const workers = workerSchema.array().parse(await json("worker", "list", "--endpoint", "hello"));
  expect(workers).toHaveLength(1);
  const id = workers[0]?.id ?? "";
  expect(workerSchema.parse(await json("worker", "get", id.slice(0, 8))).id).toBe(id);
  const lines = logLineSchema.array().parse(await json("worker", "logs", id, "--grep", "handled"));
  expect(lines.length).toBeGreaterThan(0);
  expect((await ok("endpoint", "logs", "hello", "-n", "5")).stdout).toContain(id);
});

test("endpoint update, health, purge and url", async () => {
  const updated = endpointSchema.parse(await json("endpoint", "update", "hello", "--workers-max", "3"));
  expect(updated.config.workers?.max).toBe(3);
  expect(updated.config.env).toBeDefined();
  expect(healthSchema.parse(await json("endpoint", "health", "hello")).jobs.completed).toBeGreaterThan(0);
  expect(await json("endpoint", "purge", "hello", "--yes")).toEqual({ removed: 0, status: "completed" });
  const key = readFileSync(join(sandbox.folder, "data/rpx/admin-key"), "utf8").trim();
  for (const client of ["curl", "python", "js", "openai", "runpodctl"]) {
    const { stdout } = await ok("endpoint", "url", "hello", "--client", client);
    expect(stdout).toContain("RPX_API_KEY");
    expect(stdout).not.toContain(key);
  }
});

test("keys: shown once, scoped, revoked", async () => {
  const created = createdKeySchema.parse(await json("key", "create", "ci", "--scope", "read"));
  const env = { RPX_API_KEY: created.key };
  expect((await sandbox.rpx(["endpoint", "list"], { env })).code).toBe(0);
  const refused = await sandbox.rpx(["key", "list", "--json"], { env });
  expect(refused.code).toBe(4);
  expect(JSON.parse(refused.stdout).error.code).toBe("forbidden");
  expect(
    keySchema
      .array()
      .parse(await json("key", "list"))
      .map(({ name }) => name),
  ).toContain("ci");
  await ok("key", "revoke", "ci", "--yes");
  expect((await sandbox.rpx(["endpoint", "list"], { env })).code).toBe(4);
});

test.each([
  ["endpoint", "delete", "hello"],
  ["endpoint", "purge", "hello"],
  ["key", "revoke", "admin"],
])("%s %s without a terminal is refused with exit 2 and names --yes", async (...args) => {
  const { code, stderr } = await sandbox.rpx(args);
  expect(code).toBe(2);
  expect(stderr).toContain("try: add --yes");
});

test("worker stop and endpoint delete", async () => {
  const workers = workerSchema.array().parse(await json("worker", "list", "--endpoint", "hello"));
  expect(await json("worker", "stop", workers[0]?.id ?? "", "--yes")).toMatchObject({ stopping: true });
  expect(await json("endpoint", "delete", "hello", "--yes")).toMatchObject({ name: "hello", deleted: true });
  const gone = await sandbox.rpx(["job", "run", "hello"]);
  expect(gone.code).toBe(3);
  expect(gone.stdout).toBe("");
});
