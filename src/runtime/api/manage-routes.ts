import type { Readable } from "node:stream";
import type { z } from "zod";
import { RpxError } from "../../contract/error.ts";
import type { ApiRouteName } from "../../contract/routes.ts";
import { createKeySchema, type KeyBody, type StatusBody } from "../../contract/schemas/daemon.ts";
import {
  createEndpointSchema,
  type EndpointBody,
  updateEndpointSchema,
} from "../../contract/schemas/endpoint.ts";
import type { WorkerBody } from "../../contract/schemas/worker.ts";
import { readObject, spliceArray, spliceObject } from "../../text/json-text.ts";
import type { Activity } from "../core/activity.ts";
import {
  type Endpoint,
  type EndpointId,
  JOB_STATES,
  type Job,
  type JobId,
  type JobState,
  type Key,
  type PoolKind,
  type Worker,
} from "../core/model.ts";
import { countWorkers } from "../core/worker-view.ts";
import type { JobView, Store } from "../ports/store.ts";
import type { Endpoints } from "../service/endpoints.ts";
import type { Keys, Principal } from "../service/keys.ts";
import type { Reconciler } from "../service/reconciler.ts";
import type { Why } from "../service/why.ts";
import { endpointBody, eventBody, jobRecord, workerBody } from "./present.ts";
import { type OnStep, withProgress } from "./progress.ts";
import type { Answer } from "./reply.ts";
import type { Call } from "./request.ts";
import type { Handler } from "./server.ts";

/** Where a folder's tar lies after it was sent. */
export type Bundles = {
  has(digest: string): boolean;
  receive(digest: string, body: Readable): Promise<void>;
};

export type ManageRoutesOptions = {
  readonly store: Store;
  readonly endpoints: Endpoints;
  readonly keys: Keys;
  readonly reconciler: Pick<Reconciler, "drain" | "crashState">;
  readonly activity: Activity;
  readonly why: Why;
  readonly bundles: Bundles;
  readonly isolationOf: (pool: PoolKind) => WorkerBody["isolation"];
  readonly status: () => Promise<StatusBody>;
  /** Base of the job operations of an endpoint. */
  readonly urlOf: (endpoint: Endpoint) => string;
};

type ManageRouteName = Exclude<
  ApiRouteName,
  | "healthz"
  | "endpointLogs"
  | "workerLogs"
  | "events"
  | "listSecrets"
  | "setSecret"
  | "unsetSecret"
  | "listRegistries"
  | "setRegistry"
  | "removeRegistry"
  | "listImages"
  | "buildImage"
  | "pullImage"
  | "pruneImages"
>;

const MAX_LIST = 1_000;
const DEFAULT_LIST = 50;
const MAX_EVENTS = 1_000;

