/** Containers as a user makes them: `rpx endpoint deploy`, `rpx dev --pool docker`, on a real daemon and a real engine. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { endpointSchema } from "../../src/contract/schemas/endpoint.ts";
import { releaseSchema } from "../../src/contract/schemas/release.ts";
import { workerSchema } from "../../src/contract/schemas/worker.ts";
import { createSandbox, type Ended, type Running, type Sandbox } from "../commands/support/rpx.ts";
import {
  dockerCommand,
  ensureImages,
  findEngine,
  PYTHON_IMAGE,
  skipAloud,
} from "../support/engine/engine.ts";
import { removeTraces } from "../support/engine/remove-traces.ts";

const LIMIT_MS = 120_000;
const HANDLER = `
import os
import runpod

def handler(event):
    return {"model": os.environ.get("MODEL"), "in_container": os.path.exists("/.dockerenv"), "got": event["input"]}

runpod.serverless.start({"handler": handler})
`;
const DOCKERFILE = `FROM ${PYTHON_IMAGE}
WORKDIR /worker
COPY main.py .
CMD ["python3", "-u", "main.py"]
`;

describe.skipIf(skipAloud(findEngine()))("containers by commands", { timeout: LIMIT_MS }, () => {
  let sandbox: Sandbox;
  let daemon: Running;

  beforeAll(async () => {
    ensureImages([PYTHON_IMAGE]);
    sandbox = createSandbox();
    daemon = sandbox.start([
      ...["serve", "--port", "0", "--worker-port", "0", "--pool", "auto", "--stop-workers", "--grace", "0s"],
    ]);
    await daemon.said("ready at");
  }, 600_000);

  afterAll(async () => {
    daemon?.child.kill("SIGTERM");
    await daemon?.ended;
    for (const id of sandbox === undefined ? [] : daemonIds()) await removeTraces(id);
    sandbox?.remove();
  }, LIMIT_MS);

  /** Of the daemon, and of each `rpx dev`. */
  function daemonIds(): string[] {
    const data = join(sandbox.folder, "data/rpx");
    const dev = join(data, "dev");
    const folders = existsSync(dev) ? readdirSync(dev).map((name) => join(dev, name)) : [];
    const files = [data, ...folders].map((folder) => join(folder, "id"));
    return files.filter((path) => existsSync(path)).map((path) => readFileSync(path, "utf8").trim());
  }

  function put(files: Record<string, string>): void {
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(dirname(join(sandbox.folder, name)), { recursive: true });
      writeFileSync(join(sandbox.folder, name), text);
    }
  }

  async function ok(...args: string[]): Promise<Ended> {
    const ended = await sandbox.rpx(args);
    expect(ended.code, `rpx ${args.join(" ")}: ${ended.stderr}`).toBe(0);
    return ended;
  }

  async function json(...args: string[]): Promise<unknown> {
    return JSON.parse((await ok(...args, "--json")).stdout);
  }

  test("a folder with a Dockerfile and no handler; .dockerignore does not hide the Dockerfile", async () => {
    put({ "own/main.py": HANDLER, "own/Dockerfile": DOCKERFILE, "own/.dockerignore": "Dockerfile\n" });
    const { stderr } = await ok("endpoint", "deploy", "own", "--env", "MODEL=tiny", "--memory", "128MiB");
    expect(stderr).toMatch(/^release 1 is proving: /m);
    const output = JSON.parse((await ok("job", "run", "own", "-i", "a=1")).stdout);
    expect(output).toEqual({ model: "tiny", in_container: true, got: { a: 1 } });
    const endpoint = endpointSchema.parse(await json("endpoint", "get", "own"));
    expect(endpoint).toMatchObject({ pool: "docker", handler: null, release: 1 });
  });

  test("one that does not start: the release before serves on, exit code and last lines are told", async () => {
    put({ "own/main.py": 'print("the model is missing")\nraise SystemExit(3)\n' });
    const { code, stdout, stderr } = await sandbox.rpx(["endpoint", "deploy", "own", "--env", "MODEL=tiny"]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
    expect(stderr).toContain(
      "| the model is missing\nError: release 2 of own failed; release 1 goes on serving\n",
    );
    expect(stderr).toMatch(/^why: its first worker failed: exited with code 3/m);
    expect(JSON.parse((await ok("job", "run", "own", "-i", "a=2")).stdout).got).toEqual({ a: 2 });
  });

  test("an image by its name, with a command of its own; then back", async () => {
    const [, first] = releaseSchema.array().parse(await json("endpoint", "releases", "own"));
    const image = first?.image ?? "";
    await ok("endpoint", "deploy", "--image", image, "--name", "image");
    expect(JSON.parse((await ok("job", "run", "image", "-i", "a=3")).stdout).in_container).toBe(true);
    const command = `python3 -c "import sys; print('told to'); sys.exit(4)"`;
    const args = ["endpoint", "deploy", "--image", image, "--name", "image", "--command", command];
    const { code, stderr } = await sandbox.rpx(args);
    expect(code).toBe(2);
    expect(stderr).toMatch(/^\| told to\nError: release 2 of image failed; release 1 goes on serving\n/m);
    expect(stderr).toMatch(/exited with code 4/);
  });

  test("another pool is a release like any other, and rollback leads back into a container", async () => {
    put({ "both/handler.py": HANDLER });
    await ok("endpoint", "deploy", "both");
    await ok("endpoint", "deploy", "both", "--pool", "process");
    const outside = JSON.parse((await ok("job", "run", "both", "-i", "a=4")).stdout);
    expect(outside.in_container).toBe(existsSync("/.dockerenv"));
    expect((await ok("endpoint", "diff", "both")).stdout).toMatch(/^~ pool +docker -> process$/m);
    await ok("endpoint", "rollback", "both");
    expect(JSON.parse((await ok("job", "run", "both", "-i", "a=5")).stdout).in_container).toBe(true);
    const workers = workerSchema.array().parse(await json("worker", "list", "--endpoint", "both"));
    expect(workers.find(({ release }) => release === 3)).toMatchObject({ pool: "docker" });
  });

  test("rpx dev --pool docker: one job in a container, and nothing is left running", async () => {
    put({ "one/handler.py": HANDLER });
    const { stdout } = await ok("dev", "one", "--pool", "docker", "--input", '{"a": 6}');
    expect(JSON.parse(stdout)).toEqual({ model: null, in_container: true, got: { a: 6 } });
    const [, own = ""] = daemonIds();
    expect(dockerCommand("ps", "-aq", `--filter=label=rpx.daemon=${own}`)).toBe("");
  });
});
