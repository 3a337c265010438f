import type { Activity } from "../../core/activity.ts";
import type { Crashes } from "../../core/crash-backoff.ts";
import type { EndpointId, Worker, WorkerEnd, WorkerId } from "../../core/model.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Store } from "../../ports/store.ts";
import type { WorkerExit } from "../../ports/worker-pool.ts";
import type { Fleet } from "./fleet.ts";

export type EndsOptions = {
  readonly store: Pick<Store, "jobs" | "fleet">;
  readonly clock: Clock;
  readonly fleet: Fleet;
  readonly activity: Activity;
  readonly crashes: Crashes;
  /** What a worker said when a fitness check failed, or null. */
  readonly unfitReason: (workerId: WorkerId) => string | null;
  /** Answers a worker's held polls at once, so that it notices that it is asked to end. */
  readonly releasePolls: (workerId: WorkerId) => void;
  /** Gives a start under way up; false when there is none. */
  readonly abortStart: (workerId: WorkerId) => boolean;
  /** Whether the daemon ends: what ends with it is nobody's crash. */
  readonly isShuttingDown: () => boolean;
  readonly log: {
    info(fields: object, message: string): void;
    warn(fields: object, message: string): void;
  };
};

/** How workers end: asked to, killed, or by themselves. */
export type Ends = {
  /** An exit was seen: it is recorded in the next pass. */
  saw(exit: WorkerExit): void;
  /** Records the exits seen so far. */
  settle(): Promise<void>;
  /** Drained and without jobs: asks it to end. */
  stop(workerId: WorkerId): Promise<void>;
  /** Revokes and kills one worker; its jobs go back to the queue and count. */
  condemn(workerId: WorkerId, reason: string): Promise<void>;
  /** A start failed: it counts like a crash. */
  startFailed(worker: Worker, reason: string): Promise<void>;
  /** When a worker was asked to end; null before. */
  stopAskedAtMs(workerId: WorkerId): number | null;
  /** Whether a worker of a release that does not serve has ended, through no fault of its pool's being away. */
  hasFailed(ref: Pick<Worker, "endpointId" | "release">): boolean;
  /** The endpoint is gone. */
  forget(endpointId: EndpointId): void;
};

/** A condemned worker that does not die is killed again after this long. */
const KILL_AGAIN_MS = 5_000;

