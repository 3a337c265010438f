import { existsSync, renameSync, rmSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { RpxError } from "../../../contract/error.ts";
import {
  type Migration,
  type MigrationTarget,
  migrate,
  readMigrations,
  refuseNewer,
} from "../sql-migrate.ts";

/** The first version without the WAL-reset corruption bug. */
const OLDEST_SQLITE = [3, 51, 3] as const;
const WAL_LIMIT_BYTES = 64 * 1024 * 1024;
/** How long a lock of another process is waited for. */
const BUSY_MS = 5_000;
const MIGRATIONS_DIR = `${import.meta.dirname}/migrations`;
/** Primary result codes (sqlite.org/rescode.html). */
const SQLITE_BUSY = 5;
const SQLITE_CORRUPT = 11;
const SQLITE_NOTADB = 26;
const SQLITE_IOERR_SHMSIZE = 4874;

/** How much a commit promises: `full` survives a power cut, `normal` the end of the process. */
export type Synchronous = "full" | "normal";

export type OpenOptions = {
  /** The schema to bring the database to; by default all that this rpx knows. */
  readonly migrations?: readonly Migration[];
  /** How long a lock of another process is waited for, in ms; 5 s by default. */
  readonly busyMs?: number;
};

/**
 * Opens the one connection of the daemon and brings the schema up to date. The lock is exclusive: a second process
 * is refused, and the WAL index lives in memory, so that a full disk cannot end the process through a mapped file.
 */
export function openDatabase(path: string, options: OpenOptions = {}): DatabaseSync {
  const { migrations = readMigrations(MIGRATIONS_DIR), busyMs = BUSY_MS } = options;
  refuseOldSqlite();
  try {
    if (existsSync(`${path}-wal`)) refuseNewer(versionInLog(path, busyMs), migrations);
    return open(path, migrations, busyMs);
  } catch (error) {
    throw inWords(error, path);
  }
}

function open(path: string, migrations: readonly Migration[], busyMs: number): DatabaseSync {
  const db = new DatabaseSync(path, {
    enableForeignKeyConstraints: true,
    enableDoubleQuotedStringLiterals: false,
  });
  try {
    configure(db, busyMs);
    checkIntegrity(db, path);
    migrate(migrationTarget(db, path), migrations);
  } catch (error) {
    db.close();
    throw error;
  }
  return db;
}

/**
 * The version where a killed daemon left its log. A connection that can write would move the log into the file when it
 * is closed, and a newer rpx's files are not ours to change (F-38); without a log there is nothing to move.
 */
function versionInLog(path: string, busyMs: number): number {
  const hadIndex = existsSync(`${path}-shm`);
  const db = new DatabaseSync(path, { readOnly: true, timeout: busyMs });
  try {
    return Number(pragma(db, "user_version"));
  } catch (error) {
    if ((error as { errcode?: unknown }).errcode !== SQLITE_IOERR_SHMSIZE) throw error;
    // A full disk has no room for the index of a look; `migrate` looks again, behind an index in memory.
    return 0;
  } finally {
    db.close();
    if (!hadIndex) rmSync(`${path}-shm`, { force: true });
  }
}

/** What SQLite says of a file that cannot be opened, as an error that names the file. */
function inWords(error: unknown, path: string): unknown {
  const code = error instanceof Error && "errcode" in error ? Number(error.errcode) & 0xff : 0;
  if (code === SQLITE_BUSY) {
    return new RpxError("conflict", `the database ${path} is in use by another process`, {
      hint: "stop the other rpx, or use another --data-dir",
      cause: error,
    });
  }
  return code === SQLITE_CORRUPT || code === SQLITE_NOTADB ? damaged(path, String(error)) : error;
}

function refuseOldSqlite(): void {
  const found = process.versions.sqlite ?? "0.0.0";
  const parts = found.split(".").map(Number);
  const difference =
    OLDEST_SQLITE.map((part, index) => (parts[index] ?? 0) - part).find((part) => part !== 0) ?? 0;
  if (difference >= 0) return;
  throw new RpxError("usage", `SQLite ${found} is too old`, {
    why: "versions below 3.51.3 can corrupt a write-ahead log",
    hint: "install Node 24.15 or newer",
  });
}

function configure(db: DatabaseSync, busyMs: number): void {
  db.exec("PRAGMA locking_mode = EXCLUSIVE");
  db.exec(`PRAGMA busy_timeout = ${busyMs}`);
  db.exec("PRAGMA journal_mode = WAL");
  db.exec("PRAGMA synchronous = FULL");
  db.exec(`PRAGMA journal_size_limit = ${WAL_LIMIT_BYTES}`);
  db.exec("PRAGMA wal_autocheckpoint = 1000");
  db.exec("PRAGMA trusted_schema = OFF");
  db.exec("PRAGMA cell_size_check = ON");
  db.exec("PRAGMA mmap_size = 0");
  if (pragma(db, "synchronous") !== 2) throw new Error("SQLite did not accept synchronous=FULL");
}

/** A damaged database is never served and never deleted (F-12). */
function checkIntegrity(db: DatabaseSync, path: string): void {
  const answer = Object.values(db.prepare("PRAGMA quick_check(1)").get() ?? {})[0];
  if (answer === "ok") return;
  throw damaged(path, String(answer));
}

function damaged(path: string, why: string): RpxError {
  return new RpxError("conflict", `the database ${path} is damaged`, {
    why,
    hint: "move the file away and restore a copy; nothing was changed",
  });
}

function migrationTarget(db: DatabaseSync, path: string): MigrationTarget {
  return {
    version: () => Number(pragma(db, "user_version")),
    apply: ({ version, sql }) => {
      db.exec("BEGIN IMMEDIATE");
      try {
        db.exec(sql);
        db.exec(`PRAGMA user_version = ${version}`);
        db.exec("COMMIT");
      } catch (error) {
        db.exec("ROLLBACK");
        throw error;
      }
    },
    backUp: () => {
      if (path === ":memory:") return;
      // Under another name first: VACUUM INTO refuses a file that is there, and a kill may leave half of one.
      const part = `${path}.before-migration.part`;
      rmSync(part, { force: true });
      db.prepare("VACUUM INTO ?").run(part);
      renameSync(part, `${path}.before-migration`);
    },
  };
}

export function pragma(db: DatabaseSync, name: string): unknown {
  return Object.values(db.prepare(`PRAGMA ${name}`).get() ?? {})[0];
}
