import type { SleepDepth, WorkerId, WorkerState } from "./model.ts";

/** A worker as the reconciler sees it. */
export type FleetWorker = {
  readonly id: WorkerId;
  readonly state: WorkerState;
  readonly release: number;
  readonly leases: number;
  /** When its program began to run; null before (the image may still be on its way). */
  readonly bootedAtMs: number | null;
  /** Null while it holds a job. */
  readonly idleSinceMs: number | null;
  readonly lastSeenMs: number;
  /** When it last asked for jobs. */
  readonly lastTakeMs: number;
  /** When it was last woken; null: never, or not by this daemon. */
  readonly wokenAtMs: number | null;
  /** When it was asked to end (SIGTERM); null before. */
  readonly stopAskedAtMs: number | null;
  readonly asleep: SleepDepth | null;
  readonly parkedAtMs: number | null;
};

export type FleetFacts = {
  /** Workers of the live release that should be awake. */
  readonly desired: number;
  /** Most workers awake, those above `workers.max` for traffic spikes included. */
  readonly max: number;
  /** Nobody gets a job: workers go to sleep when theirs have ended. */
  readonly paused: boolean;
  /** NO_RELEASE: none has gone live yet. */
  readonly liveRelease: number;
  /** A release that proves itself with one worker beside the others; null: none. */
  readonly provingRelease: number | null;
  readonly startTimeoutMs: number;
  /** No start before this time (crash backoff). */
  readonly retryAtMs: number;
  /** How its pool lets idle workers sleep, lightest first; none where FlashBoot is off. */
  readonly sleeps: readonly SleepDepth[];
  readonly workers: readonly FleetWorker[];
};

export type FleetAction =
  | { readonly kind: "start"; readonly release: number }
  /** Hand it no more work; it ends when its jobs have. */
  | { readonly kind: "drain"; readonly workerId: WorkerId; readonly reason: string }
  /** Drained and without jobs: ask it to end. */
  | { readonly kind: "stop"; readonly workerId: WorkerId }
  /** Revoke its token, end its leases as lost, and kill it. */
  | { readonly kind: "condemn"; readonly workerId: WorkerId; readonly reason: string }
  /** Put an idle worker to sleep, or a sleeping one deeper. */
  | {
      readonly kind: "park";
      readonly workerId: WorkerId;
      readonly depth: SleepDepth;
      readonly reason: string;
    }
  | { readonly kind: "wake"; readonly workerId: WorkerId }
  /** Take a row that has no resource out of view: one that waited and is no longer wanted, one that failed and is tried again. */
  | { readonly kind: "clear"; readonly workerId: WorkerId; readonly reason: string };

/** Without a sign of life for this long a worker is taken for dead: six heartbeats. */
export const LEASE_MS = 60_000;
/** From SIGTERM to SIGKILL for a worker without jobs. */
export const STOP_GRACE_MS = 5_000;
/** A worker that was woken, or became ready, stays awake for this long: its job is on the way. */
export const SETTLE_MS = 1_000;
/** How long a worker sleeps at a depth before it sleeps deeper, or ends (FlashBoot's ladder, D15). */
export const SLEEP_MS: Readonly<Record<SleepDepth, number>> = {
  frozen: 10 * 60_000,
  stopped: 24 * 3_600_000,
};

const AWAKE: readonly WorkerState[] = ["wanted", "starting", "ready"];

/** What has to happen so that the fleet of one endpoint becomes what is wanted. Level-triggered: it looks, it does not remember. */
export function planFleet(facts: FleetFacts, nowMs: number): FleetAction[] {
  const judged = facts.workers.flatMap((worker) => judge(worker, facts, nowMs));
  const condemned = new Set(judged.flatMap((action) => (action.kind === "condemn" ? [action.workerId] : [])));
  const workers = facts.workers.filter(({ id }) => !condemned.has(id));
  const live = workers.filter(({ release }) => release === facts.liveRelease);
  const matched = match(live, facts, nowMs);
  const named = new Set(matched.flatMap((action) => ("workerId" in action ? [action.workerId] : [])));
  return [
    ...judged,
    ...outdated(workers, facts),
    // Who is woken, or ends, does not sleep deeper first.
    ...ladder(
      live.filter(({ id }) => !named.has(id)),
      facts,
      nowMs,
    ),
    ...matched,
    ...prove(matched.filter(({ kind }) => kind === "start").length, facts),
  ];
}

