import type { Readable } from "node:stream";
import { RpxError } from "../../contract/error.ts";
import type { ApiRouteName } from "../../contract/routes.ts";
import { createKeySchema, type KeyBody, type StatusBody } from "../../contract/schemas/daemon.ts";
import { createEndpointSchema, updateEndpointSchema } from "../../contract/schemas/endpoint.ts";
import { readObject, spliceArray, spliceObject } from "../../text/json-text.ts";
import { JOB_STATES, type Job, type JobId, type JobState, type Key, type Worker } from "../core/model.ts";
import type { JobView, Store } from "../ports/store.ts";
import type { Endpoints, Made } from "../service/endpoints.ts";
import type { Keys, Principal } from "../service/keys.ts";
import type { Why } from "../service/why.ts";
import { building } from "./building.ts";
import type { PresentEndpoint } from "./endpoint-view.ts";
import type { FleetRouteName } from "./fleet-routes.ts";
import { json, jsonText, parse } from "./json-body.ts";
import { eventBody, jobRecord } from "./present.ts";
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
  readonly why: Why;
  readonly bundles: Bundles;
  readonly status: () => Promise<StatusBody>;
  readonly present: PresentEndpoint;
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
  | FleetRouteName
>;

const MAX_LIST = 1_000;
const DEFAULT_LIST = 50;
const MAX_EVENTS = 1_000;

/** The native API of our CLI and monitor: everything but the streams. */
export function createManageRoutes(
  options: ManageRoutesOptions,
): Record<ManageRouteName, Handler<Principal>> {
  const { store, endpoints, keys, present, why } = options;

  async function listEndpoints(call: Call<Principal>): Promise<Answer> {
    return json(endpoints.list(call.principal).map(({ endpoint, owner }) => present(endpoint, owner)));
  }

  async function getEndpoint(call: Call<Principal>): Promise<Answer> {
    const { endpoint, owner } = endpoints.find(call.principal, call.params.endpoint ?? "");
    return json(present(endpoint, owner));
  }

  const made = ({ endpoint, release }: Made) => ({
    ...present(endpoint, null),
    madeRelease: release?.version ?? null,
  });

  async function createEndpoint(call: Call<Principal>): Promise<Answer> {
    const request = parse(createEndpointSchema, call);
    return Promise.resolve(
      building(call, "endpoint", async (work) => made(await endpoints.create(call.principal, request, work))),
    );
  }

  async function updateEndpoint(call: Call<Principal>): Promise<Answer> {
    const request = parse(updateEndpointSchema, call);
    const name = call.params.endpoint ?? "";
    return Promise.resolve(
      building(call, "endpoint", async (work) =>
        made(await endpoints.update(call.principal, name, request, work)),
      ),
    );
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
