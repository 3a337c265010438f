import type { DatabaseSync } from "node:sqlite";
import type { JournalEvent } from "../../core/model.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Store } from "../../ports/store.ts";
import { createCounts } from "./counts.ts";
import type { Synchronous } from "./database.ts";
import { createFleetStore } from "./fleet.ts";
import { createGroupCommit } from "./group-commit.ts";
import { createJobStore } from "./jobs.ts";
import { createJournalStore, createJournalWriter } from "./journal.ts";
import { createKeyStore } from "./keys.ts";
import { createOutboxStore } from "./outbox.ts";
import { createRegistryStore } from "./registries.ts";
import { createSecretStore } from "./secrets.ts";

export type SqliteStoreOptions = {
  readonly db: DatabaseSync;
  readonly clock: Clock;
  /** A COMMIT failed: the process must end without answering anything more. */
  readonly fatal: (error: unknown) => void;
  /** Frees space on a full disk; false when there is nothing left to free. */
  readonly makeRoom: () => boolean;
  /** Only bench/ sets it: the price of durability is measured with `normal`. */
  readonly durable?: Synchronous;
};

/** Newest time in the journal, in ms; 0 when it is empty. By the primary key: a start never scans. */
export function newestTimeMs(db: DatabaseSync): number {
  const row = db.prepare("SELECT at_ms AS at FROM journal ORDER BY seq DESC LIMIT 1").get();
  return Number(row?.at ?? 0);
}

/** The durable state in one SQLite database. */
export function createSqliteStore({
  db,
  clock,
  fatal,
  makeRoom,
  durable = "full",
}: SqliteStoreOptions): Store {
  const journal = createJournalWriter(db);
  const counts = createCounts(db);
  const listeners = new Set<(events: readonly JournalEvent[]) => void>();
  const commit = createGroupCommit({
    db,
    clock,
    durable,
    fatal,
    makeRoom,
    begin: () => {
      journal.begin();
      counts.begin();
    },
    beforeCommit: () => {
      counts.flush();
      return journal.written();
    },
    announce: (events) => {
      if (events.length > 0) for (const listener of [...listeners]) listener(events);
    },
  });
  return {
    jobs: createJobStore({ db, commit, journal, counts }),
    fleet: createFleetStore({ db, commit, journal }),
    journal: createJournalStore(db, commit),
    outbox: createOutboxStore({ db, commit, journal }),
    keys: createKeyStore({ db, commit, journal }),
    secrets: createSecretStore({ db, commit, journal }),
    registries: createRegistryStore({ db, commit, journal }),
    newestTimeMs: () => newestTimeMs(db),
    onCommit: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    close: async () => {
      await commit.close();
      db.close();
    },
  };
}
