import { RpxError } from "../../contract/error.ts";
import {
  type CreateEndpoint,
  type EndpointConfig,
  RESERVED_NAMES,
  type UpdateEndpoint,
} from "../../contract/schemas/endpoint.ts";
import type {
  Endpoint,
  EndpointId,
  EndpointSettings,
  Hardware,
  ImageSettings,
  PoolKind,
  Release,
  ReleaseSpec,
} from "../core/model.ts";
import { resolveSettings } from "../core/settings.ts";
import type { Clock } from "../ports/clock.ts";
import type { Random } from "../ports/random.ts";
import type { Store } from "../ports/store.ts";
import type { Builders, ReleaseBuilder } from "../ports/worker-pool.ts";
import type { Events } from "./events.ts";

/** Who asks, as far as endpoints care. */
export type Caller = {
  readonly owner: string;
  readonly scope: string;
  readonly endpointIds: readonly EndpointId[];
};

/** An endpoint as one caller sees it: `owner` is null for all its jobs, else only that owner's exist. */
export type VisibleEndpoint = { readonly endpoint: Endpoint; readonly owner: string | null };

export type Endpoints = {
  /** By id or name; one that the caller may not see is `not_found` like one that does not exist. */
  find(caller: Caller, idOrName: string): VisibleEndpoint;
  /** As `find`, for changes: only the owner's own. */
  own(caller: Caller, idOrName: string): Endpoint;
  list(caller: Caller): readonly VisibleEndpoint[];
  byId(id: EndpointId): Endpoint | null;
  /** Builds and stores; says each step of the build through `onLine`. */
  create(
    caller: Caller,
    request: CreateEndpoint,
    onLine: (line: string) => void,
    signal: AbortSignal,
  ): Promise<Endpoint>;
  update(
    caller: Caller,
    idOrName: string,
    request: UpdateEndpoint,
    onLine: (line: string) => void,
    signal: AbortSignal,
  ): Promise<Endpoint>;
  /** Cancels its jobs and forgets it; the reconciler ends its workers. */
  delete(caller: Caller, idOrName: string): Promise<void>;
  liveRelease(endpoint: Endpoint): Release;
};

export type EndpointsOptions = {
  readonly store: Pick<Store, "fleet" | "jobs">;
  readonly clock: Clock;
  readonly random: Random;
  readonly events: Events;
  readonly builders: Builders;
  /** Throws where variables or a webhook's secret ask for a secret that the owner does not have. */
  readonly checkSecrets: (
    asking: { readonly env?: ReleaseSpec["env"]; readonly webhookSecret?: string | null },
    owner: string,
  ) => void;
};

const ID_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz";
const ID_LENGTH = 14;
const CANCEL_BATCH = 500;