export function createEnds(options: EndsOptions): Ends {
  const { store, clock, fleet, activity, crashes, log } = options;
  const stopAskedAtMs = new Map<WorkerId, number>();
  const condemnedAtMs = new Map<WorkerId, number>();
  /** The last release of an endpoint whose worker ended before it served: it is tried no more. */
  const failed = new Map<EndpointId, number>();
  let exits: WorkerExit[] = [];

  /** Its polls are answered first, so that the signal finds it between two of them. */
  async function stop(workerId: WorkerId): Promise<void> {
    const worker = store.fleet.worker(workerId);
    if (!worker || activity.leases(workerId) > 0) return;
    stopAskedAtMs.set(workerId, clock.nowMs());
    if (options.abortStart(workerId)) return;
    await fleet.poolOf(worker).stop(workerId);
    options.releasePolls(workerId);
  }

  async function condemn(workerId: WorkerId, reason: string): Promise<void> {
    const worker = store.fleet.worker(workerId);
    const nowMs = clock.nowMs();
    if (!worker || nowMs - (condemnedAtMs.get(workerId) ?? Number.NEGATIVE_INFINITY) < KILL_AGAIN_MS) return;
    condemnedAtMs.set(workerId, nowMs);
    // One that never asked for a job is a failed start like one that exits (F-13).
    if (worker.state === "starting") {
      noteFailure(worker);
      recordCrash(worker, reason, false);
    }
    if (worker.state !== "gone") {
      log.warn({ workerId, reason }, "worker condemned");
      await Promise.all([
        store.fleet.moveWorker(workerId, { to: "draining", reason, revoke: true }, nowMs),
        store.jobs.endLeases(workerId, "lose", reason, nowMs),
      ]);
    }
    options.releasePolls(workerId);
    const pool = fleet.poolOf(worker);
    // Its leases are revoked; it is killed when the pool is back.
    if (options.abortStart(workerId) || pool.away() !== null) return;
    await pool.kill(workerId);
    await buryMissing(worker, reason);
  }

  /** A worker that the pool does not know has ended already. */
  async function buryMissing(worker: Worker, reason: string): Promise<void> {
    const present = (await fleet.poolOf(worker).list()).some(({ workerId }) => workerId === worker.id);
    if (!present) await bury(worker, { reason, bad: false });
  }

  async function settle(): Promise<void> {
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
    if (worker) await forgetExit(worker);
  }

  /** What cannot be dropped now is listed again by its pool, and dropped then. */
  async function forgetExit(worker: Worker): Promise<void> {
    await fleet
      .poolOf(worker)
      .forget(worker.id)
      .catch((error: unknown) => log.warn({ workerId: worker.id, err: error }, "worker not forgotten yet"));
  }

  async function recordExit(worker: Worker, exit: WorkerExit): Promise<void> {
    const nowMs = clock.nowMs();
    const asked = worker.state === "draining";
    const isLive = fleet.endpoint(worker.endpointId)?.liveRelease === worker.release;
    // One that slept did nothing: whatever ended it says nothing of the next start.
    const wasIdle = asked || worker.state === "parked";
    const bad =
      !wasIdle && isLive && (exit.code !== 0 || activity.leases(worker.id) > 0 || worker.readyAtMs === null);
    const reason = asked ? worker.reason : (options.unfitReason(worker.id) ?? exit.reason);
    const kind = options.isShuttingDown() ? "return" : "lose";
    const ended = store.jobs.endLeases(worker.id, kind, exit.reason, nowMs);
    if (bad) recordCrash(worker, reason, worker.readyAtMs !== null);
    await Promise.all([ended, bury(worker, { reason, bad, exit: endOf(exit) })]);
    const { endpointId } = worker;
    log.info(
      { workerId: worker.id, endpointId, code: exit.code, signal: exit.signal, reason },
      "worker ended",
    );
  }

  /** A worker that ended badly stays in view until its next try. */
  async function bury(
    worker: Worker,
    { reason, bad, exit }: { reason: string; bad: boolean; exit?: WorkerEnd },
  ): Promise<void> {
    const { id, endpointId } = worker;
    noteFailure(worker);
    const nowMs = clock.nowMs();
    const { retryAtMs } = crashes.of(endpointId);
    const waits = bad && retryAtMs > nowMs;
    const said = waits ? `${reason}; next try in ${Math.ceil((retryAtMs - nowMs) / 1_000)} s` : reason;
    const to = waits ? "failed" : "gone";
    await store.fleet.moveWorker(id, { to, reason: said, revoke: true, ...(exit && { exit }) }, nowMs);
  }

  /** A release fails with its worker in a turn that follows: none of its workers is started in between. */
  function noteFailure(worker: Worker): void {
    const { endpointId, release } = worker;
    const serves = fleet.endpoint(endpointId)?.liveRelease === release;
    const isOwnFault = fleet.poolOf(worker).away() === null && !options.isShuttingDown();
    if (!serves && isOwnFault) failed.set(endpointId, release);
  }

  async function startFailed(worker: Worker, reason: string): Promise<void> {
    const isLive = fleet.endpoint(worker.endpointId)?.liveRelease === worker.release;
    if (isLive) recordCrash(worker, reason, false);
    await bury(worker, { reason, bad: isLive });
  }

  /** A release that proves itself fails by its first crash: it holds nothing up that serves. */
  function recordCrash({ endpointId, release }: Worker, reason: string, hadWorked: boolean): void {
    if (fleet.endpoint(endpointId)?.liveRelease !== release) return;
    crashes.record(endpointId, { reason, hadWorked }, clock.nowMs());
  }

  return {
    saw: (exit) => void exits.push(exit),
    settle,
    stop,
    condemn,
    startFailed,
    stopAskedAtMs: (workerId) => stopAskedAtMs.get(workerId) ?? null,
    hasFailed: ({ endpointId, release }) => failed.get(endpointId) === release,
    forget: (endpointId) => void failed.delete(endpointId),
  };
}

function endOf({ code, signal, cause }: WorkerExit): WorkerEnd {
  return { code, signal, cause: cause ?? null };
}
