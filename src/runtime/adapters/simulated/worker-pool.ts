import type { WorkerId } from "../../core/model.ts";
import type { PoolWorker, WorkerExit, WorkerPool, WorkerStart } from "../../ports/worker-pool.ts";

/** How a process ended; `reason` is a sentence. */
export type SimulatedEnd = Omit<WorkerExit, "workerId">;

/** A worker's process as its program sees it. */
export type SimulatedProcess = {
  readonly start: WorkerStart;
  isAlive(): boolean;
  isFrozen(): boolean;
  /** Ends the process; what it does after that reaches nobody. */
  end(how: SimulatedEnd): void;
  /** Calls back when the process has ended, whoever ended it. */
  onEnd(listener: (how: SimulatedEnd) => void): void;
};

/** What runs in a process. */
export type SimulatedProgram = {
  /** SIGTERM arrived. */
  terminate(): void;
  /** SIGSTOP: from now on nothing of it happens, until `thaw`. */
  freeze(): void;
  thaw(): void;
};

export type SimulatedHostOptions = {
  /** Starts a program; rejects with the reason when the process cannot be started. */
  launch(process: SimulatedProcess): Promise<SimulatedProgram>;
};

/** A host of processes without processes. It outlives the daemons that use it, as a supervisor does. */
export type SimulatedHost = {
  /** The pool as one daemon sees it. */
  pool(): WorkerPool;
  /** Processes that run, oldest first. */
  running(): readonly SimulatedProcess[];
  /** Ends all at once and forgets them: the host itself went. */
  lose(how: SimulatedEnd): void;
};

type Entry = {
  readonly process: SimulatedProcess;
  readonly handle: string;
  program: SimulatedProgram | null;
  exit: WorkerExit | null;
  frozen: boolean;
  /** It was asked to end before its program was up. */
  asked: boolean;
};

const STOPPED: SimulatedEnd = { code: 0, signal: null, reason: "stopped by rpx" };
const KILLED: SimulatedEnd = { code: null, signal: "SIGKILL", reason: "killed by rpx" };

/** Worker processes as functions on virtual time, for simulations and tests. */
export function createSimulatedHost({ launch }: SimulatedHostOptions): SimulatedHost {
  const entries = new Map<WorkerId, Entry>();
  const listeners = new Set<(exit: WorkerExit) => void>();
  let started = 0;

  function open(start: WorkerStart): Entry {
    started += 1;
    const onEnd: ((how: SimulatedEnd) => void)[] = [];
    const entry: Entry = {
      handle: `simulated-${started}`,
      program: null,
      exit: null,
      frozen: false,
      asked: false,
      process: {
        start,
        isAlive: () => entry.exit === null,
        isFrozen: () => entry.frozen,
        end: (how) => {
          if (entry.exit !== null) return;
          entry.exit = { workerId: start.workerId, ...how };
          for (const listener of onEnd) listener(how);
          if (entries.get(start.workerId) !== entry) return;
          for (const listener of [...listeners]) listener(entry.exit);
        },
        onEnd: (listener) => void onEnd.push(listener),
      },
    };
    entries.set(start.workerId, entry);
    return entry;
  }

  async function run(start: WorkerStart): Promise<{ handle: string }> {
    const entry = open(start);
    try {
      entry.program = await launch(entry.process);
    } catch (error) {
      entries.delete(start.workerId);
      throw error;
    }
    if (entry.asked && entry.process.isAlive()) entry.program.terminate();
    return { handle: entry.handle };
  }

  function stop(workerId: WorkerId): void {
    const entry = entries.get(workerId);
    if (entry === undefined || entry.exit !== null) return;
    entry.asked = true;
    setFrozen(workerId, false);
    entry.program?.terminate();
  }

  function setFrozen(workerId: WorkerId, frozen: boolean): void {
    const entry = entries.get(workerId);
    if (entry === undefined || entry.exit !== null || entry.frozen === frozen) return;
    entry.frozen = frozen;
    if (frozen) entry.program?.freeze();
    else entry.program?.thaw();
  }

  const list = (): PoolWorker[] =>
    [...entries].map(([workerId, { handle, frozen, exit }]) => ({
      workerId,
      handle,
      asleep: frozen ? "frozen" : null,
      exit,
    }));

  return {
    pool: () => ({
      kind: "process",
      sleeps: ["frozen"],
      isolation: () => ({ level: "none", reason: "simulated" }),
      away: () => null,
      address: () => ({ listenHost: null, urlHost: "127.0.0.1" }),
      prepare: () => {},
      onChange: () => () => {},
      start: (start) => run(start),
      stop: async (workerId) => stop(workerId),
      kill: async (workerId) => entries.get(workerId)?.process.end(KILLED),
      park: async (workerId, depth) => {
        if (depth !== "frozen") throw new Error(`a process cannot be ${depth}`);
        setFrozen(workerId, true);
      },
      wake: async (workerId) => setFrozen(workerId, false),
      list: async () => list(),
      forget: async (workerId) => {
        if (entries.get(workerId)?.exit) entries.delete(workerId);
      },
      onExit: (listener) => {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
    }),
    running: () => [...entries.values()].map(({ process }) => process).filter((each) => each.isAlive()),
    lose: (how) => {
      const lost = [...entries.values()];
      entries.clear();
      for (const { process } of lost) process.end(how);
    },
  };
}

/** How a program ends that does as it is asked. */
export const ENDED_WHEN_ASKED = STOPPED;
