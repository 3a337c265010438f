import type { Activity } from "../../core/activity.ts";
import type { Resources } from "../../core/budget.ts";
import { type Crashes, createCrashes } from "../../core/crash-backoff.ts";
import { type FleetAction, type FleetFacts, mostAwake, planFleet } from "../../core/fleet-plan.ts";
import {
  type Endpoint,
  type EndpointId,
  NO_RELEASE,
  type PoolKind,
  type Worker,
  type WorkerId,
} from "../../core/model.ts";
import type { Standstill } from "../../core/standstill.ts";
import { createLoop } from "../../loop.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Random } from "../../ports/random.ts";
import type { Store } from "../../ports/store.ts";
import type { Pools } from "../../ports/worker-pool.ts";
import type { Events } from "../events.ts";
import { createAdoption } from "./adoption.ts";
import { createEnds, type Ends } from "./ends.ts";
import { createFleet } from "./fleet.ts";
import { createSleep, type Sleep } from "./sleep.ts";
import { createStarts, type Starts } from "./starts.ts";

export type ReconcilerOptions = {
  readonly store: Pick<Store, "jobs" | "fleet">;
  readonly clock: Clock;
  readonly random: Random;
  readonly pools: Pools;
  readonly events: Events;
  readonly activity: Activity;
  /** Origin of the worker listener as workers of a pool reach it; null while it is not open. */
  readonly workerUrl: (pool: PoolKind) => string | null;
  readonly host: { readonly cpuCount: number; readonly memoryGiB: number };
  /** What this machine gives to workers. */
  readonly budget: Resources;
  /** An owner's variables with the secrets filled in; throws an RpxError that names what is missing. */
  readonly fillSecrets: (env: Readonly<Record<string, string>>, owner: string) => Record<string, string>;
  /** A text of a worker, or about one, without its secrets. */
  readonly redact: (workerId: WorkerId, text: string) => string;
  readonly standstill: Standstill;
  readonly lastSeenMs: (workerId: WorkerId) => number;
  readonly lastTakeMs: (workerId: WorkerId) => number;
  /** What a worker said when a fitness check failed, or null. */
  readonly unfitReason: (workerId: WorkerId) => string | null;
  /** Answers a worker's held polls at once, so that it notices that it is asked to end. */
  readonly releasePolls: (workerId: WorkerId) => void;
  /** The same for those that ask for jobs alone. */
  readonly releaseTakes: (workerId: WorkerId) => void;
  readonly log: Log;
};

type Log = {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
};

/** Makes the pools what the store wants. The only one that starts, stops, parks and kills workers. */
export type Reconciler = {
  /** Compares rows and pools after a start: keeps what runs, ends what is left over, records what ended meanwhile. */
  adopt(): Promise<void>;
  start(): void;
  nudge(): void;
  /** Ends the loop and gives up starts under way; workers stay as they are. */
  stop(): Promise<void>;
  /** Revokes and kills one worker; its jobs go back to the queue and count. */
  condemn(workerId: WorkerId, reason: string): void;
  /** Drains one worker; another takes its place if it is wanted. */
  drain(workerId: WorkerId, reason: string): Promise<void>;
  /** A job was submitted: a frozen worker of its endpoint thaws at once, if there is one (D21). */
  wakeOne: Sleep["wakeOne"];
  /**
   * Hands out nothing more, waits up to `graceMs` for running jobs, puts the others back uncounted, and ends the workers. Workers that
   * outlive the daemon keep theirs, unless `all`.
   */
  shutDown(graceMs: number, all: boolean): Promise<void>;
  readonly hasFailed: Ends["hasFailed"];
  /** Failed starts in a row and when the next start may be. */
  readonly crashState: Crashes["of"];
};

const MAX_PAUSE_MS = 5_000;
const MIN_PAUSE_MS = 5;
/** Workers ordered in one pass and endpoint: a large scale-up does not starve the others. */
const START_BATCH = 16;
/** While workers drain, wait or back off, time alone changes what is to do. */
const WATCH_MS = 250;
/** A pass waits this long for the work on one endpoint: a pool call that hangs holds up its own endpoint alone. */
const PASS_MS = 100;
/** Pools whose workers end with the daemon. */
const TIED: readonly PoolKind[] = ["process"];