/** The native API of our CLI and monitor: everything but the streams. */
export function createManageRoutes(
  options: ManageRoutesOptions,
): Record<ManageRouteName, Handler<Principal>> {
  const { store, endpoints, keys, reconciler, activity, why } = options;

  function present(endpoint: Endpoint, owner: string | null): EndpointBody {
    const workers = store.fleet.workers().filter(({ endpointId }) => endpointId === endpoint.id);
    const crash = reconciler.crashState(endpoint.id);
    const release = endpoints.liveRelease(endpoint);
    return endpointBody(endpoint, {
      url: options.urlOf(endpoint),
      release,
      counts: store.jobs.counts(endpoint.id, owner),
      workers: countWorkers(workers.map((worker) => ({ worker, leases: activity.leases(worker.id) }))),
      isolation: options.isolationOf(release.spec.pool),
      failing:
        crash.failures > 0 && crash.lastReason !== null
          ? {
              degraded: crash.degraded,
              reason: `workers fail, ${crash.failures} in a row; the last: ${crash.lastReason}`,
            }
          : null,
    });
  }

  async function listEndpoints(call: Call<Principal>): Promise<Answer> {
    return json(endpoints.list(call.principal).map(({ endpoint, owner }) => present(endpoint, owner)));
  }

  async function getEndpoint(call: Call<Principal>): Promise<Answer> {
    const { endpoint, owner } = endpoints.find(call.principal, call.params.endpoint ?? "");
    return json(present(endpoint, owner));
  }

  function building(call: Call<Principal>, build: (onStep: OnStep) => Promise<Endpoint>): Promise<Answer> {
    return withProgress(call, "endpoint", async (onStep) => present(await build(onStep), null));
  }

  async function createEndpoint(call: Call<Principal>): Promise<Answer> {
    const request = parse(createEndpointSchema, call);
    return building(call, (onStep) => endpoints.create(call.principal, request, onStep, call.signal));
  }

  async function updateEndpoint(call: Call<Principal>): Promise<Answer> {
    const request = parse(updateEndpointSchema, call);
    const name = call.params.endpoint ?? "";
    return building(call, (onStep) => endpoints.update(call.principal, name, request, onStep, call.signal));
  }

  async function deleteEndpoint(call: Call<Principal>): Promise<Answer> {
    const endpoint = endpoints.own(call.principal, call.params.endpoint ?? "");
    await endpoints.delete(call.principal, endpoint.id);
    return json({ id: endpoint.id, name: endpoint.name, deleted: true });
  }

  async function putBundle(call: Call<Principal>): Promise<Answer> {
    const digest = digestOf(call);
    if (call.body) await options.bundles.receive(digest, call.body);
    return json({ digest });
  }

  async function hasBundle(call: Call<Principal>): Promise<Answer> {
    const digest = digestOf(call);
    if (options.bundles.has(digest)) return json({ digest });
    throw new RpxError("not_found", "this bundle was not sent");
  }

  /** Jobs that the caller may see: all for an admin, else those of own endpoints and, on shared ones, its owner's. */
  function listJobs(call: Call<Principal>): Promise<Answer> {
    const { query, principal } = call;
    const states = readStates(query.getAll("status"));
    const endpointRef = query.get("endpoint");
    const visible = endpointRef ? [endpoints.find(principal, endpointRef)] : endpoints.list(principal);
    const idPrefix = query.get("idPrefix");
    const worker = query.get("worker");
    const limit = readLimit(query.get("limit"));
    const filter = {
      limit,
      ...(states.length > 0 && { states }),
      ...(idPrefix && { idPrefix }),
      ...(worker && { workerId: worker as Worker["id"] }),
      ...(query.has("before") && { beforeSeq: readLimit(query.get("before"), Number.MAX_SAFE_INTEGER) }),
    };
    const all = principal.scope === "admin" && !endpointRef;
    const jobs = all
      ? store.jobs.list(filter)
      : visible
          .flatMap(({ endpoint, owner }) =>
            store.jobs.list({ ...filter, endpointId: endpoint.id, ...(owner !== null && { owner }) }),
          )
          .sort((a, b) => b.seq - a.seq)
          .slice(0, limit);
    return Promise.resolve(
      jsonText(spliceArray(jobs.map((job) => record({ job, payload: NO_PAYLOAD }, job.seq, false)))),
    );
  }

  function record(view: JobView, seq: number | undefined, withPayload: boolean): string {
    const endpoint = endpoints.byId(view.job.endpointId);
    const facts = {
      endpointName: endpoint?.name ?? view.job.endpointId,
      reason: why(view.job, endpoint),
      ...(seq !== undefined && { seq }),
    };
    return jobRecord(view, facts, withPayload);
  }

  async function getJob(call: Call<Principal>): Promise<Answer> {
    const view = store.jobs.view((call.params.job ?? "") as JobId);
    if (!view || !maySee(call.principal, view.job))
      throw new RpxError("not_found", `no job "${call.params.job}"`, { hint: "rpx job list" });
    const kept =
      !("end" in view.job) || view.payload.inputJson !== "null" || view.payload.outputJson !== null;
    const events = store.journal.read({ jobId: view.job.id, limit: MAX_EVENTS }).map(eventBody);
    const members = readObject(record(view, undefined, kept), { maxDepth: Number.POSITIVE_INFINITY });
    if (!members.ok) throw new Error(`job ${view.job.id} cannot be shown: ${members.reason}`);
    return jsonText(spliceObject([...members.members, ["events", JSON.stringify(events)]]));
  }

  function maySee(principal: Principal, job: Job): boolean {
    if (principal.scope === "admin" || job.owner === principal.owner) return true;
    return endpoints.byId(job.endpointId)?.owner === principal.owner;
  }

  function presentWorker(worker: Worker): WorkerBody {
    const endpoint = endpoints.byId(worker.endpointId);
    const jobIds = store.jobs.leases(worker.id).map(({ id }) => id);
    return workerBody(worker, { endpoint, jobIds, isolation: options.isolationOf(worker.pool) });
  }

  async function listWorkers(call: Call<Principal>): Promise<Answer> {
    const endpointRef = call.query.get("endpoint");
    const visible = endpointRef
      ? [endpoints.find(call.principal, endpointRef)]
      : endpoints.list(call.principal);
    const own = new Set<EndpointId>(
      visible.flatMap(({ endpoint, owner }) => (owner === null ? [endpoint.id] : [])),
    );
    const workers = call.query.has("all")
      ? store.fleet.listWorkers({ limit: MAX_LIST })
      : [...store.fleet.workers()].reverse();
    return json(workers.filter(({ endpointId }) => own.has(endpointId)).map(presentWorker));
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

  async function stopWorker(call: Call<Principal>): Promise<Answer> {
    const worker = findWorker(call);
    await reconciler.drain(worker.id, `stopped by ${call.principal.owner}`);
    return json(presentWorker(store.fleet.worker(worker.id) ?? worker));
  }

  const presentKey = (key: Key): KeyBody => ({
    id: key.id,
    name: key.name,
    owner: key.owner,
    scope: key.scope,
    endpoints: key.endpointIds.map((id) => endpoints.byId(id)?.name ?? id),
    prefix: key.prefix,
    maxQueued: store.keys.ownerMaxQueued(key.owner),
    createdAt: new Date(key.createdAtMs).toISOString(),
    lastUsedAt: key.lastUsedAtMs === null ? null : new Date(key.lastUsedAtMs).toISOString(),
    revokedAt: key.revokedAtMs === null ? null : new Date(key.revokedAtMs).toISOString(),
  });

  async function createKey(call: Call<Principal>): Promise<Answer> {
    const request = parse(createKeySchema, call);
    const endpointIds = (request.endpoints ?? []).map(
      (ref) => endpoints.find(call.principal, ref).endpoint.id,
    );
    const owner = request.owner ?? request.name;
    const { key, text } = await keys.create({
      name: request.name,
      owner,
      endpointIds,
      ...(request.scope && { scope: request.scope }),
    });
    if (request.maxQueued !== undefined) await store.keys.setOwnerMaxQueued(owner, request.maxQueued);
    return json({ ...presentKey(key), key: text });
  }

  return {
    status: async (call) =>
      json(call.principal.scope === "admin" ? await options.status() : publicStatus(await options.status())),
    listEndpoints,
    createEndpoint,
    getEndpoint,
    updateEndpoint,
    deleteEndpoint,
    putBundle,
    hasBundle,
    listJobs,
    getJob,
    listWorkers,
    getWorker: async (call) => json(presentWorker(findWorker(call))),
    stopWorker,
    listKeys: async () => json(keys.list().map(presentKey)),
    createKey,
    revokeKey: async (call) => json(presentKey(await keys.revoke(call.params.key ?? ""))),
  };
}

const NO_PAYLOAD = { inputJson: "null", extrasJson: "{}", outputJson: null, error: null };

/** Who is no admin learns nothing of the host. */
function publicStatus(status: StatusBody): StatusBody {
  return {
    ...status,
    pid: 0,
    dataDir: "",
    disk: { databaseBytes: 0, freeBytes: 0, minFreeBytes: 0, usage: [] },
  };
}

export function json(value: unknown): Answer {
  return jsonText(JSON.stringify(value));
}

function jsonText(text: string): Answer {
  return { kind: "json", text };
}

/** The body by its schema; the refusal names the first field that is wrong. */
export function parse<S extends z.ZodType>(schema: S, call: Call<unknown>): z.infer<S> {
  let value: unknown;
  try {
    value = JSON.parse(call.text());
  } catch {
    throw new RpxError("bad_request", "the body is not valid JSON");
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new RpxError(
    "bad_request",
    `${issue?.path.join(".") || "the body"}: ${issue?.message ?? "not as expected"}`,
  );
}

function digestOf(call: Call<unknown>): string {
  const digest = call.params.digest ?? "";
  if (!/^[0-9a-f]{64}$/.test(digest))
    throw new RpxError("bad_request", "a bundle is named by its SHA-256 in hex");
  return digest;
}

function readLimit(text: string | null, most = MAX_LIST): number {
  if (text === null) return DEFAULT_LIST;
  const limit = Number(text);
  if (!Number.isInteger(limit) || limit < 1)
    throw new RpxError("bad_request", `"${text}" is no positive whole number`);
  return Math.min(limit, most);
}

function readStates(values: readonly string[]): JobState[] {
  return values
    .flatMap((value) => value.split(","))
    .map((value) => {
      const state = JOB_STATES.find((each) => each === value.toUpperCase());
      if (!state)
        throw new RpxError("bad_request", `"${value}" is no job state`, { hint: JOB_STATES.join(", ") });
      return state;
    });
}
