import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { eventually, type RealDaemon, startRealDaemon } from "../support/real-daemon.ts";
import { attach, type DeployedEndpoint, deploy, FIXTURES, isRunning } from "./endpoint.ts";

const ROOT = join(import.meta.dirname, "../..");
const NOBODY = 65_534;
const isRoot = process.getuid?.() === 0;

let folder: string;
let dataDir: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "rpx-start-"));
  dataDir = join(folder, "data");
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

type Ended = { readonly code: number | null; readonly stderr: string; readonly tookMs: number };

/** `rpx serve` as a user types it, until it ends. */
function serve(args: readonly string[] = [], prefix: readonly string[] = []): Promise<Ended> {
  const [file = "", ...rest] = [
    ...prefix,
    process.execPath,
    join(ROOT, "bin/run.js"),
    "serve",
    "--data-dir",
    dataDir,
    "--pool",
    "process",
    ...(args.includes("--port") ? [] : ["--port", "0"]),
    ...(args.includes("--worker-port") ? [] : ["--worker-port", "0"]),
    ...args,
  ];
  const startedMs = performance.now();
  const child = spawn(file, rest, { stdio: ["ignore", "ignore", "pipe"] });
  let stderr = "";
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  return new Promise((resolve) =>
    child.once("close", (code) => resolve({ code, stderr, tookMs: performance.now() - startedMs })),
  );
}

/** Digest of every file of data below a folder, by path. The supervisor's list of its processes is no data. */
function digests(directory: string): Record<string, string> {
  const files = readdirSync(directory, { recursive: true, withFileTypes: true }).filter(
    (entry) => entry.isFile() && entry.name !== "workers.json",
  );
  return Object.fromEntries(
    files.map((entry) => {
      const path = join(entry.parentPath, entry.name);
      return [path, createHash("sha256").update(readFileSync(path)).digest("hex")];
    }),
  );
}

async function exists(file: string): Promise<void> {
  await eventually(async () => existsSync(file), 15_000, `the handler makes ${file}`);
}

/** A daemon with one worker that runs a job until its gate opens. */
async function withRunningJob(config = {}): Promise<{
  daemon: RealDaemon;
  endpoint: DeployedEndpoint;
  id: string;
  gate: string;
  workerPid: number;
}> {
  const daemon = await startRealDaemon({ dataDir, config });
  const endpoint = await deploy(
    daemon,
    "odd",
    { folder: FIXTURES, handler: "odd.py" },
    { workers: { max: 1 } },
  );
  const gate = join(folder, "gate");
  const id = await endpoint.submit({ do: "gated", path: gate });
  await exists(`${gate}.begun`);
  const [worker] = await endpoint.workers();
  return { daemon, endpoint, id, gate, workerPid: Number(worker?.container) };
}

/** After the next start: the job runs again, and no attempt was counted. */
async function completesUncounted(id: string, gate: string): Promise<void> {
  const daemon = await startRealDaemon({ dataDir });
  try {
    const endpoint = attach(daemon, "odd");
    writeFileSync(gate, "");
    const done = await endpoint.end(id);
    expect(done).toMatchObject({ status: "COMPLETED", output: "went on" });
    expect(done.retries).toBeUndefined();
    expect((await endpoint.detail(id)).attempts).toBe(1);
  } finally {
    expect(await daemon.stop()).toBe(0);
  }
}

