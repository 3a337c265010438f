/** Puts the supervisor's parts together and connects them to signals. */
import { join } from "node:path";
import { endLeftovers, recordProcesses } from "./leftovers.ts";
import { readStartTime } from "./process-identity.ts";
import { createSockets } from "./sockets.ts";
import { createSupervision, type Supervision } from "./supervise.ts";
import { createWorkers, type LiveWorker, type Workers } from "./workers.ts";

const EXIT_BUG = 1;
const EXIT_INTERRUPTED = 130;
const EXIT_TERMINATED = 143;

/** What the supervisor is started with. */
export type SupervisorOptions = {
  /** Absolute; made when it is missing. */
  readonly dataDir: string;
  /** File the daemon child runs. */
  readonly daemonEntry: string;
  /** Handed to the child as it is. */
  readonly daemonConfig: unknown;
  /** End of standard input means that whoever started us is gone: stop at once (`rpx dev`). */
  readonly stopWithParent: boolean;
};

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

/** Supervises until the daemon is drained or cannot start; resolves with the exit code once nothing of ours runs. */
export async function runSupervisor(options: SupervisorOptions): Promise<number> {
  const workersFile = join(options.dataDir, "workers.json");
  const ended = await endLeftovers(workersFile);
  if (ended.length > 0) log(`ended what a supervisor before left running: ${ended.join(", ")}`);
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
