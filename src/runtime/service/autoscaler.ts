import type { Activity } from "../core/activity.ts";
import type { Endpoint, EndpointId, Worker } from "../core/model.ts";
import { decide, INITIAL_SCALING, type LoadSample, type ScalingState } from "../core/scaling.ts";
import { createLoop, type Loop } from "../loop.ts";
import type { Clock } from "../ports/clock.ts";
import type { Store } from "../ports/store.ts";
import type { Events } from "./events.ts";

export type AutoscalerOptions = {
  readonly store: Pick<Store, "jobs" | "fleet">;
  readonly clock: Clock;
  readonly events: Events;
  readonly activity: Activity;
  readonly log: { error(fields: object, message: string): void };
};

/** A look at every endpoint at least this often. */
const MAX_PAUSE_MS = 5_000;
/** Load changes within this time are looked at together; the first one after a pause is looked at at once. */
const MIN_PAUSE_MS = 20;

/**
 * Reads each endpoint's load and writes how many workers it should have, with the reason, into the store. It starts and
 * stops nothing: that is the reconciler's.
 */
export function createAutoscaler({ store, clock, events, activity, log }: AutoscalerOptions): Loop {
  const states = new Map<EndpointId, ScalingState>();

  async function tick(): Promise<number | null> {
    const workers = Map.groupBy(store.fleet.workers(), ({ endpointId }) => endpointId);
    const checks: number[] = [];
    for (const endpoint of store.fleet.endpoints()) {
      const nextCheckMs = await scale(endpoint, workers.get(endpoint.id) ?? []);
      if (nextCheckMs !== null) checks.push(nextCheckMs - clock.nowMs());
    }
    return checks.length === 0 ? null : Math.max(0, Math.min(...checks));
  }

  async function scale(endpoint: Endpoint, workers: readonly Worker[]): Promise<number | null> {
    const nowMs = clock.nowMs();
    const sample = sampleOf(endpoint, workers);
    const decision = decide(sample, endpoint.settings, states.get(endpoint.id) ?? INITIAL_SCALING, nowMs);
    states.set(endpoint.id, decision.state);
    if (decision.desired !== endpoint.desired.workers) {
      await store.fleet.setDesired(
        endpoint.id,
        { workers: decision.desired, reason: decision.reason },
        nowMs,
      );
    }
    return decision.nextCheckMs;
  }

  function sampleOf(endpoint: Endpoint, workers: readonly Worker[]): LoadSample {
    const up = workers.filter(({ state, release }) => release === endpoint.liveRelease && ALIVE.has(state));
    const ready = up.filter(({ state }) => state === "ready" || state === "parked");
    const idleSinceMs = ready.flatMap(({ id, readyAtMs, createdAtMs }) => {
      const since = activity.idleSinceMs(id, readyAtMs ?? createdAtMs);
      return since === null ? [] : [since];
    });
    return {
      ...store.jobs.sample(endpoint.id),
      workers: {
        up: up.length,
        starting: up.length - ready.length,
        idleSinceMs,
        perWorkerConcurrencyHint: activity.peakConcurrency(endpoint.id),
      },
    };
  }

  const loop = createLoop({
    clock,
    tick,
    maxPauseMs: MAX_PAUSE_MS,
    minPauseMs: MIN_PAUSE_MS,
    log,
    name: "autoscaler",
  });
  events.subscribe(({ kind, endpointId }) => {
    if (endpointId === null || kind === "scaler.decide") return;
    if (kind === "endpoint.delete") states.delete(endpointId);
    loop.nudge();
  });
  return loop;
}

const ALIVE: ReadonlySet<Worker["state"]> = new Set(["wanted", "starting", "ready", "parked"]);