describe("a start that is refused", () => {
  test.each(["--port", "--worker-port"])("F-36: %s is in use: exit 6, nothing is touched", async (flag) => {
    const holder = createServer();
    await new Promise<void>((resolve) => holder.listen(0, "127.0.0.1", resolve));
    const address = holder.address();
    const port = String(address && typeof address === "object" ? address.port : "");
    const ended = await serve([flag, port]);
    holder.close();
    expect(ended.code, ended.stderr).toBe(6);
    expect(ended.stderr).toContain(`${port} is in use`);
    expect(ended.stderr).toMatch(/^Error: .+\nwhy: .+\ntry: .+\n$/);
    expect(existsSync(join(dataDir, "rpx.db"))).toBe(false);
  });

  test("F-37, ACC-13: a data directory that is taken: exit 6 within a second, naming the process", async () => {
    const daemon = await startRealDaemon({ dataDir });
    const entry = JSON.stringify({
      dataDir,
      daemonEntry: join(ROOT, "dist/runtime/main.js"),
      daemonConfig: {},
    });
    const startedMs = performance.now();
    const second = spawn(process.execPath, [join(ROOT, "dist/supervisor/main.js"), entry], {
      stdio: "ignore",
    });
    const code = await new Promise((resolve) => second.once("exit", resolve));
    expect(performance.now() - startedMs).toBeLessThan(1_000);
    expect(code).toBe(6);
    const typed = await serve();
    expect(typed.code).toBe(6);
    expect(typed.stderr).toContain(`process ${daemon.supervisorPid}`);
    expect(typed.stderr).toContain(dataDir);
    expect((await daemon.call("GET", "/healthz")).status).toBe(200);
    // The lock dies with its process.
    daemon.signal("SIGKILL");
    await daemon.stop();
    const next = await startRealDaemon({ dataDir });
    expect(await next.stop()).toBe(0);
  });

  test.runIf(isRoot)("a data directory of another user: exit 4, from both sides", async () => {
    mkdirSync(dataDir, { mode: 0o700 });
    chownSync(dataDir, NOBODY, NOBODY);
    const asRoot = await serve();
    expect(asRoot.code, asRoot.stderr).toBe(4);
    expect(asRoot.stderr).toContain("belongs to");
    expect(readdirSync(dataDir)).toEqual([]);
    chownSync(dataDir, 0, 0);
    chmodSync(folder, 0o755);
    const drop = ["setpriv", `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups"];
    const asNobody = await serve([], drop);
    expect(asNobody.code, asNobody.stderr).toBe(4);
    expect(readdirSync(dataDir)).toEqual([]);
  });

  test("F-38, ACC-13: data of a newer rpx: exit 6, every file as it was", async () => {
    const daemon = await startRealDaemon({ dataDir });
    expect(await daemon.stop()).toBe(0);
    const db = new DatabaseSync(join(dataDir, "rpx.db"));
    const version = Number(Object.values(db.prepare("PRAGMA user_version").get() ?? {})[0]);
    db.exec(`PRAGMA user_version = ${version + 1}`);
    db.exec("PRAGMA wal_checkpoint(TRUNCATE)");
    db.close();
    const before = digests(dataDir);
    const ended = await serve();
    expect(ended.code, ended.stderr).toBe(6);
    expect(ended.stderr).toMatch(/newer/);
    const after = digests(dataDir);
    for (const [path, digest] of Object.entries(before)) expect(after[path], path).toBe(digest);
  });
});

describe("a stop with a running job", () => {
  test("SIGTERM: a job that ends within the grace keeps its result", async () => {
    const { daemon, id, gate } = await withRunningJob({ graceMs: 10_000 });
    const stopped = daemon.stop();
    await eventually(
      async () => (await daemon.call("POST", "/v2/odd/run", { input: {} }).catch(() => null))?.status === 503,
      5_000,
      "new jobs are refused",
    );
    writeFileSync(gate, "");
    expect(await stopped).toBe(0);
    const next = await startRealDaemon({ dataDir });
    expect(await attach(next, "odd").status(id)).toMatchObject({ status: "COMPLETED", output: "went on" });
    expect(await next.stop()).toBe(0);
  });

  test("SIGTERM: after the grace the job goes back uncounted and runs after the next start", async () => {
    const { daemon, id, gate, workerPid } = await withRunningJob({ graceMs: 300 });
    const startedMs = performance.now();
    expect(await daemon.stop()).toBe(0);
    expect(performance.now() - startedMs).toBeLessThan(10_000);
    expect(isRunning(workerPid)).toBe(false);
    await completesUncounted(id, gate);
  });

  test("D6: kill -9 of the supervisor: the next start ends its workers and the job runs uncounted", async () => {
    const { daemon, id, gate, workerPid } = await withRunningJob();
    const childPid = await daemon.childPid();
    daemon.signal("SIGKILL");
    await daemon.stop();
    await eventually(async () => !isRunning(childPid), 5_000, "the daemon child ends");
    await completesUncounted(id, gate);
    expect(isRunning(workerPid)).toBe(false);
  });
});

test("T-23: nothing below the data directory is for anybody else", async () => {
  const { daemon, endpoint, id, gate } = await withRunningJob();
  writeFileSync(gate, "");
  await endpoint.end(id);
  await eventually(async () => existsSync(join(dataDir, "ballast")), 10_000, "the ballast is held");
  const open = [
    dataDir,
    ...readdirSync(dataDir, { recursive: true }).map((name) => join(dataDir, String(name))),
  ].filter((path) => (statSync(path).mode & 0o077) !== 0);
  expect(open).toEqual([]);
  expect(await daemon.stop()).toBe(0);
});
