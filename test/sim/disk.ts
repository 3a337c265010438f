import type { DatabaseSync, StatementSync } from "node:sqlite";
import { openDatabase } from "../../src/runtime/adapters/sqlite/database.ts";

export type CommitHooks = {
  /** Each may end the daemon by throwing. `kinds`: the journal rows that the transaction holds. */
  before(kinds: ReadonlySet<string>): void;
  after(kinds: ReadonlySet<string>): void;
};

/**
 * A disk with one real SQLite database on it. It outlives daemons, forgets unsynced commits when the power goes, and can be full.
 */
export type SimulatedDisk = {
  /** The database as one daemon sees it. After `disconnect` nothing of that daemon reaches the disk any more. */
  connect(hooks: CommitHooks): { readonly db: DatabaseSync; disconnect(): void };
  /** The state as of the last synced commit, and of the first `kept` of the unsynced ones after it. */
  losePower(kept: (unsynced: number) => number): void;
  /** Without room commits fail. */
  setFull(full: boolean): void;
  /** Deletes the ballast: room for some more commits. False when there is none. */
  releaseBallast(): boolean;
  isFull(): boolean;
  close(): void;
};

/** Commits that fit into the room of a ballast. */
const BALLAST_COMMITS = 40;
const SQLITE_FULL = 13;
const JOURNAL_INSERT = /^\s*INSERT INTO journal\b/;
const KIND_COLUMN = /INSERT INTO journal \(([^)]*)\)/;

/**
 * The database lies in memory inside one transaction that a synced commit ends; unsynced ones are savepoints in it. So what a power
 * cut leaves is a rollback.
 */
export function createSimulatedDisk(): SimulatedDisk {
  const base = openDatabase(":memory:");
  base.exec("BEGIN");
  let unsynced = 0;
  let full = false;
  let ballast = true;
  let roomCommits = 0;

  const commit = (synced: boolean): void => {
    if (synced) {
      base.exec("COMMIT");
      base.exec("BEGIN");
      unsynced = 0;
    } else unsynced += 1;
  };
  const undo = (): void => {
    base.exec(`ROLLBACK TO step${unsynced}`);
    base.exec(`RELEASE step${unsynced}`);
  };
  const hasRoom = (): boolean => {
    if (!full) return true;
    roomCommits -= 1;
    return roomCommits >= 0;
  };

  function connect(hooks: CommitHooks) {
    let connected = true;
    let open = false;
    let synced = true;
    let kinds = new Set<string>();

    function exec(sql: string): void {
      if (!connected) throw new Error("this daemon has ended");
      if (sql === "BEGIN IMMEDIATE") {
        base.exec(`SAVEPOINT step${unsynced}`);
        open = true;
        kinds = new Set();
      } else if (sql === "COMMIT") commitOpen();
      else if (sql === "ROLLBACK") {
        undo();
        open = false;
      } else if (sql.startsWith("PRAGMA synchronous")) synced = /full/i.test(sql);
      else base.exec(sql);
    }

    function commitOpen(): void {
      try {
        hooks.before(kinds);
      } catch (killed) {
        undo();
        throw killed;
      }
      if (!hasRoom()) throw Object.assign(new Error("database or disk is full"), { errcode: SQLITE_FULL });
      open = false;
      commit(synced);
      hooks.after(kinds);
    }

    function prepare(sql: string): StatementSync {
      const statement = base.prepare(sql);
      if (!JOURNAL_INSERT.test(sql)) return statement;
      const column = (KIND_COLUMN.exec(sql)?.[1] ?? "")
        .split(",")
        .findIndex((name) => name.trim() === "kind");
      const run = statement.run.bind(statement);
      statement.run = ((...values: Parameters<typeof run>) => {
        kinds.add(String(values[column]));
        return run(...values);
      }) as typeof statement.run;
      return statement;
    }

    const db = {
      exec,
      prepare,
      get isTransaction() {
        return open && connected;
      },
      close: () => {},
    };
    return {
      // The part of a connection that the store uses.
      db: db as unknown as DatabaseSync,
      disconnect: () => {
        connected = false;
      },
    };
  }

  return {
    connect,
    losePower: (kept) => {
      const keep = kept(unsynced);
      if (keep < unsynced) base.exec(`ROLLBACK TO step${keep}`);
      commit(true);
    },
    setFull: (now) => {
      full = now;
      roomCommits = 0;
      if (!now) ballast = true;
    },
    releaseBallast: () => {
      if (!ballast) return false;
      ballast = false;
      roomCommits = BALLAST_COMMITS;
      return true;
    },
    isFull: () => full,
    close: () => base.close(),
  };
}
