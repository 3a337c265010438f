import type { Clock } from "../../ports/clock.ts";

/** Where the machine's time is read; replaced in tests by clocks that jump. */
export type TimeSource = {
  /** Milliseconds since 1970: anyone may set it, forwards and backwards. */
  wallMs(): number;
  /** Milliseconds since some moment: nobody can set it. */
  monotonicMs(): number;
};

/**
 * How fast the daemon's time follows the wall clock, in ms per ms. 0.5 % takes up any crystal's drift (0.01 %) at once, and
 * lets a wall clock that was set to the next decade expire nothing early: a 10 minute timeout is off by 3 s at most.
 */
const SLEW_RATE = 0.005;
/** Most that one reading follows the wall clock by, however long ago the last reading was. */
const MAX_SLEW_MS = 60_000;
/** Longest delay that `setTimeout` keeps; a longer one would fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

const MACHINE: TimeSource = {
  wallMs: () => Date.now(),
  monotonicMs: () => {
    const [seconds, nanoseconds] = process.hrtime();
    return seconds * 1_000 + nanoseconds / 1_000_000;
  },
};

/**
 * The machine's clock as the daemon's own time: starts at the wall clock, or past the newest stored time where that is later, then advances with
 * the monotonic clock and follows the wall clock slowly, never backwards (F-24). Time in which the machine slept is not
 * time of the daemon's.
 */
export function createSystemClock(options: {
  /** Newest time in the store in ms; 0 when it is empty. */
  readonly newestStoredMs: number;
  readonly source?: TimeSource;
}): Clock {
  const source = options.source ?? MACHINE;
  // Past what is stored: what comes from before this daemon is told by its time.
  let ownMs = Math.max(source.wallMs(), options.newestStoredMs + 1);
  let readAtMs = source.monotonicMs();

  function nowMs(): number {
    const monotonicMs = source.monotonicMs();
    const elapsedMs = Math.max(0, monotonicMs - readAtMs);
    readAtMs += elapsedMs;
    ownMs += elapsedMs;
    ownMs += slewMs(source.wallMs() - ownMs, elapsedMs);
    return Math.floor(ownMs);
  }

  return { nowMs, sleep, endOfTurn: (callback) => void setImmediate(callback) };
}

/** How much of the distance to the wall clock is made up in a stretch of time: less than the stretch, so time never turns. */
function slewMs(distanceMs: number, elapsedMs: number): number {
  const limitMs = Math.min(elapsedMs * SLEW_RATE, MAX_SLEW_MS);
  return Math.max(-limitMs, Math.min(limitMs, distanceMs));
}

async function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  let leftMs = ms;
  while (leftMs > MAX_TIMER_MS && !signal?.aborted) {
    await pause(MAX_TIMER_MS, signal);
    leftMs -= MAX_TIMER_MS;
  }
  await pause(leftMs, signal);
}

function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const timer = setTimeout(done, ms);
    signal?.addEventListener("abort", done);
    function done(): void {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    }
  });
}
