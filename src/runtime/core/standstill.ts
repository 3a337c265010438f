/** The lease sweep looks at least once a second: a longer silence means that the daemon itself stood still. */
const LONGEST_SILENCE_MS = 3_000;

/**
 * Notices pauses of the daemon itself: suspended, stopped, or blocked. Whoever judges others by their silence asks here first from
 * when on it may count (F-25): nobody is judged by a silence that was ours, nor by what came before this daemon.
 */
export type Standstill = {
  /** When the daemon began, or went on after it had stood still. */
  resumedAtMs(nowMs: number): number;
};

export function createStandstill(startedAtMs: number): Standstill {
  let lastLookMs = startedAtMs;
  let resumed = startedAtMs;
  return {
    resumedAtMs: (nowMs) => {
      if (nowMs - lastLookMs > LONGEST_SILENCE_MS) resumed = nowMs;
      lastLookMs = nowMs;
      return resumed;
    },
  };
}
