import type { SleepDepth, WorkerId } from "../../src/runtime/core/model.ts";
import type {
  PoolWorker,
  StartStep,
  WorkerExit,
  WorkerPool,
  WorkerStart,
} from "../../src/runtime/ports/worker-pool.ts";

/** What the daemon asked of one worker's process, in order. */
export type ScriptedWorker = WorkerStart & {
  readonly asked: ("stop" | "kill" | "frozen" | "stopped" | "wake")[];
  exit: WorkerExit | null;
  asleep: SleepDepth | null;
};

/** A start that waits for the test. */
export type HeldStart = {
  readonly start: WorkerStart;
  readonly signal: AbortSignal;
  /** Says how far it is. */
  step(step: StartStep): void;
  finish(): void;
  fail(reason: string): void;
};

/** A pool without processes: the test acts as the workers, with the environment that they were started with. */
export type ScriptedPool = WorkerPool & {
  /** How its workers can sleep; the process pool's unless set. */
  sleeps: readonly SleepDepth[];
  /** Every worker ever started, oldest first. */
  readonly started: readonly ScriptedWorker[];
  /** Those whose process runs. */
  running(): ScriptedWorker[];
  /** Starts that are held, oldest first. */
  readonly held: readonly HeldStart[];
  /** Which starts the test finishes itself: those for which this holds. */
  holdStarts: ((start: WorkerStart) => boolean) | null;
  /** Calls about which workers hang, for as long as this says so. */
  hangs: ((workerId: string) => boolean) | null;
  /** Parking, or waking, a worker fails with this text while it is set. */
  sleepFailure: string | null;
  /** Ends a worker's process from within. */
  exit(
    workerId: string,
    exit?: {
      code?: number | null;
      signal?: string | null;
      reason?: string;
      cause?: NonNullable<WorkerExit["cause"]>;
    },
  ): void;
  /** A worker's process is gone, and nobody can tell how it ended. */
  lose(workerId: string): void;
  /** The pool goes away, or comes back; what ends meanwhile is told when it is asked again. */
  setAway(why: string | null): void;
  /** Forgets who listens: the daemon that did is gone. */
  deafen(): void;
  /** Whether a worker ends at once when it is asked to; true unless set. */
  obeysStop: boolean;
  /** Starts fail with this text while it is set. */
  startFailure: string | null;
};

/** Real time between two looks whether a call still hangs. */
const HANG_LOOK_MS = 2;

export function createScriptedPool(): ScriptedPool {
  const started: ScriptedWorker[] = [];
  const held: HeldStart[] = [];
  const forgotten = new Set<WorkerId>();
  const listeners = new Set<(exit: WorkerExit) => void>();
  const changes = new Set<() => void>();
  let away: string | null = null;
  const find = (workerId: string) => started.find((worker) => worker.workerId === workerId);

  function end(worker: ScriptedWorker | undefined, exit: Omit<WorkerExit, "workerId">): void {
    if (!worker || worker.exit !== null) return;
    worker.exit = { workerId: worker.workerId, ...exit };
    if (away !== null) return;
    for (const listener of [...listeners]) listener(worker.exit);
  }

  /** A call as it reaches the pool: not while it is away, and late where it hangs. */
  async function reach(workerId: string): Promise<ScriptedWorker | undefined> {
    if (away !== null) throw new Error(`the pool is away: ${away}`);
    while (pool.hangs?.(workerId)) await new Promise((resolve) => setTimeout(resolve, HANG_LOOK_MS));
    return find(workerId);
  }

  async function sleepOrWake(
    workerId: string,
    asked: "frozen" | "stopped" | "wake",
    asleep: SleepDepth | null,
  ): Promise<void> {
    const worker = await reach(workerId);
    if (pool.sleepFailure !== null) throw new Error(pool.sleepFailure);
    worker?.asked.push(asked);
    if (worker) worker.asleep = asleep;
  }

  function begin(start: WorkerStart): { handle: string } {
    started.push({ ...start, asked: [], exit: null, asleep: null });
    return { handle: `scripted-${started.length}` };
  }

  function hold(start: WorkerStart, onPhase: (step: StartStep) => void, signal: AbortSignal) {
    return new Promise<{ handle: string }>((resolve, reject) => {
      const over = () => held.splice(held.indexOf(each), 1);
      const each: HeldStart = {
        start,
        signal,
        step: onPhase,
        finish: () => {
          over();
          resolve(begin(start));
        },
        fail: (reason) => {
          over();
          reject(new Error(reason));
        },
      };
      held.push(each);
      signal.addEventListener("abort", () => each.fail("the start was aborted"), { once: true });
    });
  }

  const pool: ScriptedPool = {
    kind: "process",
    sleeps: ["frozen"],
    isolation: () => ({ level: "none", reason: "scripted" }),
    away: () => away,
    address: () => ({ listenHost: null, urlHost: "127.0.0.1" }),
    prepare: () => {},
    onChange: (listener) => {
      changes.add(listener);
      return () => changes.delete(listener);
    },
    started,
    held,
    holdStarts: null,
    hangs: null,
    sleepFailure: null,
    obeysStop: true,
    startFailure: null,
    running: () => started.filter(({ exit }) => exit === null),
    exit: (workerId, { code = 1, signal = null, reason, cause } = {}) =>
      end(find(workerId), {
        code,
        signal,
        reason: reason ?? `it ended with code ${code}`,
        ...(cause && { cause }),
      }),
    lose: (workerId) => {
      const worker = find(workerId);
      if (!worker) return;
      worker.exit = { workerId: worker.workerId, code: null, signal: null, reason: "lost" };
      forgotten.add(worker.workerId);
    },
    setAway: (why) => {
      away = why;
      for (const listener of [...changes]) listener();
    },
    deafen: () => {
      listeners.clear();
      changes.clear();
    },
    start: async (worker, onPhase, signal) => {
      await reach(worker.workerId);
      if (pool.startFailure !== null) throw new Error(pool.startFailure);
      return pool.holdStarts?.(worker) ? hold(worker, onPhase, signal) : begin(worker);
    },
    stop: async (workerId) => {
      const worker = await reach(workerId);
      worker?.asked.push("stop");
      if (pool.obeysStop) end(worker, { code: 0, signal: null, reason: "it ended when asked to" });
    },
    kill: async (workerId) => {
      const worker = await reach(workerId);
      worker?.asked.push("kill");
      end(worker, { code: null, signal: "SIGKILL", reason: "it was killed" });
    },
    park: (workerId, depth) => sleepOrWake(workerId, depth, depth),
    wake: (workerId) => sleepOrWake(workerId, "wake", null),
    list: async () => {
      await reach("");
      return started.flatMap(({ workerId, asleep, exit }, index): PoolWorker[] =>
        forgotten.has(workerId) ? [] : [{ workerId, handle: `scripted-${index + 1}`, asleep, exit }],
      );
    },
    forget: async (workerId) => {
      await reach(workerId);
      forgotten.add(workerId);
    },
    onExit: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
  return pool;
}