export function createEndpoints(options: EndpointsOptions): Endpoints {
  const { store, clock, random, events, builders, checkSecrets } = options;
  let byId = new Map<string, Endpoint>();
  let byName = new Map<string, Endpoint>();
  const deleting = new Set<EndpointId>();
  const reload = () => {
    const all = store.fleet.endpoints();
    byId = new Map(all.map((endpoint) => [endpoint.id, endpoint]));
    byName = new Map(all.map((endpoint) => [endpoint.name, endpoint]));
  };
  reload();
  events.subscribe(({ kind }) => {
    if (kind.startsWith("endpoint.") || kind === "scaler.decide" || kind === "release.live") reload();
  });

  function builderOf({ pool }: ReleaseSpec): ReleaseBuilder {
    const builder = builders[pool];
    if (builder) return builder;
    throw new RpxError("unavailable", `this daemon has no pool "${pool}"`);
  }

  function find(caller: Caller, idOrName: string): VisibleEndpoint {
    const endpoint = byId.get(idOrName) ?? byName.get(idOrName);
    const visible = endpoint && !deleting.has(endpoint.id) && see(caller, endpoint);
    if (!visible) throw unknown(idOrName);
    return visible;
  }

  function own(caller: Caller, idOrName: string): Endpoint {
    const { endpoint, owner } = find(caller, idOrName);
    if (owner !== null)
      throw new RpxError("forbidden", `endpoint "${endpoint.name}" belongs to somebody else`);
    return endpoint;
  }

  async function create(
    caller: Caller,
    request: CreateEndpoint,
    onLine: (line: string) => void,
    signal: AbortSignal,
  ) {
    refuseReserved(request.name, request.id);
    if (byName.has(request.name)) throw taken(request.name);
    const spec = specOf(caller, request, request.config, request.pool ?? "process");
    const settings = resolveSettings(request.config);
    checkSecrets({ env: spec.env, webhookSecret: settings.webhookSecret }, caller.owner);
    const id = (request.id ?? random.text(ID_LENGTH, ID_ALPHABET)) as EndpointId;
    const built = await builderOf(spec).build({ endpointId: id, version: 1, spec }, onLine, signal);
    const nowMs = clock.nowMs();
    const endpoint: Endpoint = {
      id,
      name: request.name,
      owner: caller.owner,
      settings,
      liveRelease: 1,
      desired: { workers: 0, reason: "new" },
      createdAtMs: nowMs,
    };
    const outcome = await store.fleet.createEndpoint(
      endpoint,
      { endpointId: id, version: 1, spec, built, createdAtMs: nowMs },
      nowMs,
    );
    if (outcome === "name_taken") throw taken(request.name);
    if (outcome === "id_taken")
      throw new RpxError("conflict", `the id "${id}" is in use`, { hint: "choose another --id" });
    return endpoint;
  }

  async function update(
    caller: Caller,
    idOrName: string,
    request: UpdateEndpoint,
    onLine: (line: string) => void,
    signal: AbortSignal,
  ): Promise<Endpoint> {
    const { id } = own(caller, idOrName);
    if (request.name !== undefined) refuseReserved(request.name);
    for (;;) {
      const endpoint = own(caller, id);
      checkSecrets({ webhookSecret: request.config?.webhook?.secret ?? null }, endpoint.owner);
      // Refused before a long build, where it can be.
      resolveSettings(request.config ?? {}, endpoint.settings);
      const release = await nextRelease(caller, endpoint, request, onLine, signal);
      const change = {
        settings: (present: EndpointSettings) => resolveSettings(request.config ?? {}, present),
        ...(request.name !== undefined && { name: request.name }),
        ...(release && { release }),
      };
      const outcome = await store.fleet.updateEndpoint(id, change, clock.nowMs());
      if (outcome === "missing") throw unknown(idOrName);
      if (outcome === "name_taken") throw taken(request.name ?? endpoint.name);
      if (outcome === "updated") return byId.get(id) ?? endpoint;
      onLine("another release went live meanwhile: on top of that one");
    }
  }

  /** The release that the request makes of the live one, built; null when nothing that a worker is made of changes. */
  async function nextRelease(
    caller: Caller,
    endpoint: Endpoint,
    request: UpdateEndpoint,
    onLine: (line: string) => void,
    signal: AbortSignal,
  ): Promise<Release | null> {
    const spec = changedSpec(caller, liveRelease(endpoint).spec, request);
    if (spec === null) return null;
    checkSecrets({ env: spec.env }, endpoint.owner);
    const version = endpoint.liveRelease + 1;
    const built = await builderOf(spec).build({ endpointId: endpoint.id, version, spec }, onLine, signal);
    return { endpointId: endpoint.id, version, spec, built, createdAtMs: clock.nowMs() };
  }

  /** First nobody finds it any more, then its jobs end, then it goes: what stops in between can be done again. */
  async function remove(caller: Caller, idOrName: string): Promise<void> {
    const endpoint = own(caller, idOrName);
    deleting.add(endpoint.id);
    try {
      await cancelAll(endpoint.id);
      await store.fleet.deleteEndpoint(endpoint.id, clock.nowMs());
    } finally {
      deleting.delete(endpoint.id);
    }
  }

  async function cancelAll(endpointId: EndpointId): Promise<void> {
    const purge = { endpointId, owner: null, upToSeq: store.jobs.newestSeq(), limit: CANCEL_BATCH };
    while ((await store.jobs.purge(purge, clock.nowMs())) === CANCEL_BATCH);
    const present = () =>
      store.jobs.list({ endpointId, states: ["IN_QUEUE", "IN_PROGRESS"], limit: CANCEL_BATCH });
    for (let jobs = present(); jobs.length > 0; jobs = present()) {
      await Promise.all(jobs.map(({ id }) => store.jobs.cancel(id, clock.nowMs())));
    }
  }

  function liveRelease(endpoint: Endpoint): Release {
    const release = store.fleet.release(endpoint.id, endpoint.liveRelease);
    if (!release) throw new Error(`endpoint ${endpoint.id} has no release ${endpoint.liveRelease}`);
    return release;
  }

  return {
    find,
    own,
    list: (caller) => [...byId.values()].flatMap((endpoint) => see(caller, endpoint) ?? []),
    byId: (id) => byId.get(id) ?? null,
    create,
    update,
    delete: remove,
    liveRelease,
  };
}

