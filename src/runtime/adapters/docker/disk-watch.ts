import { formatSize } from "../../../text/size.ts";
import { createLoop, type Loop } from "../../loop.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Containers } from "./containers.ts";
import type { Entry, Roster } from "./roster.ts";

/** The engine counts a layer by walking over its files: a few seconds for a large one. */
const LOOK_EVERY_MS = 10_000;
const MIN_PAUSE_MS = 10;

/** Ends workers whose container's own layer has outgrown its limit, where the engine does not keep it (`canLimitDisk`). */
export function createDiskWatch(deps: {
  readonly roster: Roster;
  readonly containers: Pick<Containers, "inspect">;
  readonly clock: Clock;
  readonly log: { error(fields: object, message: string): void };
  readonly end: (entry: Entry) => Promise<void>;
}): Pick<Loop, "start" | "stop"> {
  const { roster, containers, clock, log, end } = deps;

  async function tick(): Promise<null> {
    for (const entry of roster.all()) await look(entry);
    return null;
  }

  async function look(entry: Entry): Promise<void> {
    const limit = entry.diskBytesLimit;
    if (limit === null || entry.exit !== null || entry.asleep !== null || entry.asked !== null) return;
    const bytes = (await containers.inspect(entry.containerId, { size: true }))?.diskBytes ?? 0;
    if (bytes <= limit || entry.asked !== null || entry.ending) return;
    entry.overDisk = `wrote more than its disk limit: ${formatSize(bytes)}, the limit is ${formatSize(limit)}`;
    await end(entry);
  }

  return createLoop({
    ...{ clock, tick, log },
    maxPauseMs: LOOK_EVERY_MS,
    minPauseMs: MIN_PAUSE_MS,
    name: "disk watch",
  });
}
