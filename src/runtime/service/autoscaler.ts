import type { Activity } from "../core/activity.ts";
import type { Desired, Endpoint, EndpointId, Worker } from "../core/model.ts";
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

export type Autoscaler = Loop & {
  /** Has that many workers up once, whatever the load; then the idle timeout counts as for any other. */
  warm(endpointId: EndpointId, workers: number, why: string): void;
};

/** An order of {@link Autoscaler.warm}. Kept in memory: a restart of the daemon forgets it. */
type WarmOrder = { readonly workers: number; readonly why: string; readonly untilMs: number };

/** A look at every endpoint at least this often. */
const MAX_PAUSE_MS = 5_000;
/** Load changes within this time are looked at together; the first one after a pause is looked at at once. */
const MIN_PAUSE_MS = 20;
/** An order to warm that could not be carried out ends this long after the start timeout. */
const WARM_GRACE_MS = 60_000;

/**
 * Reads each endpoint's load and writes how many workers it should have, with the reason, into the store. It starts and
 * stops nothing: that is the reconciler's.
 */
export function createAutoscaler({ store, clock, events, activity, log }: AutoscalerOptions): Autoscaler {
  const states = new Map<EndpointId, ScalingState>();
  const orders = new Map<EndpointId, WarmOrder>();

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
    const { desired, nextCheckMs } = wantedOf(endpoint, workers, nowMs);
    if (desired.workers !== endpoint.desired.workers)
      await store.fleet.setDesired(endpoint.id, desired, nowMs);
    return nextCheckMs;
  }

  function wantedOf(
    endpoint: Endpoint,
    workers: readonly Worker[],
    nowMs: number,
  ): { readonly desired: Desired; readonly nextCheckMs: number | null } {
    if (endpoint.paused) {
      orders.delete(endpoint.id);
      return { desired: { workers: 0, reason: "paused: its workers sleep" }, nextCheckMs: null };
    }
    const up = workers.filter(({ state, release }) => release === endpoint.liveRelease && AWAKE.has(state));
    const decision = decide(
      sampleOf(endpoint, up),
      endpoint.settings,
      states.get(endpoint.id) ?? INITIAL_SCALING,
      nowMs,
    );
    states.set(endpoint.id, decision.state);
    const order = orderOf(endpoint, up, nowMs);
    const { desired, reason, nextCheckMs } = decision;
    if (order === null || order.workers <= desired)
      return { desired: { workers: desired, reason }, nextCheckMs };
    return {
      desired: { workers: order.workers, reason: `${order.why}: wants ${order.workers}` },
      nextCheckMs: Math.min(nextCheckMs ?? Number.POSITIVE_INFINITY, order.untilMs),
    };
  }

  /** The order in force, within `max` as it is now; one that was carried out, or could not be, is over. */
  function orderOf({ id, settings }: Endpoint, up: readonly Worker[], nowMs: number): WarmOrder | null {
    const order = orders.get(id);
    if (!order) return null;
    const workers = Math.min(order.workers, settings.workers.max);
    const ready = up.filter(({ state }) => state === "ready").length;
    if (ready < workers && nowMs < order.untilMs) return { ...order, workers };
    orders.delete(id);
    return null;
  }

  function sampleOf(endpoint: Endpoint, up: readonly Worker[]): LoadSample {
    const ready = up.filter(({ state }) => state === "ready");
    const idleSinceMs = up.flatMap(({ id, state, readyAtMs, createdAtMs }) => {
      // One that waits for its part of the machine does nothing either.
      if (state === "wanted") return [createdAtMs];
      const since = state === "ready" ? activity.idleSinceMs(id, readyAtMs ?? createdAtMs) : null;
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

  /** Boots a worker once, so that the first job finds a sleeping one. */
  function prewarm(endpointId: EndpointId): void {
    const endpoint = store.fleet.endpoints().find(({ id }) => id === endpointId);
    if (endpoint?.settings.workers.prewarm) warm(endpoint, 1, "a new release boots once");
  }

  function warm({ id, settings }: Endpoint, workers: number, why: string): void {
    const untilMs = clock.nowMs() + settings.limits.startTimeoutMs + WARM_GRACE_MS;
    orders.set(id, { workers: Math.min(workers, settings.workers.max), why, untilMs });
    loop.nudge();
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
    if (kind === "release.live") prewarm(endpointId);
    if (kind === "endpoint.delete") {
      states.delete(endpointId);
      orders.delete(endpointId);
    }
    loop.nudge();
  });
  return {
    ...loop,
    warm: (endpointId, workers, why) => {
      const endpoint = store.fleet.endpoints().find(({ id }) => id === endpointId);
      if (endpoint) warm(endpoint, workers, why);
    },
  };
}

const AWAKE: ReadonlySet<Worker["state"]> = new Set(["wanted", "starting", "ready"]);
