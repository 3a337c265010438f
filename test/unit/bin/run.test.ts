import { execFileSync, spawn } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
const HOT_MODULES = ["got", "zod", "conf", "ora", "fastify", "tar"];

/** A Node of this machine that is too old for rpx; null when there is none. */
function findOldNode(): string | null {
  for (const path of ["/usr/bin/node", "/usr/local/bin/node"]) {
    if (!existsSync(path)) continue;
    const [major = 0] = execFileSync(path, ["-p", "process.versions.node"], { encoding: "utf8" })
      .split(".")
      .map(Number);
    if (major < 24) return path;
  }
  return null;
}

const oldNode = findOldNode();
let folder = "";

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "rpx-bin-"));
  mkdirSync(join(folder, "bin"));
  copyFileSync(join(ROOT, "bin/run.js"), join(folder, "bin/run.js"));
  copyFileSync(join(ROOT, "package.json"), join(folder, "package.json"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function run(node: string, args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  const child = spawn(node, [join(folder, "bin/run.js"), ...args], { env: { ...process.env, ...env } });
  const closed = new Promise<number | string>((resolve) =>
    child.once("close", (code, signal) => resolve(code ?? signal ?? "")),
  );
  const [stdout, stderr, end] = await Promise.all([text(child.stdout), text(child.stderr), closed]);
  return { stdout, stderr, end };
}

/** Puts a `node` package beside the copy; `script` is what its binary does. */
function installOwnNode(script: string | null): void {
  const home = join(folder, "node_modules/node");
  mkdirSync(join(home, "bin"), { recursive: true });
  writeFileSync(join(home, "package.json"), '{"version": "24.21.0"}');
  if (script === null) return;
  writeFileSync(join(home, "bin/node"), `#!/bin/sh\n${script}\n`);
  chmodSync(join(home, "bin/node"), 0o755);
}

test("--version and -v answer before anything loads: there is no dist/ here", async () => {
  for (const flag of ["--version", "-v"]) {
    const { stdout, stderr, end } = await run(process.execPath, [flag]);
    expect({ stderr, end }).toEqual({ stderr: "", end: 0 });
    expect(stdout).toMatch(/^rpx-serverless\/\d+\.\d+\.\d+ \S+ node-v\d+\.\d+\.\d+\n$/);
  }
});

test("without dist/ it says how to build", async () => {
  const { stderr, end } = await run(process.execPath, ["status"]);
  expect(end).toBe(2);
  expect(stderr).toMatch(/^Error: rpx is not built\nwhy: .*\ntry: npm run build/);
});

describe.skipIf(oldNode === null)(`on an older Node (${oldNode ?? "none on this machine: skipped"})`, () => {
  const node = oldNode ?? "";

  test("answers --version", async () => {
    expect((await run(node, ["--version"])).stdout).toMatch(/^rpx-serverless\//);
  });

  test("without a Node of its own: three lines", async () => {
    const { stdout, stderr, end } = await run(node, ["status"]);
    expect({ stdout, end }).toEqual({ stdout: "", end: 2 });
    expect(stderr).toMatch(
      /^Error: rpx needs Node 24\.15 or newer\nwhy: this is Node v\d+.*\ntry: install Node 24\.15 or newer\n$/,
    );
  });

  test("where npm was told not to fetch it: names that fix", async () => {
    installOwnNode(null);
    const { stderr } = await run(node, ["status"]);
    expect(stderr.split("\n")).toHaveLength(4);
    expect(stderr).toMatch(/install script[\s\S]*try: npm rebuild node --ignore-scripts=false/);
  });

  test("hands the command line to its own Node, and its exit code on", async () => {
    installOwnNode('shift; echo "$@"; exit 7');
    const { stdout, end } = await run(node, ["job", "run", "x y"]);
    expect({ stdout, end }).toEqual({ stdout: "job run x y\n", end: 7 });
  });

  test("a wrong binary does not start itself for ever", async () => {
    installOwnNode(`exec ${node} "$@"`);
    expect((await run(node, ["status"])).end).toBe(2);
  });

  test.each(["SIGTERM", "SIGINT", "SIGHUP"] as const)(
    "hands %s on, and how the other ended",
    async (signal) => {
      installOwnNode(`trap 'echo got; exit 9' ${signal.slice(3)}; echo ready; while :; do sleep 0.05; done`);
      const child = spawn(node, [join(folder, "bin/run.js"), "serve"], {
        stdio: ["pipe", "pipe", "inherit"],
      });
      let stdout = "";
      child.stdout.on("data", (part) => {
        stdout += part;
        if (stdout === "ready\n") child.kill(signal);
      });
      const code = await new Promise((resolve) => child.once("close", resolve));
      expect({ code, stdout }).toEqual({ code: 9, stdout: "ready\ngot\n" });
    },
  );

  test("dies by the signal that ended the other", async () => {
    installOwnNode("kill -KILL $$");
    expect((await run(node, ["serve"])).end).toBe("SIGKILL");
  });
});

describe("start-up (D23)", () => {
  const bin = join(ROOT, "bin/run.js");

  test.each([
    { args: ["--help"], end: 0 },
    { args: ["status", "--url", "http://127.0.0.1:9"], end: 5 },
    { args: ["job", "run", "x", "--url", "http://127.0.0.1:9"], end: 5 },
    { args: ["job", "get", "x", "--url", "http://127.0.0.1:9"], end: 5 },
  ])("$args loads no heavy module", async ({ args, end }) => {
    const hook = join(folder, "hook.mjs");
    const seen = join(folder, "seen");
    writeFileSync(
      hook,
      `import { registerHooks } from "node:module"; import { appendFileSync } from "node:fs";
registerHooks({ resolve(name, context, next) { const found = next(name, context); appendFileSync(${JSON.stringify(seen)}, found.url + "\\n"); return found; } });`,
    );
    const child = spawn(process.execPath, ["--import", hook, bin, ...args], { stdio: "ignore" });
    const code = await new Promise((resolve) => child.once("close", resolve));
    expect(code).toBe(end);
    const loaded = readFileSync(seen, "utf8");
    expect(loaded).toContain("/@oclif/core/");
    for (const name of HOT_MODULES) expect(loaded, name).not.toContain(`/node_modules/${name}/`);
  });
});
