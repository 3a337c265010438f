import type { Clock } from "./ports/clock.ts";

export type LoopOptions = {
  readonly clock: Clock;
  /** One pass. What it returns is when it wants to run again at the latest, in ms from now; null: only when nudged. */
  readonly tick: () => Promise<number | null>;
  /** Longest pause between two passes. */
  readonly maxPauseMs: number;
  /** Shortest pause between two passes, however often it is nudged. */
  readonly minPauseMs: number;
  readonly log: { error(fields: object, message: string): void };
  readonly name: string;
};

/**
 * A pass begins this many turns after what it was nudged by: the first reads requests that wait at the door, the second commits what they
 * ask for. A worker that thaws asks for its job while that is stored: loops would keep it waiting for 1 ms.
 */
const YIELDED_TURNS = 2;

/** A pass that runs again and again: never twice at once, at most every `minPauseMs`, at once when nudged. */
export type Loop = {
  start(): void;
  nudge(): void;
  /** Ends the loop after the pass under way. */
  stop(): Promise<void>;
};

export function createLoop({ clock, tick, maxPauseMs, minPauseMs, log, name }: LoopOptions): Loop {
  let stopped = false;
  let nudged = false;
  let wake = new AbortController();
  let running: Promise<void> | null = null;

  async function run(): Promise<void> {
    while (!stopped) {
      nudged = false;
      const pauseMs = await pass();
      await clock.sleep(minPauseMs);
      if (stopped || nudged) continue;
      wake = new AbortController();
      await clock.sleep(Math.max(0, Math.min(pauseMs, maxPauseMs) - minPauseMs), wake.signal);
      for (let turn = 0; turn < YIELDED_TURNS; turn += 1)
        await new Promise<void>((resolve) => clock.endOfTurn(resolve));
    }
  }

  /** A failed pass is logged and tried again after the longest pause: a loop never ends by itself. */
  async function pass(): Promise<number> {
    try {
      return (await tick()) ?? maxPauseMs;
    } catch (error) {
      log.error({ err: error, loop: name }, "loop pass failed");
      return maxPauseMs;
    }
  }

  return {
    start: () => {
      running ??= run();
    },
    nudge: () => {
      // Once is enough, and each abort makes an exception with a stack: 4 % of a daemon under load.
      if (nudged) return;
      nudged = true;
      wake.abort();
    },
    stop: async () => {
      stopped = true;
      wake.abort();
      await running;
    },
  };
}