function drain(workerId: WorkerId, reason: string): FleetAction {
  return { kind: "drain", workerId, reason };
}

function condemn(workerId: WorkerId, reason: string): FleetAction {
  return { kind: "condemn", workerId, reason };
}

/** Ends a worker that is no longer wanted; a row without a resource just goes. */
function dismiss({ id: workerId, state }: FleetWorker, reason: string): FleetAction {
  return state === "wanted" ? { kind: "clear", workerId, reason } : drain(workerId, reason);
}

/** What a worker's own state asks for, whatever is wanted. */
function judge(worker: FleetWorker, facts: FleetFacts, nowMs: number): FleetAction[] {
  const { id: workerId, state, bootedAtMs } = worker;
  if (state === "failed")
    return nowMs >= facts.retryAtMs ? [{ kind: "clear", workerId, reason: "its next try begins" }] : [];
  if (state === "starting" && bootedAtMs !== null && nowMs - bootedAtMs > facts.startTimeoutMs) {
    return [
      condemn(
        workerId,
        `it did not ask for a job within the start timeout of ${facts.startTimeoutMs / 1_000} s`,
      ),
    ];
  }
  if (state === "draining") return judgeDraining(worker, nowMs);
  if (state !== "ready") return [];
  const wokenMs = worker.wokenAtMs ?? 0;
  if (nowMs - Math.max(worker.lastSeenMs, wokenMs) > LEASE_MS)
    return [condemn(workerId, `no sign of life for ${LEASE_MS / 1_000} s`)];
  // Its heartbeat may come from another process: a worker without jobs that asks for none is stuck. One that
  // has just ended a long job had no reason to ask before: its time counts from then.
  const freeSinceMs = Math.max(worker.lastTakeMs, worker.idleSinceMs ?? nowMs, wokenMs);
  if (worker.leases === 0 && nowMs - freeSinceMs > LEASE_MS)
    return [condemn(workerId, `it has no job and has asked for none for ${LEASE_MS / 1_000} s`)];
  return [];
}

function judgeDraining({ id: workerId, leases, stopAskedAtMs }: FleetWorker, nowMs: number): FleetAction[] {
  if (leases > 0) return [];
  if (stopAskedAtMs === null) return [{ kind: "stop", workerId }];
  return nowMs - stopAskedAtMs > STOP_GRACE_MS ? [condemn(workerId, "it did not end when asked to")] : [];
}

/** Workers of releases that neither serve nor prove themselves: idle ones go at once, busy ones when their jobs have ended. */
function outdated(workers: readonly FleetWorker[], facts: FleetFacts): FleetAction[] {
  const gone = workers.filter(
    ({ state, release }) =>
      (AWAKE.includes(state) || state === "parked") &&
      release !== facts.liveRelease &&
      release !== facts.provingRelease,
  );
  const reason =
    facts.liveRelease === 0 ? "its release failed" : `release ${facts.liveRelease} serves instead`;
  return gone.map((worker) => dismiss(worker, reason));
}

/** Sleepers that have slept long enough at their depth, or may not sleep any more. */
function ladder(live: readonly FleetWorker[], facts: FleetFacts, nowMs: number): FleetAction[] {
  return live.flatMap((worker): FleetAction[] => {
    const { id: workerId, state, asleep, parkedAtMs } = worker;
    if (state !== "parked" || asleep === null) return [];
    const depth = facts.sleeps.indexOf(asleep);
    if (depth < 0) return [drain(workerId, "workers of this endpoint no longer sleep")];
    const slept = nowMs - (parkedAtMs ?? nowMs);
    const longest = facts.sleeps.slice(0, depth + 1).reduce((sum, each) => sum + SLEEP_MS[each], 0);
    if (slept <= longest) return [];
    const deeper = facts.sleeps[depth + 1];
    if (deeper === undefined) return [drain(workerId, "it slept for long and was not needed")];
    return [{ kind: "park", workerId, depth: deeper, reason: SLEEP_REASON[deeper] }];
  });
}

const SLEEP_REASON: Readonly<Record<SleepDepth, string>> = {
  frozen: "idle: frozen, the next job thaws it",
  stopped: "idle for long: stopped, the next job starts it again",
};

