import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { constants as system } from "node:os";
import path from "node:path";
import { RpxError } from "../../../contract/error.ts";
import { type AskedEnd, exitReason } from "../../core/exit-reason.ts";
import type { BuiltProcess, BuiltRelease, EndpointId, WorkerId } from "../../core/model.ts";
import type { LogStore } from "../../ports/log-store.ts";
import type { ProcessExit, ProcessHost } from "../../ports/process-host.ts";
import type { Isolation, SleepDepth, WorkerExit, WorkerPool, WorkerStart } from "../../ports/worker-pool.ts";
import { createStraySweep } from "./strays.ts";

export type ProcessPoolDeps = {
  readonly host: ProcessHost;
  readonly logs: Pick<LogStore, "pathOf" | "lastLines">;
  /** Whose a worker was that an earlier daemon started: its log, for the last words. */
  readonly endpointOf: (workerId: WorkerId) => EndpointId | null;
};

/** Lines among which the last one with text is looked for. */
const LAST_WORDS_LINES = 5;
/**
 * No core files: they hold the worker's memory, keys included (T-24). Node has no call for it, so a shell sets the limit
 * and becomes the worker: same pid, 1 ms.
 */
const SHELL = "/bin/sh";
const WITHOUT_CORE_FILES = 'ulimit -c 0; exec "$@"';

/**
 * Workers as child processes, each a process group of its own, on this host and with this user's rights: not isolated. The
 * processes belong to the host behind the port, so they outlive this daemon and are found again by `list`.
 */
export function createProcessPool({ host, logs, endpointOf }: ProcessPoolDeps): WorkerPool {
  const endpoints = new Map<WorkerId, EndpointId>();
  const asked = new Map<WorkerId, AskedEnd>();
  const frozen = new Set<WorkerId>();
  const listeners = new Set<(exit: WorkerExit) => void>();
  const sweepStrays = createStraySweep();

  function toWorkerExit({ id, code, signal }: ProcessExit): WorkerExit {
    const workerId = id as WorkerId;
    const endpointId = endpoints.get(workerId) ?? endpointOf(workerId);
    const lastLines = endpointId === null ? [] : logs.lastLines(endpointId, workerId, LAST_WORDS_LINES);
    const reason = exitReason({
      code,
      signal,
      asked: asked.get(workerId) ?? null,
      lastLines,
      signalNumbers: system.signals,
    });
    return { workerId, code, signal, reason };
  }

  async function announce(exit: ProcessExit): Promise<void> {
    const seen = toWorkerExit(exit);
    // What escaped from its group may hold the GPU or the port that the next worker needs.
    await sweepStrays(seen.workerId);
    for (const listener of listeners) listener(seen);
  }

  async function start(worker: WorkerStart): Promise<{ readonly handle: string }> {
    const { workerId, endpointId } = worker;
    const built = programOf(worker.built);
    await checkProgram(built);
    endpoints.set(workerId, endpointId);
    try {
      const hosted = await host.spawn({
        id: workerId,
        file: SHELL,
        args: ["-c", WITHOUT_CORE_FILES, "rpx-worker", built.file, ...built.args],
        cwd: built.cwd,
        env: startEnvironment(built, worker.env),
        logPath: logs.pathOf(endpointId, workerId),
      });
      return { handle: String(hosted.pid) };
    } catch (error) {
      endpoints.delete(workerId);
      throw startError(built, error);
    }
  }

  async function stop(workerId: WorkerId): Promise<void> {
    asked.set(workerId, asked.get(workerId) ?? "stop");
    await host.signal(workerId, "SIGTERM");
    // A frozen worker hears it only when it runs again; in this order it hears it first.
    await host.signal(workerId, "SIGCONT");
  }

  async function kill(workerId: WorkerId): Promise<void> {
    asked.set(workerId, "kill");
    await host.signal(workerId, "SIGKILL");
    await sweepStrays(workerId);
  }

  async function park(workerId: WorkerId, depth: SleepDepth): Promise<void> {
    if (depth !== "frozen") throw new Error("a stopped process cannot be kept");
    await host.signal(workerId, "SIGSTOP");
    frozen.add(workerId);
  }

  async function wake(workerId: WorkerId): Promise<void> {
    await host.signal(workerId, "SIGCONT");
    frozen.delete(workerId);
  }

  async function list() {
    const hosted = await host.list();
    return hosted.map(({ id, pid, exit }) => ({
      workerId: id as WorkerId,
      handle: String(pid),
      asleep: frozen.has(id as WorkerId) ? ("frozen" as const) : null,
      exit: exit === null ? null : toWorkerExit(exit),
    }));
  }

  async function forget(workerId: WorkerId): Promise<void> {
    await host.forget(workerId);
    endpoints.delete(workerId);
    asked.delete(workerId);
    frozen.delete(workerId);
    // The end may have come while no daemon was there to sweep.
    await sweepStrays(workerId);
  }

  host.onExit((exit) => void announce(exit));
  return {
    kind: "process",
    sleeps: ["frozen"],
    isolation: () => NOT_ISOLATED,
    away: () => null,
    address: () => ({ listenHost: null, urlHost: "127.0.0.1" }),
    prepare: () => {},
    onChange: () => () => {},
    start: (worker) => start(worker),
    stop,
    kill,
    park,
    wake,
    list,
    forget,
    onExit(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}

const NOT_ISOLATED: Isolation = {
  level: "none",
  reason: "workers are processes of this user, on this host's network",
};

function programOf(built: BuiltRelease): BuiltProcess {
  if (built.kind === "process") return built;
  throw new Error(`the process pool cannot start ${built.reference}: it is an image`);
}

/** The endpoint's variables over the interpreter's. PYTHONPATH is both: without ours there is no stand-in. */
function startEnvironment(
  built: BuiltRelease,
  env: Readonly<Record<string, string>>,
): Record<string, string> {
  const joined = [built.env.PYTHONPATH, env.PYTHONPATH].filter((part) => part !== undefined && part !== "");
  const pythonPath = joined.length === 0 ? {} : { PYTHONPATH: joined.join(path.delimiter) };
  return { ...built.env, ...env, ...pythonPath };
}

/** The shell would only say so in the log, after the fact. */
async function checkProgram({ file }: BuiltProcess): Promise<void> {
  if (!path.isAbsolute(file)) return;
  await access(file, constants.X_OK).catch((error: NodeJS.ErrnoException) => {
    throw new RpxError("unavailable", `cannot start a worker: ${file} cannot be run`, {
      why: error.code === "ENOENT" ? "it is gone since the release was built" : error.message,
      hint: "deploy the endpoint again",
      cause: error,
    });
  });
}

function startError({ file, cwd }: BuiltProcess, error: unknown): Error {
  if (error instanceof RpxError) return error;
  return new RpxError("unavailable", "cannot start a worker", {
    why: error instanceof Error ? error.message : String(error),
    hint: `check that ${file} runs in ${cwd}`,
    cause: error,
  });
}
