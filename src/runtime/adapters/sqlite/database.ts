import { DatabaseSync } from "node:sqlite";
import { RpxError } from "../../../contract/error.ts";
import { type MigrationTarget, migrate, readMigrations } from "../sql-migrate.ts";

/** The first version without the WAL-reset corruption bug (reliability finding 3). */
const OLDEST_SQLITE = [3, 51, 3] as const;
const WAL_LIMIT_BYTES = 64 * 1024 * 1024;

/** How much a commit promises: `full` survives a power cut, `normal` the end of the process. */
export type Synchronous = "full" | "normal";

/**
 * Opens the one connection of the daemon and brings the schema up to date. The lock is exclusive: a second process
 * is refused, and the WAL index lives in memory, so that a full disk cannot end the process through a mapped file.
 */
export function openDatabase(path: string): DatabaseSync {
  refuseOldSqlite();
  const db = new DatabaseSync(path, {
    enableForeignKeyConstraints: true,
    enableDoubleQuotedStringLiterals: false,
  });
  try {
    configure(db);
    checkIntegrity(db, path);
    migrate(migrationTarget(db, path), readMigrations(`${import.meta.dirname}/migrations`));
  } catch (error) {
    db.close();
    throw error;
  }
  return db;
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

function configure(db: DatabaseSync): void {
  db.exec("PRAGMA locking_mode = EXCLUSIVE");
  db.exec("PRAGMA busy_timeout = 5000");
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
  throw new RpxError("conflict", `the database ${path} is damaged`, {
    why: String(answer),
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
      db.prepare("VACUUM INTO ?").run(`${path}.before-migration`);
    },
  };
}

export function pragma(db: DatabaseSync, name: string): unknown {
  return Object.values(db.prepare(`PRAGMA ${name}`).get() ?? {})[0];
}
