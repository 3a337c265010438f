import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createClient } from "../../client/client.ts";
import { createHttpSend } from "../../client/send-http.ts";
import { RpxError } from "../../contract/error.ts";
import { type DaemonFile, readDaemonFile } from "../settings.ts";
import { supervisorArguments } from "./entries.ts";
import { startFailure } from "./start-failure.ts";

/** How long a daemon in the background may take until it answers. */
const READY_LIMIT_MS = 30_000;
const POLL_MS = 100;
/** One try to reach it: a daemon that is ready answers in a few ms. */
const HEALTH_LIMIT_MS = 2_000;
/** Lines and bytes of the log that are read when it did not start. */
const KEPT_LINES = 20;
const SHOWN_BYTES = 16_384;

/** A daemon that runs in the background. `pid` is the supervisor's: what `kill` stops. */
export type DetachedDaemon = { readonly url: string; readonly pid: number; readonly logPath: string };

/**
 * Starts the supervisor in the background with its log in <dataDir>/daemon.log, and resolves when /healthz answers. Throws with the last
 * lines of the log when it ends before that, `timed_out` after 30 s (it is ended then).
 */
export async function startDetached(dataDir: string, daemonConfig: object): Promise<DetachedDaemon> {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  const logPath = join(dataDir, "daemon.log");
  const log = openSync(logPath, "a", 0o600);
  const logStart = statSync(logPath).size;
  const startedAtMs = Date.now();
  const child = spawn(process.execPath, supervisorArguments({ dataDir, daemonConfig }), {
    detached: true,
    stdio: ["ignore", log, log],
    cwd: "/",
  });
  closeSync(log);
  const daemon = await untilReady(child, { dataDir, startedAtMs, logPath, logStart });
  child.unref();
  return { url: daemon.url, pid: child.pid ?? 0, logPath };
}

type Start = {
  readonly dataDir: string;
  readonly startedAtMs: number;
  readonly logPath: string;
  readonly logStart: number;
};

async function untilReady(child: ChildProcess, start: Start): Promise<DaemonFile> {
  let failure: Error | null = null;
  child.once("error", (error) => {
    failure = error;
  });
  const deadlineMs = start.startedAtMs + READY_LIMIT_MS;
  while (Date.now() < deadlineMs) {
    if (failure !== null || child.exitCode !== null || child.signalCode !== null)
      throw ended(child, failure, start);
    const daemon = ownDaemonFile(start);
    if (daemon !== null && (await answers(daemon.url))) return daemon;
    await sleep(POLL_MS);
  }
  child.kill("SIGTERM");
  throw new RpxError("timed_out", `the daemon was not ready after ${READY_LIMIT_MS / 1_000} s`, {
    why: lastLines(start).at(-1) ?? "it wrote nothing into its log",
    hint: `see ${start.logPath}`,
  });
}

/** daemon.json if this start wrote it: an older one may name a port that somebody else has now. */
function ownDaemonFile({ dataDir, startedAtMs }: Start): DaemonFile | null {
  const written = statSync(join(dataDir, "daemon.json"), { throwIfNoEntry: false });
  // File times have the kernel's ticks, some ms behind the clock.
  if (written === undefined || written.mtimeMs < startedAtMs - 20) return null;
  return readDaemonFile(dataDir);
}

async function answers(url: string): Promise<boolean> {
  const client = createClient({
    send: createHttpSend({ url, key: undefined }),
    signal: AbortSignal.timeout(HEALTH_LIMIT_MS),
  });
  return await client.healthz().catch(() => false);
}

function ended(child: ChildProcess, failure: Error | null, start: Start): RpxError {
  const how = failure?.message ?? (child.signalCode === null ? `exit ${child.exitCode}` : child.signalCode);
  return startFailure({ how, exit: child.exitCode, lines: lastLines(start), hint: `see ${start.logPath}` });
}

/** What this start wrote last. */
function lastLines({ logPath, logStart }: Start): string[] {
  const text = readFileSync(logPath).subarray(logStart).subarray(-SHOWN_BYTES).toString("utf8");
  return text
    .split("\n")
    .filter((line) => line.trim() !== "")
    .slice(-KEPT_LINES);
}
