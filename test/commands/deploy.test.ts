import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { endpointSchema } from "../../src/contract/schemas/endpoint.ts";
import { releaseSchema } from "../../src/contract/schemas/release.ts";
import { createSandbox, type Ended, type Running, type Sandbox } from "./support/rpx.ts";

// Releases as a user makes them, against a real daemon with workers of the process pool, one after the other.

const HANDLER = `
import os
import runpod

def handler(event):
    return {"model": os.environ.get("MODEL"), "got": event["input"]}

runpod.serverless.start({"handler": handler})
`;
/** Says something, and ends before it takes a job. */
const BROKEN = 'import sys\nprint("the model is missing")\nsys.exit(3)\n';
/** Is never ready. */
const SLOW = 'import time\nprint("loading", flush=True)\ntime.sleep(600)\n';

let sandbox: Sandbox;
let daemon: Running;

beforeAll(async () => {
  sandbox = createSandbox();
  write("hello", HANDLER);
  daemon = sandbox.start(["serve", "--port", "0", "--worker-port", "0", "--stop-workers"]);
  await daemon.said("ready at");
}, 60_000);

afterAll(async () => {
  daemon?.child.kill("SIGTERM");
  await daemon?.ended;
  sandbox?.remove();
}, 60_000);

function write(folder: string, handler: string): void {
  mkdirSync(join(sandbox.folder, folder), { recursive: true });
  writeFileSync(join(sandbox.folder, folder, "handler.py"), handler);
}

async function ok(...args: string[]): Promise<Ended> {
  const ended = await sandbox.rpx(args);
  expect(ended.code, `rpx ${args.join(" ")}: ${ended.stderr}`).toBe(0);
  return ended;
}

/** The answer with --json, which is one document and nothing else. */
async function json<Answer>(...args: string[]): Promise<Answer> {
  return JSON.parse((await ok(...args, "--json")).stdout);
}

type Deployed = { id: string; name: string; url: string; release: number; changed: boolean };

const deploy = (...args: string[]): Promise<Deployed> => json<Deployed>("endpoint", "deploy", ...args);

async function model(): Promise<unknown> {
  return JSON.parse((await ok("job", "run", "hello", "-i", "a=1")).stdout).model;
}

/** The newest release. */
async function newest(endpoint: string) {
  const [release] = releaseSchema.array().parse(await json("endpoint", "releases", endpoint));
  if (release === undefined) throw new Error(`${endpoint} has no release`);
  return release;
}

