import type { JobId } from "./model.ts";

/** RunPod's job ids end in a region; ours is this machine. */
const SUFFIX = "-u1";
/** Hex digits of a UUID's first 48 bits. */
const TIME_DIGITS = 12;

/**
 * The id of a new job: a UUID whose beginning is its time in ms (RFC 9562, version 7), made from a random one. So jobs of one
 * moment lie side by side in every index over ids: with ids in random order each job dirtied two pages of its own.
 */
export function jobIdOf(operation: "run" | "runsync", randomUuid: string, nowMs: number): JobId {
  const time = nowMs.toString(16).padStart(TIME_DIGITS, "0");
  const uuid = `${time.slice(0, 8)}-${time.slice(8)}-7${randomUuid.slice("xxxxxxxx-xxxx-4".length)}`;
  return `${operation === "runsync" ? "sync-" : ""}${uuid}${SUFFIX}` as JobId;
}
