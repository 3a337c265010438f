import type { Standstill } from "../core/standstill.ts";
import { createLoop, type Loop } from "../loop.ts";
import type { Clock } from "../ports/clock.ts";
import type { Store } from "../ports/store.ts";
import type { Events } from "./events.ts";

export type LeasesOptions = {
  readonly store: Pick<Store, "jobs">;
  readonly clock: Clock;
  readonly events: Events;
  readonly standstill: Standstill;
  readonly log: { error(fields: object, message: string): void };
};

const MAX_PAUSE_MS = 1_000;
const MIN_PAUSE_MS = 20;
const BATCH = 500;
/** After such a pause, and after a start, results that waited in the socket are let in before deadlines are judged. */
const SETTLE_MS = 3_000;

/** Ends what is overdue: time to live, execution time, backoff of retries. One query against the clock, no timer per job. */
export function createLeaseSweep({ store, clock, events, standstill, log }: LeasesOptions): Loop {
  async function tick(): Promise<number | null> {
    const nowMs = clock.nowMs();
    const judgeFromMs = standstill.resumedAtMs(nowMs) + SETTLE_MS;
    // A look costs less than a transaction, and mostly nothing is due.
    const dueMs = store.jobs.nextDueMs();
    if (dueMs === null || dueMs > nowMs) return untilDue(dueMs, judgeFromMs);
    const released = await store.jobs.releaseDelayed(nowMs, BATCH);
    const ended = nowMs < judgeFromMs ? [] : await store.jobs.endOverdue(nowMs, BATCH);
    return released === BATCH || ended.length >= BATCH ? 0 : untilDue(store.jobs.nextDueMs(), judgeFromMs);
  }

  function untilDue(dueMs: number | null, judgeFromMs: number): number | null {
    return dueMs === null ? null : Math.max(0, Math.max(dueMs, judgeFromMs) - clock.nowMs());
  }

  const loop = createLoop({
    clock,
    tick,
    maxPauseMs: MAX_PAUSE_MS,
    minPauseMs: MIN_PAUSE_MS,
    log,
    name: "leases",
  });
  events.subscribe(({ kind, data }) => {
    if ((kind === "job.fail" || kind === "job.retry") && data.delayed) loop.nudge();
  });
  return loop;
}
