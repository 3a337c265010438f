/**
 * The named points, and how a test and the daemon child agree on one: a file says where to die and is gone before the
 * kill, so that the successor lives.
 */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** What a commit is about, and the journal row that tells so. */
export const COMMITS = {
  enqueue: "job.submit",
  take: "job.take",
  result: "job.complete",
  webhook: "webhook.try",
} as const;

export type CommitName = keyof typeof COMMITS;
/** `instead` is a planted fault: the daemon believes in a commit that never was. Nobody dies. */
export type Side = "before" | "after" | "instead";

/** The n-th such commit after the arming, and on which side of it to die. */
export type NamedPoint = { readonly commit: CommitName; readonly side: Side; readonly occurrence: number };

/** The folder with the file; the daemon child inherits the variable, workers do not. */
export const KILL_DIR = "RPX_TEST_KILL_DIR";
/** Set to "normal", each transaction runs without a sync: what a database would lose. */
export const SYNCHRONOUS = "RPX_TEST_SYNCHRONOUS";

const SIDES = ["before", "after"] as const;

export function nameOf({ commit, side }: NamedPoint): string {
  return `${commit}.${side}_commit`;
}

/** Both sides of each commit, at its 1st, 2nd ... occurrence. */
export function namedPoints(occurrences: readonly number[]): NamedPoint[] {
  return (Object.keys(COMMITS) as CommitName[]).flatMap((commit) =>
    SIDES.flatMap((side) => occurrences.map((occurrence) => ({ commit, side, occurrence }))),
  );
}

export function arm(folder: string, point: NamedPoint): void {
  writeFileSync(armFile(folder), JSON.stringify(point));
}

export function disarm(folder: string): void {
  rmSync(armFile(folder), { force: true });
}

/** The point that is armed now; null when there is none. */
export function armed(folder: string): NamedPoint | null {
  try {
    return JSON.parse(readFileSync(armFile(folder), "utf8")) as NamedPoint;
  } catch {
    // None, or one that is being written: the next commit looks again.
    return null;
  }
}

function armFile(folder: string): string {
  return join(folder, "armed");
}
