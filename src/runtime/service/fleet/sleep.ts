import type { EndpointId, SleepDepth, Worker, WorkerId } from "../../core/model.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Store } from "../../ports/store.ts";
import type { PoolWorker } from "../../ports/worker-pool.ts";
import type { Events } from "../events.ts";
import type { Fleet } from "./fleet.ts";

export type SleepOptions = {
  readonly store: Pick<Store, "fleet">;
  readonly clock: Clock;
  readonly events: Events;
  readonly fleet: Fleet;
  /** Answers a worker's held takes at once: one that sleeps must not be matched, one that was woken asks afresh. */
  readonly releaseTakes: (workerId: WorkerId) => void;
  /** Why a worker cannot have its part of the machine back now, null: it can. Sleepers of others are asked to make room. */
  readonly roomFor: (worker: Worker) => Promise<string | null>;
  readonly condemn: (workerId: WorkerId, reason: string) => Promise<void>;
  readonly log: { warn(fields: object, message: string): void };
};

/** FlashBoot: idle workers sleep, and are woken by the next job (D15, D21). */
export type Sleep = {
  park(workerId: WorkerId, depth: SleepDepth, reason: string): Promise<void>;
  wake(workerId: WorkerId): Promise<void>;
  /** Wakes the lightest sleeper of an endpoint, if there is one: it thaws while the job that needs it is being stored. */
  wakeOne(endpointId: EndpointId): void;
  /** When a worker was last woken; null: not by this daemon. */
  wokenAtMs(workerId: WorkerId): number | null;
  /** After a start of the daemon: row and pool agree again on whether a worker sleeps. */
  restore(worker: Worker, present: PoolWorker): Promise<void>;
};

export function createSleep(options: SleepOptions): Sleep {
  const { store, clock, fleet, log } = options;
  /** Frozen workers by endpoint: what a submit may thaw without asking the store. */
  const frozen = new Map<EndpointId, Set<WorkerId>>();
  const woken = new Map<WorkerId, number>();
  /** Calls to the pool that put to sleep or wake, by worker: one after the other. */
  const busy = new Map<WorkerId, Promise<void>>();

  for (const worker of store.fleet.workers())
    if (worker.asleep === "frozen") remember(worker.endpointId, worker.id);
  options.events.subscribe(({ kind, workerId, endpointId, data }) => {
    if (kind !== "worker.move" || workerId === null || endpointId === null) return;
    if (data.to === "parked" && data.asleep === "frozen") remember(endpointId, workerId);
    else frozen.get(endpointId)?.delete(workerId);
    if (data.to === "gone") woken.delete(workerId);
  });

  function remember(endpointId: EndpointId, workerId: WorkerId): void {
    const sleepers = frozen.get(endpointId) ?? new Set();
    frozen.set(endpointId, sleepers.add(workerId));
  }

  /** One at a time per worker, in the order asked for. */
  function inTurn(workerId: WorkerId, work: () => Promise<void>): Promise<void> {
    const before = busy.get(workerId) ?? Promise.resolve();
    const turn = before.then(work, work).finally(() => {
      if (busy.get(workerId) === turn) busy.delete(workerId);
    });
    busy.set(workerId, turn);
    return turn;
  }

  async function park(workerId: WorkerId, depth: SleepDepth, reason: string): Promise<void> {
    // The row first: from then on nobody hands it a job.
    if (!(await store.fleet.parkWorker(workerId, depth, reason, clock.nowMs()))) return;
    options.releaseTakes(workerId);
    await inTurn(workerId, async () => {
      const worker = store.fleet.worker(workerId);
      // Woken or ended meanwhile.
      if (worker?.state !== "parked" || worker.asleep !== depth) return;
      try {
        await fleet.poolOf(worker).park(workerId, depth);
      } catch (error) {
        log.warn({ workerId, err: error }, "worker could not be put to sleep");
        await stayUp(worker);
      }
    });
  }

  /** It would be asked to sleep again at once: it ends instead, unless it was its pool that went away. */
  async function stayUp(worker: Worker): Promise<void> {
    const { id } = worker;
    if (fleet.poolOf(worker).away() === null)
      return fleet.drain(id, "idle, and it could not be put to sleep");
    await store.fleet.moveWorker(id, { to: "ready", reason: "awake: it could not sleep" }, clock.nowMs());
  }

  async function wake(workerId: WorkerId): Promise<void> {
    const worker = store.fleet.worker(workerId);
    // Of a pool that is away nothing is asked: the next pass after its return wakes who is wanted.
    if (worker?.state !== "parked" || fleet.poolOf(worker).away() !== null) return;
    frozen.get(worker.endpointId)?.delete(workerId);
    woken.set(workerId, clock.nowMs());
    if (worker.asleep === "stopped") return wakeStopped(worker);
    // What it asked before it slept may be lost: it asks afresh.
    options.releaseTakes(workerId);
    const ready = store.fleet.moveWorker(
      workerId,
      { to: "ready", reason: "woken, asking for jobs" },
      clock.nowMs(),
    );
    const thawed = inTurn(workerId, () => fleet.poolOf(worker).wake(workerId));
    try {
      await Promise.all([ready, thawed]);
    } catch (error) {
      await notWoken(worker, error);
    }
  }

  /** Its program begins anew: it is ready when it asks for a job. */
  async function wakeStopped(worker: Worker): Promise<void> {
    const short = await options.roomFor(worker);
    if (short !== null) return store.fleet.setWorkerReason(worker.id, `asleep: ${short}`);
    const moved = await store.fleet.moveWorker(
      worker.id,
      { to: "starting", reason: "woken: booting the handler again" },
      clock.nowMs(),
    );
    if (!moved) return;
    try {
      await inTurn(worker.id, () => fleet.poolOf(worker).wake(worker.id));
      const reason = "woken: booting the handler again";
      await store.fleet.setStartStep(worker.id, { phase: "boot", reason }, clock.nowMs());
    } catch (error) {
      await notWoken(worker, error);
    }
  }

  /** One whose pool went away meanwhile is woken when it is back: row and pool are brought together again then. */
  async function notWoken(worker: Worker, error: unknown): Promise<void> {
    log.warn({ workerId: worker.id, err: error }, "worker not woken");
    if (fleet.poolOf(worker).away() === null)
      await options.condemn(worker.id, `it could not be woken: ${String(error)}`);
  }

  function wakeOne(endpointId: EndpointId): void {
    const [workerId] = frozen.get(endpointId) ?? [];
    if (workerId === undefined) return;
    wake(workerId).catch((error: unknown) => log.warn({ workerId, err: error }, "worker not woken"));
  }

  async function restore(worker: Worker, { asleep }: PoolWorker): Promise<void> {
    if (worker.state === "parked" && worker.asleep !== null && asleep !== worker.asleep)
      await inTurn(worker.id, () => fleet.poolOf(worker).park(worker.id, worker.asleep ?? "frozen"));
    // Parking or waking was cut off by the end of the daemon before.
    if (worker.state === "parked" || asleep === null) return;
    woken.set(worker.id, clock.nowMs());
    await inTurn(worker.id, () => fleet.poolOf(worker).wake(worker.id));
  }

  return { park, wake, wakeOne, wokenAtMs: (workerId) => woken.get(workerId) ?? null, restore };
}
