import { RpxError } from "../../contract/error.ts";
import type { ApiRouteName } from "../../contract/routes.ts";
import { rollbackSchema, warmSchema } from "../../contract/schemas/release.ts";
import type { WorkerBody } from "../../contract/schemas/worker.ts";
import type { Endpoint, EndpointId, PoolKind, Release, Worker } from "../core/model.ts";
import type { Store } from "../ports/store.ts";
import type { Isolation } from "../ports/worker-pool.ts";
import type { Endpoints } from "../service/endpoints.ts";
import type { Reconciler } from "../service/fleet/reconciler.ts";
import type { Principal } from "../service/keys.ts";
import { building } from "./building.ts";
import type { PresentEndpoint } from "./endpoint-view.ts";
import { json, parse } from "./json-body.ts";
import { releaseBody, workerBody } from "./present.ts";
import type { Answer } from "./reply.ts";
import type { Call } from "./request.ts";
import type { Handler } from "./server.ts";

export type FleetRoutesOptions = {
  readonly store: Store;
  readonly endpoints: Endpoints;
  readonly reconciler: Pick<Reconciler, "drain" | "crashState">;
  readonly warm: (endpointId: EndpointId, workers: number, why: string) => void;
  readonly isolationOf: (pool: PoolKind) => Isolation;
  /** The last lines that a worker printed. */
  readonly lastLines: (worker: Worker, count: number) => readonly string[];
  readonly present: PresentEndpoint;
};

export type FleetRouteName = Extract<
  ApiRouteName,
  | "listReleases"
  | "getRelease"
  | "rollbackEndpoint"
  | "pauseEndpoint"
  | "resumeEndpoint"
  | "warmEndpoint"
  | "listWorkers"
  | "getWorker"
  | "stopWorker"
  | "drainWorker"
>;

const MAX_LIST = 1_000;
const LAST_LINES = 20;

/** Releases and workers in the native API. */
export function createFleetRoutes(options: FleetRoutesOptions): Record<FleetRouteName, Handler<Principal>> {
  const { store, endpoints, reconciler } = options;
  const endpointRef = (call: Call<Principal>) => call.params.endpoint ?? "";

  async function listReleases(call: Call<Principal>): Promise<Answer> {
    const { endpoint } = endpoints.find(call.principal, endpointRef(call));
    return json(endpoints.releases(endpoint).map(shown));
  }

  async function getRelease(call: Call<Principal>): Promise<Answer> {
    const { endpoint } = endpoints.find(call.principal, endpointRef(call));
    const release = store.fleet.release(endpoint.id, Number(call.params.version));
    if (release) return json(shown(release));
    throw new RpxError("not_found", `"${endpoint.name}" has no release ${call.params.version}`, {
      hint: `rpx endpoint releases ${endpoint.name}`,
    });
  }

  /** A release that proves itself waits for its first worker: what that one is doing is the reason. */
  function shown(release: Release) {
    const body = releaseBody(release);
    if (release.state !== "proving") return body;
    const first = store.fleet
      .workers()
      .find(({ endpointId, release: of }) => endpointId === release.endpointId && of === release.version);
    const isUp = first === undefined || first.state === "ready";
    return isUp ? body : { ...body, reason: `${body.reason}: ${first.reason}` };
  }

  function rollbackEndpoint(call: Call<Principal>): Promise<Answer> {
    const { to = null } = parse(rollbackSchema, call);
    return Promise.resolve(
      building(call, "endpoint", async (work) => {
        const made = await endpoints.rollback(call.principal, endpointRef(call), to, work);
        return { ...options.present(made.endpoint, null), madeRelease: made.release?.version ?? null };
      }),
    );
  }

  const setPaused = (paused: boolean) => async (call: Call<Principal>) =>
    json(options.present(await endpoints.setPaused(call.principal, endpointRef(call), paused), null));

  async function warmEndpoint(call: Call<Principal>): Promise<Answer> {
    const { workers = 1 } = parse(warmSchema, call);
    const endpoint = endpoints.own(call.principal, endpointRef(call));
    const { max } = endpoint.settings.workers;
    if (endpoint.paused) throw cannotWarm(endpoint, "it is paused", "rpx endpoint resume");
    if (workers > max)
      throw cannotWarm(endpoint, `its workers.max is ${max}`, "raise --workers-max, or warm fewer");
    options.warm(endpoint.id, workers, `warmed by ${call.principal.owner}`);
    return json(options.present(endpoint, null));
  }

  function presentWorker(worker: Worker, withLines = false): WorkerBody {
    const endpoint = endpoints.byId(worker.endpointId);
    const { failures, retryAtMs } = reconciler.crashState(worker.endpointId);
    const hasEnded = worker.state === "failed" || worker.state === "gone";
    return workerBody(worker, {
      endpoint,
      jobIds: store.jobs.leases(worker.id).map(({ id }) => id),
      isolation: options.isolationOf(worker.pool),
      retryAtMs: worker.state === "failed" && failures > 0 ? retryAtMs : null,
      ...(withLines && hasEnded && { lastLines: options.lastLines(worker, LAST_LINES) }),
    });
  }

  async function listWorkers(call: Call<Principal>): Promise<Answer> {
    const ref = call.query.get("endpoint");
    const visible = ref ? [endpoints.find(call.principal, ref)] : endpoints.list(call.principal);
    const own = new Set<EndpointId>(
      visible.flatMap(({ endpoint, owner }) => (owner === null ? [endpoint.id] : [])),
    );
    const workers = call.query.has("all")
      ? store.fleet.listWorkers({ limit: MAX_LIST })
      : [...store.fleet.workers()].reverse();
    return json(
      workers.filter(({ endpointId }) => own.has(endpointId)).map((worker) => presentWorker(worker)),
    );
  }

  /** By id or unique prefix. */
  function findWorker(call: Call<Principal>): Worker {
    const ref = call.params.worker ?? "";
    const exact = store.fleet.worker(ref as Worker["id"]);
    const found = exact ? [exact] : store.fleet.workers().filter(({ id }) => id.startsWith(ref));
    const seen = found.filter(({ endpointId }) => {
      const endpoint = endpoints.byId(endpointId);
      return call.principal.scope === "admin" || endpoint?.owner === call.principal.owner;
    });
    const [worker] = seen;
    if (seen.length > 1)
      throw new RpxError("bad_request", `"${ref}" names ${seen.length} workers`, {
        hint: "give more of the id",
      });
    if (!worker) throw new RpxError("not_found", `no worker "${ref}"`, { hint: "rpx worker list" });
    return worker;
  }

  const drain = (verb: string) => async (call: Call<Principal>) => {
    const worker = findWorker(call);
    await reconciler.drain(worker.id, `${verb} by ${call.principal.owner}`);
    return json(presentWorker(store.fleet.worker(worker.id) ?? worker));
  };

  return {
    listReleases,
    getRelease,
    rollbackEndpoint,
    pauseEndpoint: setPaused(true),
    resumeEndpoint: setPaused(false),
    warmEndpoint,
    listWorkers,
    getWorker: async (call) => json(presentWorker(findWorker(call), true)),
    stopWorker: drain("stopped"),
    drainWorker: drain("drained"),
  };
}

function cannotWarm({ name }: Endpoint, why: string, hint: string): RpxError {
  return new RpxError("conflict", `"${name}" cannot be warmed`, { why, hint });
}
