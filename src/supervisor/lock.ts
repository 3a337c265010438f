/** One process per data directory: a SQLite file held by an exclusive transaction, which dies with its process. */
import { readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";

/**
 * SQLite tries for this long. Two processes that lock in the same moment may both be refused on their first try; with
 * a wait one of them gets through.
 */
const LOCK_WAIT_MS = 150;
const SQLITE_BUSY = 5;

/** The lock is ours until `release` or the end of the process; else another process has it (`holderPid` where known). */
export type LockResult =
  | { readonly taken: true; readonly release: () => void }
  | { readonly taken: false; readonly holderPid: number | null };

/**
 * Takes the lock file at `path`; the holder's pid stands in `pidPath`. Nothing else may open the lock file in this
 * process: POSIX locks vanish when any descriptor of the file is closed. Throws as Node does when the folder cannot be
 * written.
 */
export function takeLock({ path, pidPath }: { path: string; pidPath: string }): LockResult {
  const database = new DatabaseSync(path, { timeout: LOCK_WAIT_MS });
  try {
    database.exec("BEGIN EXCLUSIVE");
  } catch (error) {
    database.close();
    if (!isBusy(error)) throw error;
    return { taken: false, holderPid: readHolder(pidPath) };
  }
  writeHolder(pidPath);
  return { taken: true, release: () => release(database, pidPath) };
}

function isBusy(error: unknown): boolean {
  return error instanceof Error && "errcode" in error && error.errcode === SQLITE_BUSY;
}

function writeHolder(pidPath: string): void {
  const part = `${pidPath}.part`;
  writeFileSync(part, `${process.pid}\n`, { mode: 0o600 });
  renameSync(part, pidPath);
}

function readHolder(pidPath: string): number | null {
  try {
    const pid = Number.parseInt(readFileSync(pidPath, "utf8"), 10);
    return Number.isSafeInteger(pid) && pid > 0 ? pid : null;
  } catch {
    return null;
  }
}

/** The pid goes first: whoever takes the lock next writes its own. */
function release(database: DatabaseSync, pidPath: string): void {
  rmSync(pidPath, { force: true });
  database.close();
}
