import type { EndpointBody } from "../../contract/schemas/endpoint.ts";
import type { Activity } from "../core/activity.ts";
import type { Endpoint, PoolKind } from "../core/model.ts";
import { countWorkers } from "../core/worker-view.ts";
import type { Store } from "../ports/store.ts";
import type { Isolation } from "../ports/worker-pool.ts";
import type { Endpoints } from "../service/endpoints.ts";
import type { Reconciler } from "../service/fleet/reconciler.ts";
import { endpointBody } from "./present.ts";

export type EndpointViewOptions = {
  readonly store: Pick<Store, "jobs" | "fleet">;
  readonly endpoints: Pick<Endpoints, "shownRelease">;
  readonly reconciler: Pick<Reconciler, "crashState">;
  readonly activity: Activity;
  readonly isolationOf: (pool: PoolKind) => Isolation;
  /** Base of the job operations of an endpoint. */
  readonly urlOf: (endpoint: Endpoint) => string;
};

/** An endpoint as the native API shows it; `owner` counts that owner's jobs alone. */
export type PresentEndpoint = (endpoint: Endpoint, owner: string | null) => EndpointBody;

export function createEndpointView(options: EndpointViewOptions): PresentEndpoint {
  const { store, endpoints, reconciler, activity } = options;

  return (endpoint, owner) => {
    const workers = store.fleet.workers().filter(({ endpointId }) => endpointId === endpoint.id);
    const crash = reconciler.crashState(endpoint.id);
    const release = endpoints.shownRelease(endpoint);
    return endpointBody(endpoint, {
      url: options.urlOf(endpoint),
      release,
      counts: store.jobs.counts(endpoint.id, owner),
      workers: countWorkers(workers.map((worker) => ({ worker, leases: activity.leases(worker.id) }))),
      isolation: options.isolationOf(release.spec.pool),
      throttled: workers.find(({ state }) => state === "wanted")?.reason ?? null,
      failing:
        crash.failures > 0 && crash.lastReason !== null
          ? {
              degraded: crash.degraded,
              reason: `workers fail, ${crash.failures} in a row; the last: ${crash.lastReason}`,
            }
          : null,
    });
  };
}
