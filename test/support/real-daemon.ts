import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DaemonConfigInput } from "../../src/runtime/config.ts";

/** A real supervisor with a real daemon child, from dist/, on free loopback ports. */
export type RealDaemon = {
  readonly url: string;
  readonly workerUrl: string;
  readonly key: string;
  readonly dataDir: string;
  readonly supervisorPid: number;
  /** Everything it wrote to stderr so far. */
  stderr(): string;
  /** Process id of the daemon child at this moment. */
  childPid(): Promise<number>;
  /** Calls the API; a body is sent as JSON text. */
  call(
    method: string,
    path: string,
    body?: unknown,
  ): Promise<{ status: number; text: string; json<T = Record<string, unknown>>(): T }>;
  signal(signal: NodeJS.Signals): void;
  /** Its exit code, once it has ended; null after a signal. */
  readonly ended: Promise<number | null>;
  /** SIGTERM, then waits for the end; resolves with the exit code. */
  stop(): Promise<number | null>;
};

const ROOT = join(import.meta.dirname, "../..");
const READY_MS = 20_000;

export type RealDaemonOptions = {
  readonly config?: Partial<DaemonConfigInput>;
  /** Kept by the caller; otherwise a temporary one that goes with `stop`. */
  readonly dataDir?: string;
  readonly env?: Record<string, string>;
  /** The program of the daemon child instead of the built one: a wrapper that loads it. */
  readonly daemonEntry?: string;
  /** A program and its arguments that becomes the supervisor: as another user, or in another network namespace. */
  readonly command?: readonly string[];
  /** Makes the URL that its client listener has, as it sees it, one that this process reaches. */
  readonly reach?: (url: string) => Promise<string>;
};

export async function startRealDaemon(options: RealDaemonOptions = {}): Promise<RealDaemon> {
  const folder = options.dataDir ?? join(mkdtempSync(join(tmpdir(), "rpx-e2e-")), "data");
  const daemonConfig = {
    dataDir: folder,
    port: 0,
    workerPort: 0,
    announce: "json",
    logLevel: "warn",
    minFreeBytes: 0,
    // Whether this machine has a Docker engine is nothing to what a test sees, unless it asks.
    pool: "process",
    ...options.config,
  };
  const { daemonEntry = join(ROOT, "dist/runtime/main.js") } = options;
  const settings = JSON.stringify({ dataDir: folder, daemonEntry, daemonConfig });
  const supervisor = [process.execPath, join(ROOT, "dist/supervisor/main.js"), settings];
  const [file = "", ...args] = [...(options.command ?? []), ...supervisor];
  const child = spawn(file, args, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...options.env },
  });
  let stderr = "";
  child.stderr.on("data", (chunk) => {
    stderr += chunk;
  });
  const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
  const bound = await readyLine(child, ended, () => stderr);
  const ready = { ...bound, url: (await options.reach?.(bound.url)) ?? bound.url };
  const key = readFileSync(join(folder, "admin-key"), "utf8").trim();

  const call: RealDaemon["call"] = async (method, path, body) => {
    const reply = await fetch(`${ready.url}${path}`, {
      method,
      headers: { authorization: `Bearer ${key}` },
      ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
    const text = await reply.text();
    return { status: reply.status, text, json: () => JSON.parse(text) };
  };

  return {
    ...ready,
    key,
    dataDir: folder,
    supervisorPid: child.pid ?? 0,
    stderr: () => stderr,
    childPid: () => childOf(child.pid ?? 0, daemonEntry),
    call,
    signal: (signal) => void child.kill(signal),
    ended,
    stop: async () => {
      child.kill("SIGTERM");
      const code = await ended;
      if (options.dataDir === undefined) rmSync(join(folder, ".."), { recursive: true, force: true });
      return code;
    },
  };
}

function readyLine(
  child: ChildProcess,
  ended: Promise<number | null>,
  stderr: () => string,
): Promise<{ url: string; workerUrl: string }> {
  return new Promise((resolve, reject) => {
    let text = "";
    const timer = setTimeout(() => {
      child.kill("SIGTERM");
      reject(new Error(`not ready in ${READY_MS} ms:\n${stderr()}`));
    }, READY_MS);
    ended.then((code) => reject(new Error(`the daemon ended with ${code}:\n${stderr()}`)), reject);
    child.stdout?.on("data", (chunk) => {
      text += chunk;
      const line = text.split("\n").find((each) => each.includes('"ready"'));
      if (line === undefined) return;
      clearTimeout(timer);
      resolve((JSON.parse(line) as { ready: { url: string; workerUrl: string } }).ready);
    });
  });
}

/** The daemon child: the node process whose parent is the supervisor and whose program is the daemon's entry. */
async function childOf(supervisorPid: number, entry: string): Promise<number> {
  const pids = (await readFile(`/proc/${supervisorPid}/task/${supervisorPid}/children`, "utf8"))
    .trim()
    .split(" ");
  for (const pid of pids) {
    const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
    if (command.split("\0").includes(entry)) return Number(pid);
  }
  throw new Error("the supervisor has no daemon child");
}

/** Asks again until the answer is there; fails with the last answer. */
export async function eventually<T>(
  ask: () => Promise<T | undefined | false>,
  timeoutMs: number,
  what: string,
  everyMs = 50,
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined && answer !== false) return answer;
    if (performance.now() > deadline) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
}
