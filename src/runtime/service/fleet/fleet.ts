import type { BuiltVersion, Endpoint, EndpointId, Worker, WorkerId } from "../../core/model.ts";
import type { Store } from "../../ports/store.ts";
import type { Pools, WorkerPool } from "../../ports/worker-pool.ts";
import { absentPool } from "./absent-pool.ts";

/** What the reconciler's parts share: where a worker runs, what it is made of, and how it is asked to go. */
export type Fleet = {
  poolOf(worker: Pick<Worker, "pool">): WorkerPool;
  readonly pools: readonly WorkerPool[];
  endpoint(id: EndpointId): Endpoint | undefined;
  /** A release that can be started; null when it is gone or not built. */
  built(id: EndpointId, version: number): BuiltVersion | null;
  /** Hands a worker no more work; it ends when its jobs have. */
  drain(workerId: WorkerId, reason: string): Promise<void>;
  /** Another look, soon. */
  nudge(): void;
};

type FleetOptions = {
  readonly store: Pick<Store, "fleet">;
  readonly pools: Pools;
} & Pick<Fleet, "drain" | "nudge">;

export function createFleet({ store, pools, drain, nudge }: FleetOptions): Fleet {
  return {
    poolOf: ({ pool }) => pools[pool] ?? absentPool(pool),
    pools: Object.values(pools),
    endpoint: (id) => store.fleet.endpoints().find((endpoint) => endpoint.id === id),
    built: (id, version) => {
      const release = store.fleet.release(id, version);
      return release === null || release.built === null ? null : { ...release, built: release.built };
    },
    drain,
    nudge,
  };
}