export function createReconciler(options: ReconcilerOptions): Reconciler {
  const { store, clock, pools, events, activity, log } = options;
  const crashes = createCrashes();
  let shuttingDown = false;
  const passes = new Map<EndpointId, Promise<void>>();

  const loop = createLoop({
    clock,
    tick,
    maxPauseMs: MAX_PAUSE_MS,
    minPauseMs: MIN_PAUSE_MS,
    log,
    name: "reconciler",
  });
  const fleet = createFleet({ store, pools, drain, nudge: loop.nudge });
  const ends: Ends = createEnds({
    ...options,
    fleet,
    crashes,
    abortStart: (workerId) => starts.abort(workerId),
    isShuttingDown: () => shuttingDown,
  });
  const starts: Starts = createStarts({ ...options, fleet, onFailed: ends.startFailed });
  const sleep = createSleep({ ...options, fleet, roomFor: starts.roomFor, condemn: ends.condemn });
  const adoption = createAdoption({
    store,
    clock,
    fleet,
    ends,
    sleep,
    log,
    isStartUnderWay: starts.isUnderWay,
  });

  for (const pool of fleet.pools) {
    pool.onExit((exit) => {
      ends.saw(exit);
      loop.nudge();
    });
  }
  events.subscribe(({ kind, endpointId }) => {
    if ((kind === "job.complete" || kind === "release.live") && endpointId) crashes.forget(endpointId);
    if (kind === "endpoint.delete" && endpointId) ends.forget(endpointId);
    const isFleet = ["scaler.", "worker.", "endpoint.", "release."].some((prefix) => kind.startsWith(prefix));
    if (isFleet || (kind.startsWith("job.") && kind !== "job.submit" && kind !== "job.take")) loop.nudge();
  });

  async function tick(): Promise<number | null> {
    await adoption.sweepReturned();
    await ends.settle();
    if (shuttingDown) return null;
    const workers = store.fleet.workers();
    const endpoints = store.fleet.endpoints();
    const known = new Set(endpoints.map(({ id }) => id));
    await Promise.all(endpoints.map(({ id }) => pass(id)));
    for (const { id, endpointId } of workers)
      if (!known.has(endpointId)) await ends.condemn(id, "its endpoint was deleted");
    await starts.admit();
    const watched: readonly Worker["state"][] = ["wanted", "draining", "failed"];
    return workers.some(({ state }) => watched.includes(state)) ? WATCH_MS : null;
  }

  /** One endpoint's work, side by side with the others', never twice at once. */
  async function pass(endpointId: EndpointId): Promise<void> {
    const underWay = passes.get(endpointId);
    if (underWay) return;
    const work = reconcile(endpointId)
      .catch((error: unknown) => log.error({ err: error, endpointId }, "reconciling failed"))
      .finally(() => passes.delete(endpointId));
    passes.set(endpointId, work);
    const timer = new AbortController();
    await Promise.race([work, clock.sleep(PASS_MS, timer.signal)]);
    timer.abort();
    // What took longer is looked at again when it is done.
    if (passes.has(endpointId)) void work.then(() => loop.nudge());
  }

  async function reconcile(endpointId: EndpointId): Promise<void> {
    const actions = plan(endpointId);
    const others = actions.filter((action) => action.kind !== "start");
    for (const action of others) await perform(action);
    // Meanwhile settings may have changed, or a start have failed: it holds back the next one.
    const now = others.length === 0 ? actions : plan(endpointId);
    const orders = now.flatMap((action) => (action.kind === "start" ? [action] : [])).slice(0, START_BATCH);
    const endpoint = fleet.endpoint(endpointId);
    const reasonOf = (release: number) =>
      release === endpoint?.liveRelease ? endpoint.desired.reason : `release ${release} has to prove itself`;
    await Promise.all(orders.map(({ release }) => starts.order(endpointId, release, reasonOf(release))));
    if (orders.length > 0) loop.nudge();
  }

  /** What is to be done for an endpoint as it is now. */
  function plan(endpointId: EndpointId): FleetAction[] {
    const endpoint = fleet.endpoint(endpointId);
    if (!endpoint) return [];
    const actions = planFleet(factsOf(endpoint), clock.nowMs());
    // A pool that is away is asked nothing; rows may wait for it, and say so.
    return actions.filter((action) => {
      if (action.kind === "start" || action.kind === "clear" || action.kind === "drain") return true;
      const worker = store.fleet.worker(action.workerId);
      return worker !== null && fleet.poolOf(worker).away() === null;
    });
  }

  function factsOf(endpoint: Endpoint): FleetFacts {
    const { id, settings, liveRelease } = endpoint;
    const nowMs = clock.nowMs();
    const resumedAtMs = options.standstill.resumedAtMs(nowMs);
    const candidate = endpoint.candidateRelease;
    const isProving = candidate !== null && store.fleet.release(id, candidate)?.state === "proving";
    const live = liveRelease === NO_RELEASE ? null : store.fleet.release(id, liveRelease);
    return {
      desired: endpoint.desired.workers,
      max: mostAwake(settings.workers),
      paused: endpoint.paused,
      liveRelease,
      provingRelease: isProving && !ends.hasFailed({ endpointId: id, release: candidate }) ? candidate : null,
      startTimeoutMs: settings.limits.startTimeoutMs,
      retryAtMs: crashes.of(id).retryAtMs,
      sleeps: settings.workers.flashboot && live ? fleet.poolOf(live.spec).sleeps : [],
      workers: store.fleet
        .workers()
        .filter(({ endpointId }) => endpointId === id)
        .map((worker) => ({
          ...worker,
          leases: activity.leases(worker.id),
          idleSinceMs: activity.idleSinceMs(worker.id, worker.readyAtMs ?? worker.createdAtMs),
          bootedAtMs: worker.bootedAtMs === null ? null : Math.max(worker.bootedAtMs, resumedAtMs),
          lastSeenMs: Math.max(options.lastSeenMs(worker.id), resumedAtMs),
          lastTakeMs: Math.max(options.lastTakeMs(worker.id), resumedAtMs),
          wokenAtMs: sleep.wokenAtMs(worker.id),
          stopAskedAtMs: ends.stopAskedAtMs(worker.id),
        })),
    };
  }

  async function perform(action: Exclude<FleetAction, { kind: "start" }>): Promise<void> {
    const { workerId } = action;
    switch (action.kind) {
      case "drain":
        return drain(workerId, action.reason);
      case "stop":
        return ends.stop(workerId);
      case "condemn":
        return ends.condemn(workerId, action.reason);
      case "park":
        return sleep.park(workerId, action.depth, action.reason);
      case "wake":
        return sleep.wake(workerId);
      case "clear":
        // One whose start has begun meanwhile is not cleared: the next pass drains it.
        if (starts.isUnderWay(workerId)) return;
        await store.fleet.moveWorker(
          workerId,
          { to: "gone", reason: action.reason, revoke: true },
          clock.nowMs(),
        );
    }
  }

  async function drain(workerId: WorkerId, reason: string): Promise<void> {
    await store.fleet.moveWorker(workerId, { to: "draining", reason }, clock.nowMs());
  }

  async function stop(): Promise<void> {
    await loop.stop();
    await starts.stop();
    await Promise.all(passes.values());
  }

  async function shutDown(graceMs: number, all: boolean): Promise<void> {
    shuttingDown = true;
    await starts.stop();
    const isOurs = ({ pool, state }: Worker) => (all || TIED.includes(pool)) && state !== "failed";
    const workers = store.fleet.workers().filter(isOurs);
    await Promise.all(workers.map(({ id }) => drain(id, "the daemon is stopping")));
    const isDraining = () =>
      store.fleet.workers().some((worker) => isOurs(worker) && worker.state === "draining");
    await within(graceMs, () => workers.every(({ id }) => activity.leases(id) === 0));
    await Promise.all(
      workers.map(({ id }) => store.jobs.endLeases(id, "return", "the daemon stopped", clock.nowMs())),
    );
    const reachable = workers.filter((worker) => fleet.poolOf(worker).away() === null);
    await Promise.all(reachable.map((worker) => orSaid(worker, ends.stop(worker.id))));
    await within(2_000, () => !isDraining());
    const left = reachable.filter(stillThere);
    await Promise.all(left.map((worker) => orSaid(worker, fleet.poolOf(worker).kill(worker.id))));
    await within(2_000, () => !isDraining());
    await loop.stop();
    await Promise.all(passes.values());
  }

  /** A pool that refuses, or has just gone away, must not keep the daemon from closing. */
  async function orSaid({ id }: Worker, asked: Promise<void>): Promise<void> {
    await asked.catch((error: unknown) => log.warn({ workerId: id, err: error }, "worker not ended"));
  }

  const stillThere = ({ id }: Worker) => store.fleet.worker(id)?.state === "draining";

  /** Waits until the condition holds, at most that long. */
  async function within(ms: number, condition: () => boolean): Promise<void> {
    const untilMs = clock.nowMs() + ms;
    while (!condition() && clock.nowMs() < untilMs) await clock.sleep(20);
  }

  return {
    adopt: adoption.adopt,
    start: loop.start,
    nudge: loop.nudge,
    stop,
    condemn: (workerId, reason) => {
      ends
        .condemn(workerId, reason)
        .catch((error: unknown) => log.error({ err: error, workerId }, "condemn failed"));
    },
    drain,
    wakeOne: sleep.wakeOne,
    shutDown,
    hasFailed: ends.hasFailed,
    crashState: crashes.of,
  };
}
