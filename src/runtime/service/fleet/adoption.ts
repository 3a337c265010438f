import type { Worker, WorkerId } from "../../core/model.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Store } from "../../ports/store.ts";
import type { PoolWorker, WorkerPool } from "../../ports/worker-pool.ts";
import type { Ends } from "./ends.ts";
import type { Fleet } from "./fleet.ts";
import type { Sleep } from "./sleep.ts";

export type AdoptionOptions = {
  readonly store: Pick<Store, "jobs" | "fleet">;
  readonly clock: Clock;
  readonly fleet: Fleet;
  readonly ends: Ends;
  readonly sleep: Sleep;
  readonly isStartUnderWay: (workerId: WorkerId) => boolean;
  readonly log: { info(fields: object, message: string): void };
};

/** Rows and what runs are brought together again: at a start of the daemon, and whenever a pool comes back. */
export type Adoption = {
  /** All pools, after a start; one that is away is swept when it is back. */
  adopt(): Promise<void>;
  /** Sweeps the pools that are back since they were away. */
  sweepReturned(): Promise<void>;
};

export function createAdoption(options: AdoptionOptions): Adoption {
  const { store, clock, fleet, ends, sleep, log } = options;
  const away = new Set<WorkerPool>();
  for (const pool of fleet.pools) {
    if (pool.away() !== null) away.add(pool);
    pool.onChange(() => {
      if (pool.away() !== null) away.add(pool);
      fleet.nudge();
    });
  }

  async function adopt(): Promise<void> {
    // Nothing of these was begun: their tokens are gone with the daemon that ordered them.
    for (const { id, state } of store.fleet.workers())
      if (state === "wanted") await bury(id, "the daemon ended before it was started");
    for (const pool of fleet.pools) if (!away.has(pool)) await sweep(pool);
  }

  async function sweepReturned(): Promise<void> {
    for (const pool of away) {
      if (pool.away() !== null) continue;
      away.delete(pool);
      try {
        await sweep(pool);
      } catch (error) {
        // Away again.
        away.add(pool);
        if (pool.away() === null) throw error;
      }
    }
  }

  /** Keeps what runs, ends what is left over, records what ended meanwhile (INV-8). */
  async function sweep(pool: WorkerPool): Promise<void> {
    const present = new Map((await pool.list()).map((worker) => [worker.workerId, worker]));
    const rows = store.fleet.workers().filter((worker) => worker.pool === pool.kind);
    for (const row of rows) await meet(row, present.get(row.id));
    const known = new Set(rows.map(({ id }) => id));
    for (const worker of present.values()) if (!known.has(worker.workerId)) await endStranger(pool, worker);
    await ends.settle();
    log.info({ pool: pool.kind, workers: rows.length }, "workers adopted");
  }

  async function meet(row: Worker, present: PoolWorker | undefined): Promise<void> {
    if (row.state === "wanted" || options.isStartUnderWay(row.id)) return;
    if (present === undefined) return endMissing(row);
    // Its start, or its waking, was cut off before that was noted; one that boots fast may be ready by now.
    if (row.handle === null || (row.bootedAtMs === null && row.state === "starting"))
      await store.fleet.setStartStep(
        row.id,
        { phase: "boot", reason: "booting the handler", handle: present.handle },
        clock.nowMs(),
      );
    if (present.exit) ends.saw(present.exit);
    else await sleep.restore(row, present);
  }

  /** How it ended is not known: its jobs go back uncounted. */
  async function endMissing({ id, state, pool }: Worker): Promise<void> {
    if (state === "failed") return;
    const reason = `${pool === "docker" ? "its container was removed" : "its process ended"} while nobody watched`;
    await store.jobs.endLeases(id, "return", reason, clock.nowMs());
    await bury(id, reason);
  }

  async function bury(id: WorkerId, reason: string): Promise<void> {
    await store.fleet.moveWorker(id, { to: "gone", reason, revoke: true }, clock.nowMs());
  }

  async function endStranger(pool: WorkerPool, { workerId, exit }: PoolWorker): Promise<void> {
    if (options.isStartUnderWay(workerId)) return;
    if (exit === null) await pool.kill(workerId);
    await pool.forget(workerId).catch(() => undefined);
  }

  return { adopt, sweepReturned };
}
