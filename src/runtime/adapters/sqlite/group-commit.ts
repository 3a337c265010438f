import type { DatabaseSync } from "node:sqlite";
import { RpxError } from "../../../contract/error.ts";
import type { JournalEvent } from "../../core/model.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Synchronous } from "./database.ts";

/** What an operation promises its caller, and what becomes of it when the disk is full. */
export type OperationKind =
  /** Synced before it is answered; refused on a full disk. */
  | "synced"
  /** Synced, and tried again until there is room: results of running jobs are never refused (F-07). */
  | "essential"
  /** Written to the log, not synced: claims, chunks, progress. Refused on a full disk. */
  | "unsynced";

/** Pause between tries while the disk is full. */
const FULL_DISK_RETRY_MS = 250;
const SQLITE_FULL = 13;

type Operation = {
  readonly kind: OperationKind;
  readonly work: () => unknown;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
};

type Outcome = { readonly operation: Operation; readonly value: unknown };
type Committed = { readonly outcomes: readonly Outcome[]; readonly events: readonly JournalEvent[] };

export type GroupCommitOptions = {
  readonly db: DatabaseSync;
  readonly clock: Clock;
  /** Runs before each try and after a rollback: forgets what that try had collected. */
  readonly begin: () => void;
  /** Runs inside the transaction after the operations; returns the journal rows written. */
  readonly beforeCommit: () => readonly JournalEvent[];
  readonly announce: (events: readonly JournalEvent[]) => void;
  /** Frees space on a full disk for an essential operation; false when there is nothing left to free. */
  readonly makeRoom: () => boolean;
  /** A COMMIT failed: its outcome is unknown, so nothing may be answered any more (F-11). */
  readonly fatal: (error: unknown) => void;
  /** A switch that only bench/ sets: what a synced transaction runs with. */
  readonly durable: Synchronous;
};

export type GroupCommit = {
  /** Runs the operation in the next transaction and resolves after its commit. It may run more than once. */
  run<T>(kind: OperationKind, work: () => T): Promise<T>;
  /** Commits what waits; afterwards every operation is refused, and so are those that wait for room on a full disk. */
  close(): Promise<void>;
};

/**
 * Mutations that arrive in one turn of the event loop share one transaction, and each caller is answered after its
 * commit. An operation that throws is rolled back alone; the others are run again without it.
 */
export function createGroupCommit(options: GroupCommitOptions): GroupCommit {
  const { db, clock } = options;
  let waiting: Operation[] = [];
  let scheduled = false;
  let closed = false;
  let broken = false;
  let present: Synchronous = "full";

  const synchronous = (wanted: Synchronous) => {
    if (present === wanted) return;
    db.exec(`PRAGMA synchronous = ${wanted}`);
    present = wanted;
  };

  const schedule = () => {
    if (scheduled || broken) return;
    scheduled = true;
    clock.endOfTurn(flush);
  };

  function flush(): void {
    scheduled = false;
    const batch = waiting;
    waiting = [];
    if (batch.length > 0 && !broken) commitBatch(batch);
  }

  function commitBatch(batch: readonly Operation[]): void {
    let done: Committed | null;
    try {
      done = transact(batch);
    } catch (error) {
      onFailure(batch, error);
      return;
    }
    if (done === null) return;
    // Behind the try: a listener that throws must not make a committed batch look like one that failed.
    try {
      options.announce(done.events);
    } finally {
      settle(done.outcomes);
    }
  }

  /** One transaction; null when the commit failed and the process is on its way out. */
  function transact(batch: readonly Operation[]): Committed | null {
    synchronous(batch.some(({ kind }) => kind !== "unsynced") ? options.durable : "normal");
    db.exec("BEGIN IMMEDIATE");
    let events: readonly JournalEvent[];
    let outcomes: Outcome[];
    try {
      options.begin();
      outcomes = batch.map((operation) => ({ operation, value: operation.work() }));
      events = options.beforeCommit();
    } catch (error) {
      rollback();
      throw error;
    }
    try {
      db.exec("COMMIT");
    } catch (error) {
      if (!isFull(error)) return breakDown(error);
      rollback();
      throw error;
    }
    return { outcomes, events };
  }

  function onFailure(batch: readonly Operation[], error: unknown): void {
    if (isFull(error)) onFull(batch);
    else if (batch.length > 1) for (const operation of batch) commitBatch([operation]);
    else batch[0]?.reject(error);
  }

  /** What can be repeated is refused; what frees room is kept for the rest: results must not wait behind new jobs (F-07). */
  function onFull(batch: readonly Operation[]): void {
    const essential = batch.filter(({ kind }) => kind === "essential");
    for (const operation of batch) if (operation.kind !== "essential") operation.reject(fullDisk());
    if (essential.length === 0) return;
    if (essential.length < batch.length || options.makeRoom()) commitBatch(essential);
    else void retryLater(essential);
  }

  async function retryLater(batch: readonly Operation[]): Promise<void> {
    await clock.sleep(FULL_DISK_RETRY_MS);
    if (closed) {
      for (const operation of batch) operation.reject(stopping());
      return;
    }
    waiting = [...batch, ...waiting];
    schedule();
  }

  function breakDown(error: unknown): null {
    broken = true;
    options.fatal(error);
    return null;
  }

  function rollback(): void {
    if (db.isTransaction) db.exec("ROLLBACK");
    options.begin();
  }

  return {
    run: <T>(kind: OperationKind, work: () => T) =>
      new Promise<T>((resolve, reject) => {
        if (closed || broken) return reject(stopping());
        waiting.push({ kind, work, resolve: resolve as (value: unknown) => void, reject });
        schedule();
      }),
    close: async () => {
      closed = true;
      if (waiting.length > 0) flush();
    },
  };
}

function settle(outcomes: readonly Outcome[]): void {
  for (const { operation, value } of outcomes) operation.resolve(value);
}

function isFull(error: unknown): boolean {
  return error instanceof Error && "errcode" in error && (Number(error.errcode) & 0xff) === SQLITE_FULL;
}

function stopping(): RpxError {
  return new RpxError("unavailable", "the daemon is stopping", { retryAfterSeconds: 1 });
}

function fullDisk(): RpxError {
  return new RpxError("unavailable", "the disk is full", {
    why: "new jobs cannot be kept; results of running jobs still are",
    hint: "free space in the data directory",
    retryAfterSeconds: 5,
  });
}
