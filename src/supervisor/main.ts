/**
 * The supervisor: `node main.js '{"dataDir": ..., "daemonEntry": ..., "daemonConfig": ...}'`. It owns what must outlive
 * the daemon: listening sockets, worker processes and their output. Node's built-ins only.
 */
import { mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { endLeftovers, recordProcesses } from "./leftovers.ts";
import { takeLock } from "./lock.ts";
import { readStartTime } from "./process-identity.ts";
import { createSockets } from "./sockets.ts";
import { createSupervision, type Supervision } from "./supervise.ts";
import { createWorkers, type LiveWorker, type Workers } from "./workers.ts";

const EXIT_BUG = 1;
const EXIT_USAGE = 2;
const EXIT_NOT_ALLOWED = 4;
const EXIT_CONFLICT = 6;
const EXIT_INTERRUPTED = 130;
const EXIT_TERMINATED = 143;

/** What the supervisor is started with. */
type Options = {
  /** Absolute; made when it is missing. */
  readonly dataDir: string;
  /** File the daemon child runs. */
  readonly daemonEntry: string;
  /** Handed to the child as it is. */
  readonly daemonConfig: unknown;
  /** End of standard input means that whoever started us is gone: stop at once (`rpx dev`). */
  readonly stopWithParent: boolean;
};

/** What happened, why, and what next; then the exit code. */
type Refusal = { readonly code: number; readonly lines: readonly string[] };

function readOptions(text: string | undefined): Options | Refusal {
  try {
    const value = JSON.parse(text ?? "") as Partial<Options>;
    if (typeof value.dataDir === "string" && typeof value.daemonEntry === "string") {
      const { dataDir, daemonEntry, daemonConfig, stopWithParent = false } = value;
      return { dataDir, daemonEntry, daemonConfig, stopWithParent };
    }
  } catch {
    // Said below.
  }
  return {
    code: EXIT_USAGE,
    lines: [
      "Error: the supervisor was started without its settings",
      "why: it takes one argument, a JSON object with dataDir, daemonEntry and daemonConfig",
      "try: rpx serve",
    ],
  };
}

/** Makes the data directory and takes its lock, which is held until this process ends. */
function claimDataDir(dataDir: string): { release: () => void } | Refusal {
  try {
    mkdirSync(dataDir, { recursive: true, mode: 0o700 });
    if (statSync(dataDir).uid !== process.geteuid?.())
      return foreignDataDir(dataDir, "it belongs to another user");
    const lockPath = join(dataDir, "supervisor.lock");
    const lock = takeLock({ path: lockPath, pidPath: join(dataDir, "supervisor.pid") });
    return lock.taken ? lock : takenDataDir(dataDir, lockPath, lock.holderPid);
  } catch (error) {
    return foreignDataDir(dataDir, (error as Error).message);
  }
}

function takenDataDir(dataDir: string, lockPath: string, holderPid: number | null): Refusal {
  const holder = holderPid === null ? "another process" : `process ${holderPid}`;
  return {
    code: EXIT_CONFLICT,
    lines: [
      `Error: another rpx runs on the data directory ${dataDir}`,
      `why: ${holder} holds ${lockPath}`,
      `try: ${holderPid === null ? "stop it" : `kill ${holderPid}`}, or choose another directory with --data-dir`,
    ],
  };
}

function foreignDataDir(dataDir: string, why: string): Refusal {
  return {
    code: EXIT_NOT_ALLOWED,
    lines: [
      `Error: cannot use the data directory ${dataDir}`,
      `why: ${why}`,
      "try: choose a directory of your own with --data-dir",
    ],
  };
}

function refuse({ code, lines }: Refusal): never {
  process.stderr.write(`${lines.join("\n")}\n`);
  process.exit(code);
}

function log(text: string): void {
  process.stderr.write(`rpx supervisor: ${text}\n`);
}

/** Keeps the file of running processes: the workers and the daemon child itself. */
function createRegister(path: string): {
  setWorkers(live: readonly LiveWorker[]): void;
  setChild(pid: number | undefined): void;
} {
  let workers: readonly LiveWorker[] = [];
  let child: LiveWorker | null = null;
  const write = (): void => {
    try {
      recordProcesses(path, child === null ? workers : [...workers, child]);
    } catch (error) {
      log(`cannot write ${path}: ${(error as Error).message}`);
    }
  };
  const setChild = async (pid: number | undefined): Promise<void> => {
    const startTime = pid === undefined ? null : await readStartTime(pid);
    child = pid === undefined || startTime === null ? null : { id: "daemon", pid, startTime };
    write();
  };
  return {
    setWorkers: (live) => {
      workers = live;
      write();
    },
    setChild: (pid) => void setChild(pid),
  };
}

/** First SIGTERM or SIGINT drains, the second ends everything; SIGHUP replaces the child alone. */
function handleSignals(supervision: Supervision, stopNow: (code: number) => void): void {
  let isDraining = false;
  const onStop = (code: number): void => {
    if (isDraining) stopNow(code);
    isDraining = true;
    supervision.drain();
  };
  process.on("SIGTERM", () => onStop(EXIT_TERMINATED));
  process.on("SIGINT", () => onStop(EXIT_INTERRUPTED));
  process.on("SIGHUP", () => {
    if (!supervision.replace()) log("SIGHUP ignored: the daemon is starting, being replaced or stopping");
  });
}

function stopWithStdin(stopNow: (code: number) => void): void {
  process.stdin.on("end", () => stopNow(0));
  process.stdin.on("error", () => stopNow(0));
  process.stdin.resume();
}

async function supervise(options: Options, workersFile: string): Promise<number> {
  const register = createRegister(workersFile);
  const sockets = createSockets({ onDrop: logOnce("connections are refused: too many wait for the daemon") });
  const workers = createWorkers({ onLive: register.setWorkers });
  const supervision = createSupervision({
    entry: options.daemonEntry,
    config: options.daemonConfig,
    sockets,
    workers,
    onChild: register.setChild,
    log,
  });
  const stopNow = createStopNow(supervision, workers);
  handleSignals(supervision, stopNow);
  if (options.stopWithParent) stopWithStdin(stopNow);
  const code = await supervision.run();
  await workers.stopAll();
  sockets.closeAll();
  return code;
}

/** The only other way out: everything is killed. What the kernel has not ended yet the next start finds by its file. */
function createStopNow(supervision: Supervision, workers: Workers): (code: number) => void {
  const stopNow = (code: number): void => {
    supervision.kill();
    workers.killAll();
    process.exit(code);
  };
  process.on("uncaughtException", (error) => {
    log(`stopped by a bug: ${error.stack ?? error.message}`);
    stopNow(EXIT_BUG);
  });
  return stopNow;
}

/** Says it at most once a minute. */
function logOnce(text: string): () => void {
  let saidAtMs = Number.NEGATIVE_INFINITY;
  return () => {
    if (performance.now() - saidAtMs < 60_000) return;
    saidAtMs = performance.now();
    log(text);
  };
}

async function main(): Promise<void> {
  process.umask(0o077);
  // A closed terminal must not end what outlives everything else.
  process.stderr.on("error", () => {});
  const options = readOptions(process.argv[2]);
  if ("lines" in options) refuse(options);
  const claim = claimDataDir(options.dataDir);
  if ("lines" in claim) refuse(claim);
  const workersFile = join(options.dataDir, "workers.json");
  const ended = await endLeftovers(workersFile);
  if (ended.length > 0) log(`ended what a supervisor before left running: ${ended.join(", ")}`);
  const code = await supervise(options, workersFile);
  claim.release();
  process.exit(code);
}

await main();
