import type { WorkerId } from "../core/model.ts";
import { createLoop, type Loop } from "../loop.ts";
import type { Clock } from "../ports/clock.ts";
import type { LogStore } from "../ports/log-store.ts";
import type { Store } from "../ports/store.ts";

export type RetentionOptions = {
  readonly store: Store;
  readonly clock: Clock;
  readonly logs: Pick<LogStore, "prune">;
  /** Bytes of the database: metadata goes early when it passes its limit. */
  readonly databaseBytes: () => number;
  readonly log: { error(fields: object, message: string): void };
};

const HOUR_MS = 3_600_000;
/** Journal and job metadata, and logs of gone workers. */
const METADATA_MS = 7 * 24 * HOUR_MS;
const METADATA_BYTES = 2_000_000_000;
const LOGS_MS = 7 * 24 * HOUR_MS;
const LOGS_BYTES = 1_000_000_000;
/** Rows deleted in one transaction: small, so that nothing waits behind it. */
const BATCH = 500;
const MAX_PAUSE_MS = 10_000;
const MIN_PAUSE_MS = 20;
const LOG_PASS_MS = 10 * 60_000;

/** Deletes what is no longer kept, in small batches. */
export function createRetention({ store, clock, logs, databaseBytes, log }: RetentionOptions): Loop {
  let nextLogPassMs = clock.nowMs();

  async function tick(): Promise<number | null> {
    const nowMs = clock.nowMs();
    const keptMs = databaseBytes() > METADATA_BYTES ? HOUR_MS : METADATA_MS;
    const beforeMs = nowMs - keptMs;
    const rows = [
      await store.jobs.prune({ metadataBeforeMs: beforeMs, limit: BATCH }, nowMs),
      await store.journal.prune(beforeMs, BATCH),
      await store.outbox.prune(beforeMs, BATCH),
      await store.fleet.pruneWorkers(beforeMs, BATCH),
      await store.secrets.pruneReplaced(nowMs, BATCH),
    ];
    if (nowMs >= nextLogPassMs) {
      nextLogPassMs = nowMs + LOG_PASS_MS;
      await logs.prune({ keepWorkers: presentWorkers(), beforeMs: nowMs - LOGS_MS, maxBytes: LOGS_BYTES });
    }
    return rows.some((count) => count >= BATCH) ? 0 : null;
  }

  function presentWorkers(): ReadonlySet<WorkerId> {
    return new Set(store.fleet.workers().map(({ id }) => id));
  }

  return createLoop({
    clock,
    tick,
    maxPauseMs: MAX_PAUSE_MS,
    minPauseMs: MIN_PAUSE_MS,
    log,
    name: "retention",
  });
}
