import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { RpxError } from "../../contract/error.ts";
import { sanitizeLine } from "../../text/sanitize.ts";
import { talk } from "../output.ts";
import { supervisorArguments } from "../serve/entries.ts";
import { startFailure } from "../serve/start-failure.ts";
import { readKeyFile } from "../settings.ts";
import type { DevPool } from "./deploy.ts";
import { withoutSecrets } from "./secrets.ts";

/** From the start of the supervisor to the ready line. */
const READY_LIMIT_MS = 30_000;
/** How long the daemon may take to stop by itself; then every process that it started is killed. Containers end by its hand alone. */
const STOP_LIMIT_MS: Readonly<Record<DevPool, number>> = { process: 3_000, docker: 15_000 };
/** Lines of its log that are kept for the case that it fails. */
const KEPT_LINES = 20;
/** What a daemon of `rpx dev` is started with. */
export type DevDaemonOptions = {
  readonly dataDir: string;
  readonly port: number;
  readonly python: string | undefined;
  readonly pool: DevPool;
  /** Stops waiting for it; its reason is thrown. */
  readonly signal: AbortSignal;
};

/** A daemon that lives as long as this process. */
export type DevDaemon = {
  readonly url: string;
  readonly key: string;
  /** Resolves, with what it said last, when it ends without being asked to. */
  readonly died: Promise<RpxError>;
  /** Ends it and everything that it started. */
  stop(): Promise<void>;
};

/**
 * Starts supervisor and daemon for one folder and waits for the ready line. It has a process group of its own, so that Ctrl-C reaches
 * this process alone; its standard input is a pipe whose end, also by our kill -9, ends it. Throws RpxError `conflict` when the
 * data directory is taken.
 */
export async function startDevDaemon(options: DevDaemonOptions): Promise<DevDaemon> {
  const { dataDir, port, python, pool } = options;
  const daemonConfig = {
    ...{
      dataDir,
      port,
      workerPort: 0,
      pool,
      stopWorkers: true,
      graceMs: 0,
      announce: "json",
      logLevel: "warn",
    },
    ...(python === undefined ? {} : { python }),
  };
  const child = spawn(
    process.execPath,
    supervisorArguments({ dataDir, daemonConfig, stopWithParent: true }),
    {
      detached: true,
      stdio: ["pipe", "pipe", "pipe"],
      env: withoutSecrets(process.env),
    },
  );
  child.stdin.on("error", () => {});
  const log = keepLog(child);
  const stop = createStop(child, STOP_LIMIT_MS[pool]);
  try {
    const url = await untilReady(child, { ...options, log });
    const key = readKeyFile(join(dataDir, "admin-key"));
    if (key === undefined) throw new RpxError("internal", `the daemon left no key in ${dataDir}`);
    return { url, key, died: ended(child).then((how) => diedError(how, log)), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

type StartFacts = { readonly dataDir: string; readonly signal: AbortSignal; readonly log: readonly string[] };

async function untilReady(child: ChildProcessWithoutNullStreams, facts: StartFacts): Promise<string> {
  const over = new AbortController();
  const stopped = AbortSignal.any([facts.signal, over.signal]);
  try {
    return await Promise.race([
      readyUrl(child),
      ended(child).then((how) => Promise.reject(startError(child, how, facts))),
      sleep(READY_LIMIT_MS, undefined, { signal: stopped }).then(
        () =>
          Promise.reject(
            new RpxError("timed_out", `the daemon was not ready after ${READY_LIMIT_MS / 1_000} s`),
          ),
        () => Promise.reject(facts.signal.reason),
      ),
    ]);
  } finally {
    over.abort();
  }
}

function readyUrl(child: ChildProcessWithoutNullStreams): Promise<string> {
  return new Promise((resolve) => {
    createInterface({ input: child.stdout }).on("line", (line) => {
      const url = readReadyLine(line);
      if (url !== null) resolve(url);
    });
  });
}

function readReadyLine(line: string): string | null {
  try {
    const value: { ready?: { url?: unknown } } | null = JSON.parse(line);
    return typeof value?.ready?.url === "string" ? value.ready.url : null;
  } catch {
    return null;
  }
}

/** How a process ended, in words. */
async function ended(child: ChildProcessWithoutNullStreams): Promise<string> {
  const spoken = (): string => (child.signalCode === null ? `exit ${child.exitCode}` : child.signalCode);
  if (child.exitCode !== null || child.signalCode !== null) return spoken();
  return await new Promise((resolve) => {
    child.once("error", (error) => resolve(error.message));
    child.once("close", () => resolve(spoken()));
  });
}

/** The last lines of its log; all of them go to stderr with DEBUG=rpx. */
function keepLog(child: ChildProcessWithoutNullStreams): readonly string[] {
  const lines: string[] = [];
  const isShown = (process.env.DEBUG ?? "").split(",").some((name) => name === "*" || name.startsWith("rpx"));
  createInterface({ input: child.stderr }).on("line", (line) => {
    if (isShown) talk(sanitizeLine(line));
    lines.push(line);
    if (lines.length > KEPT_LINES) lines.shift();
  });
  return lines;
}

function startError(
  child: ChildProcessWithoutNullStreams,
  how: string,
  { dataDir, log }: StartFacts,
): RpxError {
  const holder = holderPid(dataDir);
  if (child.exitCode === 6 && holder !== null && holder !== child.pid) return takenError(holder);
  return startFailure({ how, exit: child.exitCode, lines: log, hint: "DEBUG=rpx:* shows its whole log" });
}

function takenError(pid: number): RpxError {
  return new RpxError("conflict", "rpx dev runs on this folder already", {
    why: `process ${pid} has its data directory`,
    hint: `send jobs to that one (rpx context list), or stop it: kill ${pid}`,
  });
}

/** The supervisor that has the data directory; null when none says so. */
function holderPid(dataDir: string): number | null {
  try {
    return Number.parseInt(readFileSync(join(dataDir, "supervisor.pid"), "utf8"), 10) || null;
  } catch {
    return null;
  }
}

function diedError(how: string, log: readonly string[]): RpxError {
  const last = log.at(-1);
  return new RpxError("unavailable", `the daemon of rpx dev ended (${how})`, {
    ...(last === undefined ? {} : { why: last }),
    hint: "start rpx dev again; DEBUG=rpx:* shows its whole log",
  });
}

/** Asked first, so that jobs go back to the queue; what is left after the limit ends with the pipe. */
function createStop(child: ChildProcessWithoutNullStreams, limitMs: number): () => Promise<void> {
  return async () => {
    const gone = ended(child);
    child.kill("SIGTERM");
    const limit = new AbortController();
    const late = sleep(limitMs, undefined, { signal: limit.signal }).then(
      () => child.stdin.end(),
      () => {},
    );
    await gone;
    limit.abort();
    await late;
  };
}
