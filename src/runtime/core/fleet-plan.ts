import type { WorkerId, WorkerState } from "./model.ts";

/** A worker as the reconciler sees it. */
export type FleetWorker = {
  readonly id: WorkerId;
  readonly state: WorkerState;
  readonly release: number;
  readonly leases: number;
  readonly createdAtMs: number;
  /** Null while it holds a job. */
  readonly idleSinceMs: number | null;
  readonly lastSeenMs: number;
  /** When it last asked for jobs. */
  readonly lastTakeMs: number;
  /** When it was asked to end (SIGTERM); null before. */
  readonly stopAskedAtMs: number | null;
};

export type FleetFacts = {
  readonly desired: number;
  readonly max: number;
  readonly liveRelease: number;
  readonly startTimeoutMs: number;
  /** No start before this time (crash backoff). */
  readonly retryAtMs: number;
  readonly workers: readonly FleetWorker[];
};

export type FleetAction =
  | { readonly kind: "start" }
  /** Hand it no more work; it ends when its jobs have. */
  | { readonly kind: "drain"; readonly workerId: WorkerId; readonly reason: string }
  /** Drained and without jobs: ask it to end. */
  | { readonly kind: "stop"; readonly workerId: WorkerId }
  /** Revoke its token, end its leases as lost, and kill it. */
  | { readonly kind: "condemn"; readonly workerId: WorkerId; readonly reason: string }
  /** Take a failed worker out of view. */
  | { readonly kind: "clear"; readonly workerId: WorkerId };

/** Without a sign of life for this long a worker is taken for dead: six heartbeats. */
export const LEASE_MS = 60_000;
/** From SIGTERM to SIGKILL for a worker without jobs. */
export const STOP_GRACE_MS = 5_000;

const ALIVE: readonly WorkerState[] = ["wanted", "starting", "ready", "parked"];

/** What has to happen so that the fleet of one endpoint becomes what is wanted. Level-triggered: it looks, it does not remember. */
export function planFleet(facts: FleetFacts, nowMs: number): FleetAction[] {
  const judged = facts.workers.flatMap((worker) => judge(worker, facts, nowMs));
  const condemned = new Set(judged.flatMap((action) => (action.kind === "condemn" ? [action.workerId] : [])));
  const alive = facts.workers.filter(({ id, state }) => ALIVE.includes(state) && !condemned.has(id));
  const current = alive.filter(({ release }) => release === facts.liveRelease);
  const outdated = alive.filter(({ release }) => release !== facts.liveRelease);
  const drains = [
    ...outdated.map(({ id }) => drain(id, `release ${facts.liveRelease} replaces its own`)),
    ...surplus(current, facts.desired).map(({ id, leases }) =>
      drain(id, leases > 0 ? "more workers than wanted: ends after its jobs" : "idle and no longer wanted"),
    ),
  ];
  return [...judged, ...drains, ...starts(facts, current.length, nowMs)];
}

function drain(workerId: WorkerId, reason: string): FleetAction {
  return { kind: "drain", workerId, reason };
}

/** What a worker's own state asks for, whatever is wanted. */
function judge(worker: FleetWorker, facts: FleetFacts, nowMs: number): FleetAction[] {
  const { id: workerId, state } = worker;
  if (state === "failed") return nowMs >= facts.retryAtMs ? [{ kind: "clear", workerId }] : [];
  if (state === "starting" && nowMs - worker.createdAtMs > facts.startTimeoutMs) {
    return [
      condemn(
        workerId,
        `it did not ask for a job within the start timeout of ${facts.startTimeoutMs / 1_000} s`,
      ),
    ];
  }
  if (state === "draining") return judgeDraining(worker, nowMs);
  if (state === "ready" && nowMs - worker.lastSeenMs > LEASE_MS) {
    return [condemn(workerId, `no sign of life for ${LEASE_MS / 1_000} s`)];
  }
  // Its heartbeat may come from another process: a worker without jobs that asks for none is stuck. One that
  // has just ended a long job had no reason to ask before: its time counts from then.
  const freeSinceMs = Math.max(worker.lastTakeMs, worker.idleSinceMs ?? nowMs);
  if (state === "ready" && worker.leases === 0 && nowMs - freeSinceMs > LEASE_MS) {
    return [condemn(workerId, `it has no job and has asked for none for ${LEASE_MS / 1_000} s`)];
  }
  return [];
}

function judgeDraining({ id: workerId, leases, stopAskedAtMs }: FleetWorker, nowMs: number): FleetAction[] {
  if (leases > 0) return [];
  if (stopAskedAtMs === null) return [{ kind: "stop", workerId }];
  return nowMs - stopAskedAtMs > STOP_GRACE_MS ? [condemn(workerId, "it did not end when asked to")] : [];
}

function condemn(workerId: WorkerId, reason: string): FleetAction {
  return { kind: "condemn", workerId, reason };
}

/** Who goes when there are more than wanted: idle ones first, longest idle first, then those still starting, busy ones last. */
function surplus(current: readonly FleetWorker[], desired: number): FleetWorker[] {
  const order = [...current].sort((a, b) => rank(a) - rank(b) || (a.idleSinceMs ?? 0) - (b.idleSinceMs ?? 0));
  return order.slice(0, Math.max(0, current.length - desired));
}

function rank({ state, leases }: FleetWorker): number {
  if (leases > 0) return 2;
  return state === "ready" || state === "parked" ? 0 : 1;
}

/** Workers that end still count: never more than max, and one more while a release rolls (INV-5). */
function starts(facts: FleetFacts, current: number, nowMs: number): FleetAction[] {
  if (nowMs < facts.retryAtMs) return [];
  const present = facts.workers.filter(({ state }) => state !== "failed" && state !== "gone");
  const surge = present.some(({ release }) => release !== facts.liveRelease) ? 1 : 0;
  const room = facts.max + surge - present.length;
  const count = Math.max(0, Math.min(facts.desired - current, room));
  return Array.from({ length: count }, () => ({ kind: "start" }) as const);
}
