import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { endpointSchema } from "../../src/contract/schemas/endpoint.ts";
import { releaseSchema } from "../../src/contract/schemas/release.ts";
import { workerSchema } from "../../src/contract/schemas/worker.ts";
import { createSandbox, type Ended, type Running, type Sandbox } from "./support/rpx.ts";

// How many workers there are, and what they may do, against a real daemon with workers of the process pool.

const HANDLER = `
import os
import time
import runpod

def handler(event):
    gate = event["input"].get("gate")
    while gate and not os.path.exists(gate):
        time.sleep(0.02)
    return event["input"]

runpod.serverless.start({"handler": handler})
`;

let sandbox: Sandbox;
let daemon: Running;

beforeAll(async () => {
  sandbox = createSandbox();
  for (const [name, source] of [
    ["hello", HANDLER],
    ["broken", 'import sys\nsys.exit("no model")\n'],
  ] as const) {
    mkdirSync(join(sandbox.folder, name));
    writeFileSync(join(sandbox.folder, name, "handler.py"), source);
  }
  daemon = sandbox.start(["serve", "--port", "0", "--worker-port", "0", "--stop-workers", "--grace", "0s"]);
  await daemon.said("ready at");
  await ok("endpoint", "create", "hello", "--handler", "hello", "--idle-timeout", "60s");
  await ok("endpoint", "create", "broken", "--handler", "broken");
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

const workers = async () => workerSchema.array().parse(await json("worker", "list", "--endpoint", "hello"));

test("scale: changes settings, makes no release, tells what that comes to", async () => {
  const { stdout } = await ok(
    ...["endpoint", "scale", "hello", "--min", "0", "--max", "2", "--by", "requests", "--threshold", "5"],
    ...["--idle-timeout", "50s", "--extra", "1"],
  );
  expect(stdout).toMatch(/^workers +0 to 2, 1 extra, idle ones stay 50s$/m);
  expect(stdout).toMatch(/^scale +by request-count, from 5 jobs per worker$/m);
  expect(stdout).toMatch(/^wanted +0; 0 are there$/m);
  expect(releaseSchema.array().parse(await json("endpoint", "releases", "hello"))).toHaveLength(1);
});

test("scale: RunPod's names do the same, and what is not named stays", async () => {
  const { config } = endpointSchema.parse(
    await json("endpoint", "scale", "hello", "--workers-max", "3", "--scale-by", "QUEUE_DELAY"),
  );
  expect(config.workers).toMatchObject({ min: 0, max: 3, extra: 1, idle_timeout: "50s" });
  expect(config.scale).toMatchObject({ by: "queue-delay", threshold: 4 });
});

test("pause: jobs are accepted and wait; resume hands them out", async () => {
  expect((await ok("endpoint", "pause", "hello")).stdout).toMatch(/^hello is paused: jobs are accepted/);
  const id = (await ok("job", "run", "hello", "-i", "a=1", "--async")).stdout.trim();
  const shown = (await ok("endpoint", "get", "hello")).stdout;
  expect(shown).toMatch(/^state +paused$/m);
  expect(shown).toMatch(/^paused +yes: jobs are accepted and wait$/m);
  expect(shown).toMatch(/^jobs +1 in queue/m);
  const refused = await sandbox.rpx(["endpoint", "warm", "hello", "--wait"]);
  expect(refused).toMatchObject({ code: 6, stdout: "", stderr: expect.stringContaining("it is paused") });
  expect(endpointSchema.parse(await json("endpoint", "resume", "hello")).paused).toBe(false);
  expect(JSON.parse((await ok("job", "wait", id)).stdout)).toEqual({ a: 1 });
});

test("warm --wait: so many workers are ready before any job", async () => {
  const endpoint = endpointSchema.parse(await json("endpoint", "warm", "hello", "--workers", "2", "--wait"));
  expect(endpoint.workerCounts.idle).toBeGreaterThanOrEqual(2);
  expect((await ok("endpoint", "warm", "hello")).stdout).toMatch(/^hello is being warmed/);
});

test("warm --wait: workers that do not start end it, exit 9, with the reason", async () => {
  const { code, stdout, stderr } = await sandbox.rpx(["endpoint", "warm", "broken", "--wait"]);
  expect({ code, stdout }).toEqual({ code: 9, stdout: "" });
  expect(stderr).toMatch(/^Error: broken was not warmed\nwhy: .*no model.*\ntry: rpx endpoint logs broken$/m);
});

test("worker drain: it ends after the job it has, which nothing disturbs", async () => {
  const patience = { timeout: 15_000 };
  await ok("endpoint", "scale", "hello", "--max", "1", "--extra", "0");
  await expect.poll(async () => (await workers()).length, patience).toBe(1);
  const gate = join(sandbox.folder, "gate");
  const id = (await ok("job", "run", "hello", "-i", `gate=${gate}`, "--async")).stdout.trim();
  await expect.poll(async () => (await workers())[0]?.jobIds, patience).toEqual([id]);
  const worker = (await workers())[0]?.id ?? "";
  const drained = await json("worker", "drain", worker.slice(0, 8));
  expect(drained).toEqual({ id: worker, draining: true, jobIds: [id] });
  writeFileSync(gate, "");
  expect(JSON.parse((await ok("job", "wait", id)).stdout)).toEqual({ gate });
  await expect
    .poll(async () => workerSchema.parse(await json("worker", "get", worker)), patience)
    .toMatchObject({ state: "gone", exit: { code: 0, signal: null, cause: null } });
  expect((await sandbox.rpx(["worker", "drain", worker])).code, "it has ended").toBe(6);
}, 60_000);

test.each<[string, readonly string[], number, RegExp]>([
  ["scale of nothing", ["endpoint", "scale", "hello"], 2, /nothing to change/],
  ["scale beyond the most", ["endpoint", "scale", "hello", "--min", "9"], 2, /workers\.min/],
  ["scale by nothing known", ["endpoint", "scale", "hello", "--by", "load"], 2, /load/],
  ["scale by a number that is none", ["endpoint", "scale", "hello", "--max", "many"], 2, /many/],
  ["scale of nobody", ["endpoint", "scale", "absent", "--max", "1"], 3, /no endpoint "absent"/],
  ["pause of nobody", ["endpoint", "pause", "absent"], 3, /no endpoint "absent"/],
  ["resume of nobody", ["endpoint", "resume", "absent"], 3, /no endpoint "absent"/],
  ["warm of nobody", ["endpoint", "warm", "absent"], 3, /no endpoint "absent"/],
  ["warm of more than may be", ["endpoint", "warm", "hello", "--workers", "9"], 6, /workers\.max is 1/],
  ["warm of none", ["endpoint", "warm", "hello", "--workers", "0"], 2, /--workers/],
  ["drain of nobody", ["worker", "drain", "absent"], 3, /no worker "absent"/],
])("refused: %s", async (_, args, code, text) => {
  const ended = await sandbox.rpx(args);
  expect(ended).toMatchObject({ code, stdout: "", stderr: expect.stringMatching(text) });
});
