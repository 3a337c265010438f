import { RpxError } from "../../contract/error.ts";
import type { Activity } from "../core/activity.ts";
import { type Crashes, createCrashes } from "../core/crash-backoff.ts";
import { type FleetAction, planFleet } from "../core/fleet-plan.ts";
import { digestKey, KEY_ALPHABET, KEY_BODY_LENGTH, makeKey } from "../core/key-format.ts";
import type { Endpoint, EndpointId, Worker, WorkerId } from "../core/model.ts";
import type { Standstill } from "../core/standstill.ts";
import { workerEnvironment } from "../core/worker-env.ts";
import { workerLimits } from "../core/worker-limits.ts";
import { createLoop } from "../loop.ts";
import type { Clock } from "../ports/clock.ts";
import type { Random } from "../ports/random.ts";
import type { Store } from "../ports/store.ts";
import type { Pools, WorkerExit, WorkerPool } from "../ports/worker-pool.ts";
import type { Events } from "./events.ts";

export type ReconcilerOptions = {
  readonly store: Pick<Store, "jobs" | "fleet">;
  readonly clock: Clock;
  readonly random: Random;
  readonly pools: Pools;
  readonly events: Events;
  readonly activity: Activity;
  /** Origin of the worker listener as workers reach it. */
  readonly workerUrl: () => string;
  readonly host: { readonly cpuCount: number; readonly memoryGiB: number };
  readonly standstill: Standstill;
  readonly lastSeenMs: (workerId: WorkerId) => number;
  readonly lastTakeMs: (workerId: WorkerId) => number;
  /** What a worker said when a fitness check failed, or null. */
  readonly unfitReason: (workerId: WorkerId) => string | null;
  /** Answers a worker's held polls at once, so that it notices that it is asked to end. */
  readonly releasePolls: (workerId: WorkerId) => void;
  /** An owner's variables with the secrets filled in; throws an RpxError that names what is missing. */
  readonly fillSecrets: (env: Readonly<Record<string, string>>, owner: string) => Record<string, string>;
  /** A text of a worker, or about one, without its secrets. */
  readonly redact: (workerId: WorkerId, text: string) => string;
  readonly log: Log;
};

type Log = {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
};

/** Makes the pool what the store wants. The only one that starts, stops and kills workers. */
export type Reconciler = {
  /** Compares rows and pool after a start: keeps what runs, ends what is left over, records what ended meanwhile. */
  adopt(): Promise<void>;
  start(): void;
  nudge(): void;
  /** Ends the loop; workers stay as they are. */
  stop(): Promise<void>;
  /** Revokes and kills one worker; its jobs go back to the queue and count. */
  condemn(workerId: WorkerId, reason: string): void;
  /** Drains one worker; another takes its place if it is wanted. */
  drain(workerId: WorkerId, reason: string): Promise<void>;
  /** Hands out nothing more, waits up to `graceMs` for running jobs, puts the others back uncounted, and ends the workers. */
  shutDown(graceMs: number): Promise<void>;
  /** Failed starts in a row and when the next start may be. */
  readonly crashState: Crashes["of"];
};

const MAX_PAUSE_MS = 5_000;
const MIN_PAUSE_MS = 5;
/** Workers started in one pass and endpoint: a large scale-up does not starve the others. */
const START_BATCH = 16;
/** While workers drain or back off, time alone changes what is to do. */
const WATCH_MS = 250;
const WORKER_ID_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz";
const WORKER_ID_LENGTH = 20;
const NEVER = new AbortController().signal;
/** A condemned worker that does not die is killed again after this long. */
const KILL_AGAIN_MS = 5_000;

