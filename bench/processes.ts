/** Programs that a measurement starts and ends. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const READY_MS = 30_000;
/** How long a signal may take before a stronger one is sent. */
const STOP_MS = 5_000;

export type Running = {
  readonly process: ChildProcess;
  /** The line that said that it is ready. */
  readonly readyLine: string;
  /** Asks it to end, and waits until it has. */
  stop(): Promise<void>;
};

export type StartOptions = {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** A line that matches this says that it is ready: any line when absent. Null waits for none. */
  readonly ready?: RegExp | null;
};

/** Starts a program, and waits for the line that says it is ready where there is one. */
export async function start(
  file: string,
  args: readonly string[],
  options: StartOptions = {},
): Promise<Running> {
  const { env = {}, cwd, ready = /./ } = options;
  const child = spawn(file, args, {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...env },
    ...(cwd !== undefined && { cwd }),
  });
  let stderr = "";
  child.stderr.on("data", (part) => {
    stderr = `${stderr}${part}`.slice(-4_000);
  });
  // Nobody may be left waiting for a reader of what it prints.
  if (ready === null) child.stdout.resume();
  const ended = once(child, "exit");
  const readyLine = await Promise.race([
    ready === null ? Promise.resolve("") : lineOf(child, ready),
    ended.then(() => Promise.reject(new Error(`${file} ended before it was ready: ${stderr}`))),
    tooLate(file),
  ]);
  return {
    process: child,
    readyLine,
    stop: () => endProcess(child, ended),
  };
}

/** Celery now and then takes half a minute over a SIGTERM; a SIGQUIT ends it with its children. */
async function endProcess(child: ChildProcess, ended: Promise<unknown>): Promise<void> {
  const signals = ["SIGTERM", "SIGQUIT", "SIGKILL"] as const;
  for (const signal of signals) {
    child.kill(signal);
    const isOver = await Promise.race([ended.then(() => true), pause(STOP_MS)]);
    if (isOver === true) return;
  }
}

function lineOf(child: ChildProcess, ready: RegExp): Promise<string> {
  return new Promise((resolve) => {
    for (const stream of [child.stdout, child.stderr]) {
      if (stream === null) continue;
      createInterface({ input: stream }).on("line", (line) => {
        if (ready.test(line)) resolve(line);
      });
    }
  });
}

function tooLate(file: string): Promise<never> {
  return new Promise((_, reject) => {
    setTimeout(() => reject(new Error(`${file} was not ready in ${READY_MS} ms`)), READY_MS).unref();
  });
}

/** Runs a program to its end; its stdout. Throws when it fails. */
export async function output(
  file: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<string> {
  const child = spawn(file, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...env } });
  const texts = { out: "", err: "" };
  child.stdout.on("data", (part) => {
    texts.out += part;
  });
  child.stderr.on("data", (part) => {
    texts.err += part;
  });
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error(`${file} ended with ${code}: ${texts.err.slice(-2_000)}`);
  return texts.out;
}

export type Folder = { readonly path: string; remove(): void };

export function temporaryFolder(): Folder {
  const path = mkdtempSync(join(tmpdir(), "rpx-bench-"));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/** A loopback port that is free at this moment. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  await once(server, "close");
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
