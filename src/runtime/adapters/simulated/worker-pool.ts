import { RpxError } from "../../../contract/error.ts";
import type { PoolKind, SleepDepth, WorkerId } from "../../core/model.ts";
import type { PoolWorker, StartStep, WorkerExit, WorkerPool, WorkerStart } from "../../ports/worker-pool.ts";

/** How a process ended; `reason` is a sentence. */
export type SimulatedEnd = Omit<WorkerExit, "workerId">;

/** A worker's process as its program sees it. */
export type SimulatedProcess = {
  readonly start: WorkerStart;
  isAlive(): boolean;
  /** Ends the process; what it does after that reaches nobody. */
  end(how: SimulatedEnd): void;
  /** Calls back when the process has ended, whoever ended it. `kept`: its container sleeps, and may be started again. */
  onEnd(listener: (how: SimulatedEnd, kept: boolean) => void): void;
};

/** What runs in a process. */
export type SimulatedProgram = {
  /** SIGTERM arrived. */
  terminate(): void;
  /** It stands still: nothing that it does goes on, and nothing reaches it. */
  freeze(): void;
  thaw(): void;
};

/** How a start goes. */
export type SimulatedLaunch = {
  readonly onPhase: (step: StartStep) => void;
  /** Aborted: it was given up, or who worked on it is gone. */
  readonly signal: AbortSignal;
  /** The container ran before: nothing is pulled. */
  readonly again: boolean;
};

export type SimulatedHostOptions = {
  /** Processes end with their host, and are started whatever becomes of the daemon; containers are what an engine keeps. */
  readonly kind: PoolKind;
  /** Starts a program; rejects with the reason when the process cannot be started. */
  launch(process: SimulatedProcess, launch: SimulatedLaunch): Promise<SimulatedProgram>;
  /** Why a worker cannot be put to sleep, or woken, now; null: it can. */
  sleepFailure?(what: "park" | "wake"): string | null;
  /** Whether a start that the pool's absence cut off goes on where nobody sees it. */
  survivesAbsence?(): boolean;
};

/** A host of processes without processes. It outlives the daemons that use it, as a supervisor or an engine does. */
export type SimulatedHost = {
  /** The pool as one daemon sees it; `gone` aborts with that daemon. */
  pool(gone: AbortSignal): WorkerPool;
  /** Processes that run, and those that sleep, oldest first. */
  present(): readonly { readonly process: SimulatedProcess; readonly asleep: SleepDepth | null }[];
  /** Ends all at once and forgets them: the host itself went. */
  lose(how: SimulatedEnd): void;
  /** Ends all that run, and keeps what is left of them: nobody is told. */
  endAll(how: SimulatedEnd): void;
  /** The pool cannot be reached, for this reason; null: it can again. */
  setAway(reason: string | null): void;
  isAway(): boolean;
};

type Entry = {
  readonly start: WorkerStart;
  readonly handle: string;
  readonly onEnd: ((how: SimulatedEnd, kept: boolean) => void)[];
  /** Grows with each start of the same container. */
  incarnation: number;
  program: SimulatedProgram | null;
  asleep: SleepDepth | null;
  exit: WorkerExit | null;
  /** It was asked to end before its program was up. */
  asked: boolean;
  /** Ends a start under way for who waits for it; null: none is under way. */
  giveUp: ((error: Error) => void) | null;
  wasCutOff: boolean;
  /** Nobody works on its start any more. */
  readonly abandon: AbortController;
};

const STOPPED: SimulatedEnd = { code: 0, signal: null, reason: "stopped by rpx" };
const KILLED: SimulatedEnd = { code: null, signal: "SIGKILL", reason: "killed by rpx" };
const KEPT: SimulatedEnd = { code: 0, signal: null, reason: "stopped, and its container kept" };
const SLEEPS: Readonly<Record<PoolKind, readonly SleepDepth[]>> = {
  process: ["frozen"],
  docker: ["frozen", "stopped"],
};

