import { RELEASE_STATES, type ReleaseState } from "./model.ts";

/** Stored state -> states it may move to. A release that ended never serves again: a rollback makes a new one. */
export const RELEASE_TABLE = {
  building: ["proving", "live", "superseded", "failed"],
  proving: ["live", "superseded", "failed"],
  live: ["superseded"],
  superseded: [],
  failed: [],
} as const satisfies Record<ReleaseState, readonly ReleaseState[]>;

/** The states in which a release begins: one that is built in one go with its endpoint was never seen building. */
export const FIRST_RELEASE_STATES = [
  "building",
  "proving",
  "live",
] as const satisfies readonly ReleaseState[];

/** The states from which a release can move to another: the guard of the SQL that moves it. */
export function releaseStatesBefore(to: ReleaseState): ReleaseState[] {
  return RELEASE_STATES.filter((from) => (RELEASE_TABLE[from] as readonly ReleaseState[]).includes(to));
}