/** Brings the awake workers of the live release to the number that is wanted. */
function match(live: readonly FleetWorker[], facts: FleetFacts, nowMs: number): FleetAction[] {
  if (facts.liveRelease === 0) return [];
  const awake = live.filter(({ state }) => AWAKE.includes(state));
  const asleep = live.filter(({ state }) => state === "parked");
  // The autoscaler decides a little later than settings change.
  const desired = Math.min(facts.desired, facts.max);
  const missing = desired - awake.length;
  if (missing > 0) return fill(missing, asleep, facts, nowMs);
  return [
    ...surplus(awake, desired).flatMap((worker) => settle(worker, facts, nowMs)),
    ...asleep
      .slice(0, Math.max(0, awake.length + asleep.length - facts.max))
      .map(({ id }) => drain(id, "more sleeping workers than may run")),
  ];
}

/** Wakes who sleeps, the lightest sleepers first and the last to fall asleep before the others; starts the rest. */
function fill(
  missing: number,
  asleep: readonly FleetWorker[],
  facts: FleetFacts,
  nowMs: number,
): FleetAction[] {
  const order = [...asleep].sort(
    (a, b) =>
      facts.sleeps.indexOf(a.asleep ?? "stopped") - facts.sleeps.indexOf(b.asleep ?? "stopped") ||
      (b.parkedAtMs ?? 0) - (a.parkedAtMs ?? 0),
  );
  const woken = order.slice(0, missing);
  const starts = nowMs < facts.retryAtMs ? 0 : Math.max(0, Math.min(missing - woken.length, room(facts)));
  return [
    ...woken.map(({ id }): FleetAction => ({ kind: "wake", workerId: id })),
    ...Array.from({ length: starts }, (): FleetAction => ({ kind: "start", release: facts.liveRelease })),
  ];
}

/** How many workers of the live release may come. */
function room({ workers, max, liveRelease }: FleetFacts): number {
  return roomBeside(
    workers.filter(({ state }) => state !== "failed" && state !== "gone"),
    { max, release: liveRelease },
  );
}

/** Workers that end still count: never more than max, and one more while another release is there (INV-5). */
export function roomBeside(
  present: readonly { readonly release: number }[],
  { max, release }: { readonly max: number; readonly release: number },
): number {
  const surge = max > 0 && present.some((worker) => worker.release !== release) ? 1 : 0;
  return max + surge - present.length;
}

/** Most workers of an endpoint that may be awake: those above max for traffic spikes are none where nothing may run. */
export function mostAwake({ max, extra }: { readonly max: number; readonly extra: number }): number {
  return max === 0 ? 0 : max + extra;
}

/** Who goes when there are more than wanted: who waits, then the longest idle, then those still starting, busy ones last. */
function surplus(awake: readonly FleetWorker[], desired: number): FleetWorker[] {
  const order = [...awake].sort((a, b) => rank(a) - rank(b) || (a.idleSinceMs ?? 0) - (b.idleSinceMs ?? 0));
  return order.slice(0, Math.max(0, awake.length - desired));
}

function rank({ state, leases }: FleetWorker): number {
  if (state === "wanted") return 0;
  if (leases > 0) return 3;
  return state === "ready" ? 1 : 2;
}

/** What becomes of a worker that is not needed: an idle one sleeps where it may. */
function settle(worker: FleetWorker, facts: FleetFacts, nowMs: number): FleetAction[] {
  const { id: workerId, state, leases, wokenAtMs } = worker;
  // A submit wakes it before the number of wanted workers follows: it may have its job by then.
  if (wokenAtMs !== null && nowMs - wokenAtMs < SETTLE_MS) return [];
  if (leases > 0)
    return facts.paused ? [] : [drain(workerId, "more workers than wanted: ends after its jobs")];
  const [depth] = facts.sleeps;
  if (state !== "ready" || depth === undefined) return [dismiss(worker, "idle and no longer wanted")];
  return [{ kind: "park", workerId, depth, reason: SLEEP_REASON[depth] }];
}

/**
 * One worker for the release that proves itself, beside the others and those that are `starting` with it; where nothing may run,
 * nothing is proven. A condemned one is still there: its release ends with it. The crash backoff of the release that serves does not
 * hold it up: it may be the remedy.
 */
function prove(starting: number, facts: FleetFacts): FleetAction[] {
  const { provingRelease: release, max, workers } = facts;
  if (release === null || max === 0) return [];
  if (workers.some((worker) => worker.release === release && worker.state !== "gone")) return [];
  const present = workers.filter(({ state }) => state !== "failed" && state !== "gone");
  return present.length + starting < max + 1 ? [{ kind: "start", release }] : [];
}