export function createReconciler(options: ReconcilerOptions): Reconciler {
  const { store, clock, random, pools, events, activity, log } = options;
  const crashes = createCrashes();
  const stopAskedAtMs = new Map<WorkerId, number>();
  const condemnedAtMs = new Map<WorkerId, number>();
  let exits: WorkerExit[] = [];
  let shuttingDown = false;

  const loop = createLoop({
    clock,
    tick,
    maxPauseMs: MAX_PAUSE_MS,
    minPauseMs: MIN_PAUSE_MS,
    log,
    name: "reconciler",
  });

  for (const pool of Object.values(pools)) {
    pool.onExit((exit) => {
      exits.push(exit);
      loop.nudge();
    });
  }
  events.subscribe(({ kind, endpointId }) => {
    if ((kind === "job.complete" || kind === "release.live") && endpointId) crashes.forget(endpointId);
    if (
      kind === "scaler.decide" ||
      kind.startsWith("worker.") ||
      kind.startsWith("endpoint.") ||
      kind.startsWith("release.")
    ) {
      loop.nudge();
    } else if (kind.startsWith("job.") && kind !== "job.submit" && kind !== "job.take") loop.nudge();
  });

  async function tick(): Promise<number | null> {
    await settleExits();
    if (shuttingDown) return null;
    const workers = store.fleet.workers();
    const endpoints = store.fleet.endpoints();
    const known = new Set(endpoints.map(({ id }) => id));
    // Side by side: a start that takes its time holds up its own endpoint alone.
    await Promise.all(endpoints.map(({ id }) => reconcile(id)));
    for (const { id, endpointId } of workers)
      if (!known.has(endpointId)) await condemnNow(id, "its endpoint was deleted");
    return workers.some(({ state }) => state === "draining" || state === "failed") ? WATCH_MS : null;
  }

  async function reconcile(endpointId: EndpointId): Promise<void> {
    const actions = plan(endpointId);
    const others = actions.filter((action) => action.kind !== "start");
    for (const action of others) await perform(action);
    // Meanwhile settings may have changed, or a start have failed: it holds back the next one.
    const now = others.length === 0 ? actions : plan(endpointId);
    const starts = now.filter(({ kind }) => kind === "start").slice(0, START_BATCH);
    await Promise.all(starts.map(() => startWorker(endpointId)));
    if (starts.length === START_BATCH) loop.nudge();
  }

  /** What is to be done for an endpoint as it is now. */
  function plan(endpointId: EndpointId): FleetAction[] {
    const endpoint = endpointById(endpointId);
    if (!endpoint) return [];
    const nowMs = clock.nowMs();
    const resumedAtMs = options.standstill.resumedAtMs(nowMs);
    const workers = store.fleet.workers().filter((worker) => worker.endpointId === endpointId);
    const facts = {
      desired: endpoint.desired.workers,
      max: endpoint.settings.workers.max,
      liveRelease: endpoint.liveRelease,
      startTimeoutMs: endpoint.settings.limits.startTimeoutMs,
      retryAtMs: crashes.of(endpointId).retryAtMs,
      workers: workers.map((worker) => ({
        ...worker,
        leases: activity.leases(worker.id),
        idleSinceMs: activity.idleSinceMs(worker.id, worker.readyAtMs ?? worker.createdAtMs),
        createdAtMs: Math.max(worker.createdAtMs, resumedAtMs),
        lastSeenMs: Math.max(options.lastSeenMs(worker.id), resumedAtMs),
        lastTakeMs: Math.max(options.lastTakeMs(worker.id), resumedAtMs),
        stopAskedAtMs: stopAskedAtMs.get(worker.id) ?? null,
      })),
    };
    return planFleet(facts, nowMs);
  }

  const endpointById = (endpointId: EndpointId): Endpoint | undefined =>
    store.fleet.endpoints().find(({ id }) => id === endpointId);

  async function perform(action: Exclude<FleetAction, { kind: "start" }>): Promise<void> {
    const { workerId } = action;
    switch (action.kind) {
      case "drain":
        return drain(workerId, action.reason);
      case "stop":
        return stopWorker(workerId);
      case "condemn":
        countFailedStart(workerId, action.reason);
        return condemnNow(workerId, action.reason);
      case "clear":
        await store.fleet.moveWorker(
          workerId,
          { to: "gone", reason: "its next try begins", revoke: true },
          clock.nowMs(),
        );
    }
  }

  /** One that never asked for a job is a failed start like one that exits (F-13). */
  function countFailedStart(workerId: WorkerId, reason: string): void {
    const worker = store.fleet.worker(workerId);
    if (worker?.state === "starting") recordCrash(worker, reason, false);
  }

  function poolOf({ pool }: Pick<Worker, "pool">): WorkerPool {
    const found = pools[pool];
    if (found) return found;
    throw new Error(`this daemon has no pool "${pool}"`);
  }

  async function startWorker(endpointId: EndpointId): Promise<void> {
    const endpoint = endpointById(endpointId);
    if (!endpoint) return;
    const release = store.fleet.release(endpoint.id, endpoint.liveRelease);
    if (!release) throw new Error(`endpoint ${endpoint.id} has no release ${endpoint.liveRelease}`);
    const nowMs = clock.nowMs();
    const workerId = random.text(WORKER_ID_LENGTH, WORKER_ID_ALPHABET) as WorkerId;
    const token = makeKey("worker", random.text(KEY_BODY_LENGTH, KEY_ALPHABET));
    const row: Worker = {
      id: workerId,
      endpointId: endpoint.id,
      release: release.version,
      pool: release.spec.pool,
      state: "wanted",
      reason: endpoint.desired.reason,
      createdAtMs: nowMs,
      readyAtMs: null,
      endedAtMs: null,
      handle: null,
    };
    try {
      await store.fleet.addWorker(row, digestKey(token), nowMs);
    } catch (error) {
      if (!(error instanceof RpxError)) throw error;
      // A full disk: whether a worker is still wanted is for a later pass to see.
      log.warn({ endpointId, err: error }, "worker not started");
      return;
    }
    const envWith = (endpointEnv: Readonly<Record<string, string>>) =>
      workerEnvironment({
        baseUrl: options.workerUrl(),
        endpointId: endpoint.id,
        workerId,
        workerToken: token,
        gpus: null,
        ...options.host,
        volume: null,
        startTimeoutMs: endpoint.settings.limits.startTimeoutMs,
        endpointEnv,
      });
    try {
      const { handle } = await poolOf(row).start(
        {
          workerId,
          endpointId: endpoint.id,
          release: release.version,
          built: release.built,
          env: envWith(options.fillSecrets(release.spec.env, endpoint.owner)),
          limits: workerLimits(release.spec.hardware),
        },
        () => {},
        NEVER,
      );
      await store.fleet.moveWorker(
        workerId,
        { to: "starting", reason: "booting the handler", handle },
        clock.nowMs(),
      );
      log.info({ endpointId: endpoint.id, workerId, handle }, "worker started");
    } catch (error) {
      const reason = options.redact(workerId, `it could not be started: ${causeOf(error)}`);
      log.warn({ endpointId: endpoint.id, workerId, reason }, "worker not started");
      recordCrash(row, reason, false);
      await store.fleet.moveWorker(workerId, { to: "gone", reason, revoke: true }, clock.nowMs());
    }
  }

  async function drain(workerId: WorkerId, reason: string): Promise<void> {
    await store.fleet.moveWorker(workerId, { to: "draining", reason }, clock.nowMs());
  }

  /** Drained and without jobs: its polls are answered first, so that the signal finds it between two of them. */
  async function stopWorker(workerId: WorkerId): Promise<void> {
    if (activity.leases(workerId) > 0) return;
    stopAskedAtMs.set(workerId, clock.nowMs());
    const worker = store.fleet.worker(workerId);
    if (worker) await poolOf(worker).stop(workerId);
    options.releasePolls(workerId);
  }

  async function condemnNow(workerId: WorkerId, reason: string): Promise<void> {
    const nowMs = clock.nowMs();
    if (nowMs - (condemnedAtMs.get(workerId) ?? Number.NEGATIVE_INFINITY) < KILL_AGAIN_MS) return;
    const first = !condemnedAtMs.has(workerId);
    condemnedAtMs.set(workerId, nowMs);
    if (first) {
      log.warn({ workerId, reason }, "worker condemned");
      await Promise.all([
        store.fleet.moveWorker(workerId, { to: "draining", reason, revoke: true }, nowMs),
        store.jobs.endLeases(workerId, "lose", reason, nowMs),
      ]);
    }
    options.releasePolls(workerId);
    const worker = store.fleet.worker(workerId);
    if (!worker) return;
    await poolOf(worker).kill(workerId);
    await buryMissing(worker, reason);
  }

  /** A worker that the pool does not know has ended already. */
  async function buryMissing(worker: Worker, reason: string): Promise<void> {
    const present = (await poolOf(worker).list()).some(({ workerId }) => workerId === worker.id);
    if (!present)
      await store.fleet.moveWorker(worker.id, { to: "gone", reason, revoke: true }, clock.nowMs());
  }

  async function settleExits(): Promise<void> {
    const ended = exits;
    exits = [];
    for (const exit of ended) await settleExit(exit);
  }

  async function settleExit(exit: WorkerExit): Promise<void> {
    const { workerId } = exit;
    const worker = store.fleet.worker(workerId);
    if (worker && worker.state !== "gone") await recordExit(worker, exit);
    stopAskedAtMs.delete(workerId);
    condemnedAtMs.delete(workerId);
    if (worker) await poolOf(worker).forget(workerId);
  }

  async function recordExit(worker: Worker, exit: WorkerExit): Promise<void> {
    const nowMs = clock.nowMs();
    const asked = worker.state === "draining";
    const endpoint = endpointById(worker.endpointId);
    const outdated = endpoint !== undefined && endpoint.liveRelease !== worker.release;
    const bad =
      !asked && !outdated && (exit.code !== 0 || activity.leases(worker.id) > 0 || worker.readyAtMs === null);
    const reason = asked ? worker.reason : (options.unfitReason(worker.id) ?? exit.reason);
    const ended = store.jobs.endLeases(worker.id, shuttingDown ? "return" : "lose", exit.reason, nowMs);
    if (bad) recordCrash(worker, reason, worker.readyAtMs !== null);
    const { retryAtMs } = crashes.of(worker.endpointId);
    const waits = bad && retryAtMs > nowMs;
    const said = waits ? `${reason}; next try in ${Math.ceil((retryAtMs - nowMs) / 1_000)} s` : reason;
    await Promise.all([
      ended,
      store.fleet.moveWorker(worker.id, { to: waits ? "failed" : "gone", reason: said, revoke: true }, nowMs),
    ]);
    log.info(
      { workerId: worker.id, endpointId: worker.endpointId, code: exit.code, signal: exit.signal, reason },
      "worker ended",
    );
  }

  function recordCrash({ endpointId }: Worker, reason: string, hadWorked: boolean): void {
    crashes.record(endpointId, { reason, hadWorked }, clock.nowMs());
  }

  /** Rows without a process ended with the process that owned them: their jobs go back uncounted. */
  async function adopt(): Promise<void> {
    const present = await listed();
    const running = new Map(
      present.filter(({ exit }) => exit === null).map((worker) => [worker.workerId, worker]),
    );
    const ended = new Map(present.flatMap(({ exit }) => (exit ? [[exit.workerId, exit] as const] : [])));
    for (const worker of store.fleet.workers())
      await adoptWorker(worker, running.get(worker.id)?.handle, ended.get(worker.id));
    for (const { workerId, pool } of running.values()) if (!isPresent(workerId)) await pool.kill(workerId);
  }

  async function listed() {
    const all = Object.values(pools).map(async (pool) =>
      (await pool.list()).map((each) => ({ ...each, pool })),
    );
    return (await Promise.all(all)).flat();
  }

  async function adoptWorker(
    worker: Worker,
    handle: string | undefined,
    exit: WorkerExit | undefined,
  ): Promise<void> {
    const nowMs = clock.nowMs();
    if (handle === undefined && !exit) {
      const reason = "its process ended with the daemon";
      await store.jobs.endLeases(worker.id, "return", reason, nowMs);
      await store.fleet.moveWorker(worker.id, { to: "gone", reason, revoke: true }, nowMs);
      return;
    }
    // Its start was still under way when the daemon before this one ended.
    if (worker.state === "wanted") {
      const reason = "booting the handler";
      await store.fleet.moveWorker(worker.id, { to: "starting", reason, handle: handle ?? null }, nowMs);
    }
    if (exit) await settleExit(exit);
  }

  function isPresent(workerId: WorkerId): boolean {
    const state = store.fleet.worker(workerId)?.state;
    return state !== undefined && state !== "gone";
  }

  const draining = () => store.fleet.workers().filter(({ state }) => state === "draining");

  async function shutDown(graceMs: number): Promise<void> {
    shuttingDown = true;
    const workers = store.fleet.workers();
    await Promise.all(workers.map(({ id }) => drain(id, "the daemon is stopping")));
    const deadlineMs = clock.nowMs() + graceMs;
    while (workers.some(({ id }) => activity.leases(id) > 0) && clock.nowMs() < deadlineMs)
      await clock.sleep(50);
    await Promise.all(
      workers.map(({ id }) => store.jobs.endLeases(id, "return", "the daemon stopped", clock.nowMs())),
    );
    await Promise.all(workers.map(({ id }) => stopWorker(id)));
    const killAtMs = clock.nowMs() + 2_000;
    while (draining().length > 0 && clock.nowMs() < killAtMs) await clock.sleep(20);
    await Promise.all(draining().map((worker) => poolOf(worker).kill(worker.id)));
    const endAtMs = clock.nowMs() + 2_000;
    while (draining().length > 0 && clock.nowMs() < endAtMs) await clock.sleep(20);
    await loop.stop();
  }

  return {
    adopt,
    start: loop.start,
    nudge: loop.nudge,
    stop: loop.stop,
    condemn: (workerId, reason) => {
      condemnNow(workerId, reason).catch((error: unknown) =>
        log.error({ err: error, workerId }, "condemn failed"),
      );
    },
    drain,
    shutDown,
    crashState: crashes.of,
  };
}

function causeOf(error: unknown): string {
  if (error instanceof RpxError) return error.why ? `${error.message}, ${error.why}` : error.message;
  return error instanceof Error ? error.message : String(error);
}
