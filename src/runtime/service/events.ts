import type { JobId, JournalEvent } from "../core/model.ts";
import type { Clock } from "../ports/clock.ts";
import type { Store } from "../ports/store.ts";

export type WaitOptions = { readonly timeoutMs: number; readonly signal?: AbortSignal };

/**
 * The in-process bus. It says that the journal grew, in order and after the commit. Events only nudge: losing one costs
 * latency, never truth.
 */
export type Events = {
  /** Calls back with every event; returns the function that ends the subscription. */
  subscribe(listener: (event: JournalEvent) => void): () => void;
  /**
   * Waits until `settled()` is true: looked at now and after everything that concerns the job, so that nothing is
   * missed in between (F-27). False when the time or the signal ends first.
   */
  untilJob(jobId: JobId, settled: () => boolean, options: WaitOptions): Promise<boolean>;
  /** Wakes who waits on a job for something the journal does not hold: a chunk, a progress value. */
  touchJob(jobId: JobId): void;
  /** Subscriptions and waits at this moment: nothing may leak (F-27). */
  listenerCount(): number;
};

export function createEvents({ store, clock }: { store: Pick<Store, "onCommit">; clock: Clock }): Events {
  const listeners = new Set<(event: JournalEvent) => void>();
  const waits = new Map<JobId, Set<() => void>>();

  const touchJob = (jobId: JobId) => {
    const waiting = waits.get(jobId);
    if (waiting) for (const wake of [...waiting]) wake();
  };

  store.onCommit((events) => {
    for (const event of events) {
      for (const listener of [...listeners]) listener(event);
      if (event.jobId) touchJob(event.jobId);
    }
  });

  function add(jobId: JobId, wake: () => void): () => void {
    const waiting = waits.get(jobId) ?? new Set();
    waits.set(jobId, waiting.add(wake));
    return () => {
      waiting.delete(wake);
      if (waiting.size === 0 && waits.get(jobId) === waiting) waits.delete(jobId);
    };
  }

  return {
    subscribe: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    untilJob: (jobId, settled, options) => {
      if (settled()) return Promise.resolve(true);
      return waitFor((wake) => add(jobId, wake), settled, clock, options);
    },
    touchJob,
    listenerCount: () => listeners.size + [...waits.values()].reduce((sum, waiting) => sum + waiting.size, 0),
  };
}

/** Subscribes, then waits for `settled` to hold, the time to end or the signal to abort. */
function waitFor(
  subscribe: (wake: () => void) => () => void,
  settled: () => boolean,
  clock: Clock,
  { timeoutMs, signal }: WaitOptions,
): Promise<boolean> {
  const timer = new AbortController();
  return new Promise((resolve) => {
    const finish = (value: boolean) => {
      unsubscribe();
      signal?.removeEventListener("abort", stop);
      timer.abort();
      resolve(value);
    };
    const stop = () => finish(false);
    const unsubscribe = subscribe(() => {
      if (settled()) finish(true);
    });
    if (signal?.aborted) return finish(false);
    signal?.addEventListener("abort", stop, { once: true });
    clock.sleep(timeoutMs, timer.signal).then(() => {
      if (!timer.signal.aborted) finish(settled());
    }, stop);
  });
}
