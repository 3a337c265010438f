import { chmodSync, mkdirSync, realpathSync, type Stats, statSync } from "node:fs";
import path from "node:path";
import { RpxError } from "../../../contract/error.ts";

/** Everything below belongs to this user alone (T-23). */
const OWNER_ONLY = 0o700;
const OTHERS_BITS = 0o077;
const OTHERS_WRITE = 0o002;
const STICKY = 0o1000;
/** New files get no group and other bits, also those of libraries that ask for them. */
const UMASK = 0o077;

/**
 * Makes the data directory, or checks the one that is there: another user's is refused (`forbidden`, exit code 4), bits for group
 * and others are taken away. Sets this process's umask. A link as the last part is followed: its target counts.
 */
export function openDataDir(dataDir: string): void {
  process.umask(UMASK);
  makeFolder(dataDir);
  const real = realpathSync(dataDir);
  const stats = statSync(real);
  if (!stats.isDirectory()) throw refusal(dataDir, "it is no directory", "name another with --data-dir");
  checkOwner(dataDir, stats);
  checkParent(dataDir, path.dirname(real));
  if ((stats.mode & OTHERS_BITS) !== 0) chmodSync(real, OWNER_ONLY);
}

function makeFolder(dataDir: string): void {
  try {
    mkdirSync(dataDir, { recursive: true, mode: OWNER_ONLY });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "EEXIST" || code === "ENOTDIR")
      throw refusal(dataDir, "it is no directory", "name another with --data-dir");
    throw refusal(dataDir, message, "name a directory that you may write, with --data-dir");
  }
}

function checkOwner(dataDir: string, stats: Stats): void {
  const uid = process.getuid?.();
  if (uid === undefined || stats.uid === uid) return;
  throw refusal(
    dataDir,
    `it belongs to user ${stats.uid}, this process runs as user ${uid}`,
    "run as that user, or name a directory of your own with --data-dir",
  );
}

/** In a directory that anybody may write, anybody may put another in its place, unless it is sticky like /tmp. */
function checkParent(dataDir: string, parent: string): void {
  const { mode } = statSync(parent);
  if ((mode & OTHERS_WRITE) === 0 || (mode & STICKY) !== 0) return;
  throw refusal(dataDir, `anybody may replace it: ${parent} is writable by all`, `chmod o-w ${parent}`);
}

function refusal(dataDir: string, why: string, hint: string): RpxError {
  return new RpxError("forbidden", `cannot use the data directory ${dataDir}`, { why, hint });
}