/** A key sees its owner's endpoints whole, shared ones with its owner's jobs alone, and no others. */
function see(caller: Caller, endpoint: Endpoint): VisibleEndpoint | null {
  if (caller.scope === "admin" || endpoint.owner === caller.owner) return { endpoint, owner: null };
  return caller.endpointIds.includes(endpoint.id) ? { endpoint, owner: caller.owner } : null;
}

function specOf(
  caller: Caller,
  code: Pick<CreateEndpoint, "source" | "handler" | "python" | "dockerfile">,
  config: EndpointConfig,
  pool: PoolKind,
): ReleaseSpec {
  if (code.source.kind === "folder" && caller.scope !== "admin") {
    throw new RpxError("forbidden", "only an admin key may run a folder of the daemon's machine in place", {
      hint: "use `rpx endpoint create`, which sends a copy",
    });
  }
  return {
    pool,
    source: code.source,
    handler: code.handler ?? null,
    python: code.python ?? null,
    dockerfile: code.dockerfile ?? null,
    image: imageOf(config),
    hardware: hardwareOf(config),
    env: config.env ?? {},
  };
}

/** The next release's spec, or null when nothing that a worker is made of changes. */
function changedSpec(caller: Caller, before: ReleaseSpec, request: UpdateEndpoint): ReleaseSpec | null {
  const code = request.code ? specOf(caller, request.code, {}, before.pool) : before;
  const spec: ReleaseSpec = {
    ...code,
    image: { ...before.image, ...imageOf(request.config ?? {}) },
    hardware: { ...before.hardware, ...hardwareOf(request.config ?? {}) },
    env: request.config?.env ?? before.env,
  };
  const inPlace = request.code?.source.kind === "folder";
  return inPlace || JSON.stringify(spec) !== JSON.stringify(before) ? spec : null;
}

/** What is set of `[image]`; nothing stands for what is absent. */
function imageOf({ image = {} }: EndpointConfig): ImageSettings {
  return Object.fromEntries(Object.entries(image).filter(([, value]) => value !== undefined));
}

function hardwareOf({ gpu, volumes, limits = {} }: EndpointConfig): Hardware {
  const { memory, cpus, pids, shm, disk } = limits;
  const asked = Object.fromEntries(
    Object.entries({ memory, cpus, pids, shm, disk }).filter(([, value]) => value !== undefined),
  );
  return {
    ...(gpu && { gpu }),
    ...(volumes && { volumes }),
    ...(Object.keys(asked).length > 0 && { limits: asked }),
  };
}

function refuseReserved(name: string, id?: string): void {
  const reserved = [name, id].find((text) => text !== undefined && RESERVED_NAMES.includes(text));
  if (reserved === undefined) return;
  throw new RpxError("bad_request", `"${reserved}" is reserved`, {
    why: "RunPod's management API uses it as a path under /v2",
    hint: "choose another name",
  });
}

function taken(name: string): RpxError {
  return new RpxError("conflict", `the name "${name}" is in use`, {
    hint: "choose another name, or update that endpoint",
  });
}

function unknown(idOrName: string): RpxError {
  return new RpxError("not_found", `no endpoint "${idOrName}"`, { hint: "rpx endpoint list" });
}
