import type { Clock } from "../../ports/clock.ts";
import type { Containers } from "./containers.ts";

/** Containers that are to go. One that the engine cannot remove holds nobody up: it is tried again, quietly (F-17). */
export type Quarantine = {
  /** Removes a container by id or name, now or later. Resolves after the first try; never rejects. */
  drop(idOrName: string): Promise<void>;
  /** Tries the ones that are due again. */
  retry(): Promise<void>;
  /** Whether a container with this id or name is on its way out. */
  has(id: string, name: string): boolean;
};

const FIRST_PAUSE_MS = 1_000;
const MAX_PAUSE_MS = 60_000;
/** The oldest are given up beyond this: after a restart of the daemon they are found again by their label. */
const MAX_KEPT = 1_000;

type Kept = { readonly pauseMs: number; readonly dueAtMs: number };

export function createQuarantine(deps: {
  readonly containers: Pick<Containers, "remove">;
  readonly clock: Clock;
  readonly log: { warn(fields: object, message: string): void };
}): Quarantine {
  const { containers, clock, log } = deps;
  const kept = new Map<string, Kept>();

  async function remove(idOrName: string, pauseMs: number): Promise<void> {
    // While it is being removed too: a listing in between does not show it.
    kept.delete(idOrName);
    kept.set(idOrName, { pauseMs, dueAtMs: clock.nowMs() + pauseMs });
    for (const oldest of kept.keys()) {
      if (kept.size <= MAX_KEPT) break;
      kept.delete(oldest);
    }
    try {
      await containers.remove(idOrName);
      kept.delete(idOrName);
    } catch (error) {
      if (pauseMs === FIRST_PAUSE_MS)
        log.warn({ container: idOrName, err: error }, "a container cannot be removed, trying again later");
    }
  }

  return {
    drop: (idOrName) => remove(idOrName, FIRST_PAUSE_MS),
    async retry() {
      const nowMs = clock.nowMs();
      const due = [...kept].filter(([, { dueAtMs }]) => dueAtMs <= nowMs);
      for (const [idOrName, { pauseMs }] of due) await remove(idOrName, Math.min(pauseMs * 2, MAX_PAUSE_MS));
    },
    has: (id, name) => kept.has(id) || kept.has(name),
  };
}