describe("endpoint deploy", () => {
  test("creates the endpoint under the folder's name, and says what it waits for", async () => {
    const { stdout, stderr } = await ok("endpoint", "deploy", "hello", "--json");
    const deployed: Deployed = JSON.parse(stdout);
    expect(deployed).toEqual({
      id: expect.any(String),
      name: "hello",
      url: expect.stringMatching(/^http:\/\/127\.0\.0\.1:\d+\/v2\//),
      release: 1,
      changed: true,
    });
    expect(deployed.url.endsWith(`/v2/${deployed.id}`)).toBe(true);
    expect(stderr).toMatch(/^packing /m);
    expect(stderr).toMatch(/^release 1 is proving: its first worker has to become ready/m);
    expect(await model()).toBeNull();
  });

  test("the same folder again makes no release", async () => {
    expect(await deploy("hello")).toMatchObject({ release: 1, changed: false });
    const { stdout } = await ok("endpoint", "deploy", "hello");
    expect(stdout).toMatch(/^endpoint +hello\nid +\S+\nurl +\S+\nrelease +1 \(live; nothing changed\)\n$/);
  });

  test("another variable makes one; what workers are made of is what folder and flags say", async () => {
    expect(await deploy("hello", "--env", "MODEL=tiny")).toMatchObject({ release: 2, changed: true });
    expect(await model()).toBe("tiny");
    expect(await deploy("hello", "--env", "MODEL=tiny")).toMatchObject({ release: 2, changed: false });
    expect(await deploy("hello")).toMatchObject({ release: 3, changed: true });
    expect(await model()).toBeNull();
    expect(await deploy("hello", "--env", "MODEL=tiny")).toMatchObject({ release: 4, changed: true });
  });

  test("settings that neither names stay; they make no release", async () => {
    await ok("endpoint", "scale", "hello", "--max", "2");
    expect(await deploy("hello", "--env", "MODEL=tiny")).toMatchObject({ release: 4, changed: false });
    const endpoint = endpointSchema.parse(await json("endpoint", "get", "hello"));
    expect(endpoint.config.workers?.max).toBe(2);
  });

  test("a handler that does not start: the release before goes on, reason and last lines are told", async () => {
    write("hello", BROKEN);
    const { code, stdout, stderr } = await sandbox.rpx(["endpoint", "deploy", "hello"]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toContain(
      [
        "| the model is missing",
        "Error: release 5 of hello failed; release 4 goes on serving",
        "why: its first worker failed: exited with code 3: the model is missing",
        "try: rpx worker logs ",
      ].join("\n"),
    );
    expect(await model()).toBe("tiny");
    expect(await newest("hello")).toMatchObject({ state: "failed", failure: "worker" });
    const again = await sandbox.rpx(["endpoint", "deploy", "hello", "--json"]);
    expect(again.code).toBe(2);
    expect(JSON.parse(again.stdout)).toEqual({
      error: {
        code: "release_failed",
        message: "release 6 of hello failed; release 4 goes on serving",
        why: "its first worker failed: exited with code 3: the model is missing",
        hint: expect.stringMatching(/^rpx worker logs \w+$/),
        lines: ["the model is missing"],
      },
    });
    const worker = JSON.parse(again.stdout).error.hint.split(" ").at(-1);
    const shown = (await ok("worker", "get", worker)).stdout;
    expect(shown).toMatch(/^exit +code 3$/m);
    expect(shown).toMatch(/^\| the model is missing$/m);
    write("hello", HANDLER);
  });

  test("an endpoint whose first release fails serves nothing, and the next deploy mends it", async () => {
    write("second", BROKEN);
    const { code, stderr } = await sandbox.rpx(["endpoint", "deploy", "second"]);
    expect(code).toBe(2);
    expect(stderr).toContain("Error: release 1 of second failed; none serves\n");
    expect((await ok("endpoint", "get", "second")).stdout).toMatch(/^release +none serves yet$/m);
    write("second", HANDLER);
    expect(await deploy("second")).toMatchObject({ release: 2, changed: true });
    await ok("endpoint", "delete", "second", "--yes");
  });

  test("--no-wait returns once the release is built; a newer deploy takes its place, and who waited exits 6", async () => {
    write("slow", SLOW);
    const first = await deploy("slow", "--no-wait");
    expect(first).toMatchObject({ release: 1, changed: true });
    expect((await newest("slow")).state).toBe("proving");
    expect((await ok("endpoint", "get", "slow")).stdout).toMatch(/^on its way +release 1$/m);
    // The same content is on its way already: this one waits for it.
    const waiting = sandbox.start(["endpoint", "deploy", "slow"]);
    await waiting.said("release 1 is proving");
    write("slow", HANDLER);
    expect(await deploy("slow")).toMatchObject({ release: 2, changed: true });
    const { code, stdout, stderr } = await waiting.ended;
    expect({ code, stdout }).toEqual({ code: 6, stdout: "" });
    expect(stderr).toMatch(/Error: release 1 of slow does not go live\nwhy: .*release 2 took its place/);
  });

  test("Ctrl-C leaves the rollout going, and says so", async () => {
    write("slow", SLOW);
    const running = sandbox.start(["endpoint", "deploy", "slow"]);
    await running.said("release 3 is proving");
    running.child.kill("SIGINT");
    const { code, stdout, stderr } = await running.ended;
    expect({ code, stdout }).toEqual({ code: 130, stdout: "" });
    expect(stderr).toContain("Error: stopped waiting; release 3 of slow goes on by itself\n");
    expect((await newest("slow")).state).toBe("proving");
    await ok("endpoint", "delete", "slow", "--yes");
  });
});

describe("tests of a release", () => {
  const file = (name: string, expected: unknown) => {
    const tests = [
      { name: "any output", input: { a: 1 }, timeout: 20_000 },
      { name: "this output", input: { a: 2 }, timeout: 20_000, expected },
    ];
    writeFileSync(join(sandbox.folder, name), JSON.stringify({ tests, config: { gpuCount: 1 } }));
  };

  test("they run on the new release before it serves: one that fails keeps the old one, exit 7", async () => {
    file("bad.json", { model: "large" });
    const { code, stderr } = await sandbox.rpx([
      ...["endpoint", "deploy", "hello", "--env", "MODEL=small", "--test", "bad.json"],
    ]);
    expect(code).toBe(7);
    expect(stderr).toMatch(/^Error: release \d+ of hello failed; release 4 goes on serving$/m);
    expect(stderr).toMatch(/^why: test 2 of 2, "this output", failed: the output is .*"model": "small"/m);
    expect(await newest("hello")).toMatchObject({ state: "failed", failure: "test" });
    expect(await model()).toBe("tiny");
  });

  test("those that pass let it go live", async () => {
    file("good.json", { model: "small", got: { a: 2 } });
    const deployed = await deploy("hello", "--env", "MODEL=small", "--test", "good.json");
    expect(deployed.changed).toBe(true);
    expect((await newest("hello")).tests).toEqual(["any output", "this output"]);
    expect(await model()).toBe("small");
  });

  test(".runpod/tests.json of the folder is read by itself, and --test takes its place", async () => {
    mkdirSync(join(sandbox.folder, "hello/.runpod"));
    file("hello/.runpod/tests.json", { model: "large" });
    const args = ["endpoint", "deploy", "hello", "--env", "MODEL=medium"];
    expect((await sandbox.rpx(args)).code).toBe(7);
    file("medium.json", { model: "medium", got: { a: 2 } });
    await ok(...args, "--test", "medium.json");
    expect(await model()).toBe("medium");
  });
});

describe("releases, diff, rollback", () => {
  test("releases: newest first, changes by name alone", async () => {
    const releases = releaseSchema.array().parse(await json("endpoint", "releases", "hello"));
    const versions = releases.map(({ version }) => version);
    expect(versions).toEqual(versions.toSorted((a, b) => b - a));
    expect(releases.at(-1)).toMatchObject({ version: 1, source: "create", state: "superseded" });
    const { stdout } = await ok("endpoint", "releases", "hello");
    expect(stdout).toMatch(/^RELEASE +STATE/);
    expect(stdout).toContain("env.MODEL");
    expect(stdout).not.toContain("tiny");
  });

  test("diff: env values hidden in text, there in JSON", async () => {
    expect((await ok("endpoint", "diff", "hello", "2")).stdout).toBe(
      "release 2 (superseded; deploy)\n+ env.MODEL  (hidden)\n",
    );
    expect(await json("endpoint", "diff", "hello", "2")).toMatchObject({
      version: 2,
      diff: [{ field: "env.MODEL", old: null, new: "tiny" }],
    });
    expect((await ok("endpoint", "diff", "hello")).stdout).toMatch(/^release \d+ \(live; deploy\)\n/);
  });

  test("rollback: to the one before, then to one by its version; the origin points back", async () => {
    const before = await json<Deployed>("endpoint", "rollback", "hello");
    expect(before.changed).toBe(true);
    expect(await model()).toBe("small");
    const first = await json<Deployed>("endpoint", "rollback", "hello", "--to", "2");
    expect(first.release).toBe(before.release + 1);
    expect(await model()).toBe("tiny");
    expect(await newest("hello")).toMatchObject({ source: "rollback to 2", state: "live" });
    const same = await json<Deployed>("endpoint", "rollback", "hello", "--to", String(first.release));
    expect(same).toMatchObject({ release: first.release, changed: false });
  });

  test("rollback to what never started fails as a deploy does", async () => {
    const { code, stderr } = await sandbox.rpx(["endpoint", "rollback", "hello", "--to", "5"]);
    expect(code).toBe(2);
    expect(stderr).toContain("| the model is missing\nError: release ");
    expect(await model()).toBe("tiny");
  });
});

describe("refused, with nothing changed", () => {
  let before = 0;
  beforeAll(async () => {
    mkdirSync(join(sandbox.folder, "empty"), { recursive: true });
    writeFileSync(join(sandbox.folder, "wrong.json"), '{"tests": [{"name": "a"}]}');
    before = (await newest("hello")).version;
  });

  test.each<[string, readonly string[], number, RegExp]>([
    ["a folder that is not there", ["deploy", "absent"], 3, /no file or folder/],
    ["a folder with nothing to run", ["deploy", "empty"], 2, /no handler in/],
    ["a name that is none", ["deploy", "hello", "--name", "Not A Name"], 2, /cannot be called/],
    ["an image without a name", ["deploy", "--image", "org/worker:1"], 2, /has no name\n.*\n.*--name/],
    ["tests that are not there", ["deploy", "hello", "--test", "absent.json"], 3, /no file absent\.json/],
    ["tests that are none", ["deploy", "hello", "--test", "wrong.json"], 2, /why: tests\[0\]\.input/],
    [
      "a Dockerfile that is not there",
      ["deploy", "hello", "--dockerfile", "Absent"],
      2,
      /no Dockerfile Absent/,
    ],
    ["a setting out of range", ["deploy", "hello", "--memory", "8G"], 2, /--memory 8G/],
    ["a command that is none", ["deploy", "hello", "--command", "'open"], 2, /--command/],
    ["a pool that there is none of", ["deploy", "hello", "--pool", "swarm"], 2, /--pool/],
    ["create without code", ["create", "x"], 2, /--handler \. or --image/],
    ["create of two things", ["create", "x", "--image", "a", "--handler", "hello"], 2, /exclude each other/],
    [
      "update of a Dockerfile alone",
      ["update", "hello", "--dockerfile", "D"],
      2,
      /--dockerfile needs --handler/,
    ],
    ["update of nothing", ["update", "hello"], 2, /nothing to change/],
    ["an image in the process pool", ["create", "x", "--image", "org/worker:1"], 2, /--pool docker/],
    ["releases of nothing", ["releases", "absent"], 3, /no endpoint "absent"/],
    ["a diff of a version that is none", ["diff", "hello", "one"], 2, /"one" is no version/],
    ["a diff of a version that is not there", ["diff", "hello", "999"], 3, /no release 999/],
    ["a rollback to a version that is not there", ["rollback", "hello", "--to", "999"], 3, /no release 999/],
    ["a rollback to a version that is none", ["rollback", "hello", "--to", "0"], 2, /--to/],
  ])("%s", async (_, args, code, text) => {
    const ended = await sandbox.rpx(["endpoint", ...args]);
    expect(ended).toMatchObject({ code, stdout: "", stderr: expect.stringMatching(text) });
  });

  test("no release was made of all that", async () => {
    expect((await newest("hello")).version).toBe(before);
  });
});

test("rpx.toml names endpoint and settings; a key taken out of what workers are made of is unset", async () => {
  const path = join(sandbox.folder, "hello/rpx.toml");
  writeFileSync(path, 'name = "named"\n[workers]\nmax = 1\n[env]\nMODEL = "file"\n[limits]\ncpus = 2\n');
  const args = ["hello", "--test", "any.json"];
  writeFileSync(join(sandbox.folder, "any.json"), '{"tests": []}');
  expect(await deploy(...args)).toMatchObject({ name: "named", release: 1 });
  const made = endpointSchema.parse(await json("endpoint", "get", "named"));
  expect(made.config).toMatchObject({ workers: { max: 1 }, env: { MODEL: "file" }, limits: { cpus: 2 } });
  writeFileSync(path, 'name = "named"\n');
  expect(await deploy(...args)).toMatchObject({ name: "named", release: 2 });
  const { config } = endpointSchema.parse(await json("endpoint", "get", "named"));
  expect(config.workers?.max).toBe(1);
  expect(config.env).toBeUndefined();
  expect(config.limits?.cpus).toBeUndefined();
  expect(readFileSync(path, "utf8")).toBe('name = "named"\n');
});
