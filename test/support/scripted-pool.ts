import type { WorkerId } from "../../src/runtime/core/model.ts";
import type { PoolWorker, WorkerExit, WorkerPool, WorkerStart } from "../../src/runtime/ports/worker-pool.ts";

/** What the daemon asked of one worker's process, in order. */
export type ScriptedWorker = WorkerStart & {
  readonly asked: ("stop" | "kill")[];
  exit: WorkerExit | null;
};

/** A pool without processes: the test acts as the workers, with the environment that they were started with. */
export type ScriptedPool = WorkerPool & {
  /** Every worker ever started, oldest first. */
  readonly started: readonly ScriptedWorker[];
  /** Those whose process runs. */
  running(): ScriptedWorker[];
  /** Ends a worker's process from within. */
  exit(workerId: string, exit?: { code?: number | null; signal?: string | null; reason?: string }): void;
  /** Whether a worker ends at once when it is asked to; true unless set. */
  obeysStop: boolean;
  /** Starts fail with this text while it is set. */
  startFailure: string | null;
};

export function createScriptedPool(): ScriptedPool {
  const started: ScriptedWorker[] = [];
  const forgotten = new Set<WorkerId>();
  const listeners = new Set<(exit: WorkerExit) => void>();
  const find = (workerId: string) => started.find((worker) => worker.workerId === workerId);

  function end(worker: ScriptedWorker | undefined, exit: Omit<WorkerExit, "workerId">): void {
    if (!worker || worker.exit !== null) return;
    worker.exit = { workerId: worker.workerId, ...exit };
    for (const listener of listeners) listener(worker.exit);
  }

  const pool: ScriptedPool = {
    kind: "process",
    sleeps: ["frozen"],
    isolation: () => ({ level: "none", reason: "scripted" }),
    away: () => null,
    address: () => ({ listenHost: null, urlHost: "127.0.0.1" }),
    onChange: () => () => {},
    started,
    obeysStop: true,
    startFailure: null,
    running: () => started.filter(({ exit }) => exit === null),
    exit: (workerId, { code = 1, signal = null, reason } = {}) =>
      end(find(workerId), { code, signal, reason: reason ?? `it ended with code ${code}` }),
    start: async (worker) => {
      if (pool.startFailure !== null) throw new Error(pool.startFailure);
      started.push({ ...worker, asked: [], exit: null });
      return { handle: `scripted-${started.length}` };
    },
    stop: async (workerId) => {
      find(workerId)?.asked.push("stop");
      if (pool.obeysStop) end(find(workerId), { code: 0, signal: null, reason: "it ended when asked to" });
    },
    kill: async (workerId) => {
      find(workerId)?.asked.push("kill");
      end(find(workerId), { code: null, signal: "SIGKILL", reason: "it was killed" });
    },
    park: async () => {},
    wake: async () => {},
    list: async () =>
      started.flatMap(({ workerId, exit }, index): PoolWorker[] =>
        forgotten.has(workerId) ? [] : [{ workerId, handle: `scripted-${index + 1}`, asleep: null, exit }],
      ),
    forget: async (workerId) => void forgotten.add(workerId),
    onExit: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
  return pool;
}