/** Worker processes as functions on virtual time, for simulations and tests. */
export function createSimulatedHost(options: SimulatedHostOptions): SimulatedHost {
  const { kind, launch } = options;
  const entries = new Map<WorkerId, Entry>();
  const exitListeners = new Set<(exit: WorkerExit) => void>();
  const changeListeners = new Set<() => void>();
  let away: string | null = null;
  let started = 0;

  const alive = (workerId: WorkerId): Entry | undefined => {
    const entry = entries.get(workerId);
    return entry?.exit === null ? entry : undefined;
  };

  function processOf(entry: Entry): SimulatedProcess {
    const { incarnation } = entry;
    const isAlive = (): boolean =>
      entry.exit === null && entry.incarnation === incarnation && entry.asleep !== "stopped";
    return {
      start: entry.start,
      isAlive,
      end: (how) => {
        if (isAlive()) finish(entry, how);
      },
      onEnd: (listener) => void entry.onEnd.push(listener),
    };
  }

  function finish(entry: Entry, how: SimulatedEnd): void {
    if (entry.exit !== null) return;
    const { workerId } = entry.start;
    const exit = { workerId, ...how };
    entry.exit = exit;
    entry.asleep = null;
    for (const listener of entry.onEnd) listener(how, false);
    // What ends while nobody can ask is found in the list.
    if (entries.get(workerId) !== entry || away !== null) return;
    for (const listener of [...exitListeners]) listener(exit);
  }

  function open(start: WorkerStart): Entry {
    started += 1;
    const entry: Entry = {
      ...{ start, handle: `simulated-${started}`, onEnd: [], incarnation: 0, program: null },
      ...{ asleep: null, exit: null, asked: false, giveUp: null, wasCutOff: false },
      abandon: new AbortController(),
    };
    entries.set(start.workerId, entry);
    return entry;
  }

  function run(
    start: WorkerStart,
    onPhase: SimulatedLaunch["onPhase"],
    signals: readonly AbortSignal[],
  ): Promise<{ handle: string }> {
    const entry = open(start);
    const abandon = (): void => entry.abandon.abort(null);
    // A supervisor starts what it was told to, whoever is still there to hear of it.
    if (kind !== "process") for (const signal of signals) signal.addEventListener("abort", abandon);
    return new Promise((resolve, reject) => {
      entry.giveUp = reject;
      up(entry, onPhase)
        .then(() => resolve({ handle: entry.handle }), reject)
        .finally(() => {
          entry.giveUp = null;
          for (const signal of signals) signal.removeEventListener("abort", abandon);
        });
    });
  }

  async function up(entry: Entry, onPhase: SimulatedLaunch["onPhase"]): Promise<void> {
    try {
      const { signal } = entry.abandon;
      const program = await launch(processOf(entry), { onPhase, signal, again: false });
      if (signal.aborted) throw new Error("the start was aborted");
      entry.program = program;
    } catch (error) {
      if (entries.get(entry.start.workerId) === entry) entries.delete(entry.start.workerId);
      finish(entry, { code: null, signal: null, reason: "its start failed" });
      throw error;
    }
    if (entry.asked && entry.exit === null) entry.program?.terminate();
  }

  function stop(workerId: WorkerId): void {
    const entry = alive(workerId);
    if (entry === undefined) return;
    if (entry.asleep === "stopped") finish(entry, STOPPED);
    entry.asked = true;
    thaw(entry);
    entry.program?.terminate();
  }

  function thaw(entry: Entry): void {
    if (entry.asleep !== "frozen") return;
    entry.asleep = null;
    entry.program?.thaw();
  }

  function park(workerId: WorkerId, depth: SleepDepth): void {
    const entry = alive(workerId);
    if (!SLEEPS[kind].includes(depth)) throw new Error(`a ${kind} worker cannot be ${depth}`);
    const failure = options.sleepFailure?.("park") ?? null;
    if (failure !== null) throw new Error(failure);
    if (entry === undefined || entry.asleep === depth) return;
    if (depth === "frozen") {
      entry.asleep = "frozen";
      entry.program?.freeze();
      return;
    }
    thaw(entry);
    entry.asleep = "stopped";
    entry.program = null;
    for (const listener of entry.onEnd) listener(KEPT, true);
  }

  async function wake(workerId: WorkerId): Promise<void> {
    const entry = alive(workerId);
    const failure = options.sleepFailure?.("wake") ?? null;
    if (failure !== null) throw new Error(failure);
    if (entry === undefined) return;
    if (entry.asleep === "frozen") return thaw(entry);
    if (entry.asleep !== "stopped") return;
    entry.asleep = null;
    entry.incarnation += 1;
    const process = processOf(entry);
    try {
      const { signal } = new AbortController();
      entry.program = await launch(process, { onPhase: () => {}, signal, again: true });
    } catch (error) {
      process.end({ code: 1, signal: null, reason: "its container could not be started again" });
      throw error;
    }
    if (entry.asked && process.isAlive()) entry.program.terminate();
  }

  const list = (): PoolWorker[] =>
    [...entries].map(([workerId, { handle, asleep, exit }]) => ({ workerId, handle, asleep, exit }));

  /** A call as it reaches the host: not while it is away. */
  async function reach<T>(call: () => T | Promise<T>): Promise<T> {
    if (away !== null) throw new RpxError("unavailable", `the ${kind} pool is away: ${away}`);
    return call();
  }

  function setAway(reason: string | null): void {
    away = reason;
    for (const entry of entries.values()) {
      if (reason !== null) cutOff(entry, reason);
      // What came up meanwhile is in the list; a start that failed for who asked for it does not go on any more.
      else if (entry.wasCutOff && entry.giveUp !== null) entry.abandon.abort(null);
    }
    for (const listener of [...changeListeners]) listener();
  }

  function cutOff(entry: Entry, reason: string): void {
    if (entry.giveUp === null) return;
    entry.wasCutOff = true;
    entry.giveUp(new RpxError("unavailable", `the ${kind} pool went away: ${reason}`));
    if (!options.survivesAbsence?.()) entry.abandon.abort(null);
  }

  return {
    pool: (gone) => ({
      kind,
      sleeps: SLEEPS[kind],
      isolation: () => ({ level: "none", reason: "simulated" }),
      away: () => away,
      address: () => ({ listenHost: null, urlHost: "127.0.0.1" }),
      prepare: () => {},
      onChange: (listener) => {
        changeListeners.add(listener);
        return () => changeListeners.delete(listener);
      },
      start: (start, onPhase, signal) => reach(() => run(start, onPhase, [signal, gone])),
      stop: (workerId) => reach(() => stop(workerId)),
      kill: (workerId) =>
        reach(() => {
          const entry = alive(workerId);
          if (entry) finish(entry, KILLED);
        }),
      park: (workerId, depth) => reach(() => park(workerId, depth)),
      wake: (workerId) => reach(() => wake(workerId)),
      list: () => reach(list),
      forget: (workerId) =>
        reach(() => {
          if (entries.get(workerId)?.exit) entries.delete(workerId);
        }),
      onExit: (listener) => {
        exitListeners.add(listener);
        return () => exitListeners.delete(listener);
      },
    }),
    present: () =>
      [...entries.values()].flatMap((entry) =>
        entry.exit === null ? [{ process: processOf(entry), asleep: entry.asleep }] : [],
      ),
    lose: (how) => {
      const lost = [...entries.values()];
      entries.clear();
      for (const entry of lost) finish(entry, how);
    },
    endAll: (how) => {
      for (const entry of entries.values()) if (entry.asleep !== "stopped") finish(entry, how);
    },
    setAway,
    isAway: () => away !== null,
  };
}

/** How a program ends that does as it is asked. */
export const ENDED_WHEN_ASKED = STOPPED;
