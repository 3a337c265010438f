import type { Clock } from "../../ports/clock.ts";

/** A clock that stands still until it is told to go on. */
export type SimulatedClock = Clock & {
  /**
   * Moves time on by `ms`, waking sleepers in order of their time (then of their start), each with the clock at its own
   * moment and everything it sets off done before the next one wakes. Resolves when all is quiet.
   */
  advance(ms: number): Promise<void>;
  /** Runs what is due now (end of turn, promise reactions) without moving time. */
  settle(): Promise<void>;
  /** How many sleepers wait. */
  sleeping(): number;
  /** When the next sleeper wakes, in ms of this clock; null when none waits. */
  nextWakeMs(): number | null;
};

type Sleeper = { readonly wakeAtMs: number; readonly wake: () => void };

/** Rounds of end-of-turn callbacks in one settling: a longer chain feeds itself for ever. */
const MAX_SETTLE_ROUNDS = 100_000;

/** Virtual time for simulations and tests: the same calls give the same order of events, always. */
export function createSimulatedClock(startMs: number): SimulatedClock {
  let nowMs = startMs;
  let advancing = false;
  const sleepers: Sleeper[] = [];
  let turn: (() => void)[] = [];
  let turnsRun = 0;

  function sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const sleeper: Sleeper = { wakeAtMs: nowMs + Math.max(0, ms), wake };
      insert(sleepers, sleeper);
      signal?.addEventListener("abort", wake);
      function wake(): void {
        signal?.removeEventListener("abort", wake);
        const index = sleepers.indexOf(sleeper);
        if (index >= 0) sleepers.splice(index, 1);
        resolve();
      }
    });
  }

  function endOfTurn(callback: () => void): void {
    turn.push(callback);
    // The hop through the microtask queue puts the tick behind every promise reaction of this turn.
    if (turn.length === 1) queueMicrotask(() => process.nextTick(runTurn));
  }

  function runTurn(): void {
    const callbacks = turn;
    turn = [];
    turnsRun += 1;
    for (const callback of callbacks) callback();
  }

  async function settle(): Promise<void> {
    for (let round = 0; round < MAX_SETTLE_ROUNDS; round += 1) {
      const runBefore = turnsRun;
      await quiet();
      if (turn.length === 0 && turnsRun === runBefore) return;
    }
    throw new Error(`the simulation did not come to rest in ${MAX_SETTLE_ROUNDS} turns at ${nowMs} ms`);
  }

  async function advance(ms: number): Promise<void> {
    if (advancing) throw new Error("the simulated clock is advancing already");
    advancing = true;
    try {
      await runUntil(nowMs + ms);
    } finally {
      advancing = false;
    }
  }

  async function runUntil(endMs: number): Promise<void> {
    await settle();
    for (let next = sleepers[0]; next !== undefined && next.wakeAtMs <= endMs; next = sleepers[0]) {
      nowMs = next.wakeAtMs;
      next.wake();
      await settle();
    }
    nowMs = endMs;
  }

  return {
    nowMs: () => nowMs,
    sleep,
    endOfTurn,
    advance,
    settle,
    sleeping: () => sleepers.length,
    nextWakeMs: () => sleepers[0]?.wakeAtMs ?? null,
  };
}

/** Resolves when every promise reaction that is due has run. */
function quiet(): Promise<void> {
  return new Promise((resolve) => queueMicrotask(() => process.nextTick(resolve)));
}

/** Behind all that wake no later: a binary search, for simulations have thousands of sleepers. */
function insert(sleepers: Sleeper[], sleeper: Sleeper): void {
  let low = 0;
  let high = sleepers.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sleepers[middle]?.wakeAtMs ?? 0) <= sleeper.wakeAtMs) low = middle + 1;
    else high = middle;
  }
  sleepers.splice(low, 0, sleeper);
}
