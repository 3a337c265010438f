import { RpxError } from "../../contract/error.ts";
import { type CreateEndpoint, RESERVED_NAMES, type UpdateEndpoint } from "../../contract/schemas/endpoint.ts";
import {
  type Endpoint,
  type EndpointId,
  type EndpointSettings,
  NO_RELEASE,
  type PoolKind,
  type Release,
  type ReleaseSpec,
  type ReleaseTest,
} from "../core/model.ts";
import { releaseDiff } from "../core/release-diff.ts";
import { changedSpec, specOf } from "../core/release-spec.ts";
import { resolveSettings } from "../core/settings.ts";
import type { Clock } from "../ports/clock.ts";
import type { Random } from "../ports/random.ts";
import type { ReleaseDraft, Store } from "../ports/store.ts";
import type { OnStep } from "../ports/worker-pool.ts";
import type { Events } from "./events.ts";
import type { Releases } from "./releases.ts";

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
  /** Builds and stores. */
  create(caller: Caller, request: CreateEndpoint, work: Work): Promise<Made>;
  update(caller: Caller, idOrName: string, request: UpdateEndpoint, work: Work): Promise<Made>;
  /** A new release of what an older one was made of: the one that served before, unless `to` names another. */
  rollback(caller: Caller, idOrName: string, to: number | null, work: Work): Promise<Made>;
  setPaused(caller: Caller, idOrName: string, paused: boolean): Promise<Endpoint>;
  /** Cancels its jobs and forgets it; the reconciler ends its workers. */
  delete(caller: Caller, idOrName: string): Promise<void>;
  /** The release that an endpoint shows: the live one, else the one on its way, else the newest. */
  shownRelease(endpoint: Endpoint): Release;
  /** Newest first. */
  releases(endpoint: Endpoint): readonly Release[];
};

export type EndpointsOptions = {
  readonly store: Pick<Store, "fleet" | "jobs">;
  readonly clock: Clock;
  readonly random: Random;
  readonly events: Events;
  readonly releases: Releases;
  /** Where workers of a new endpoint run whose request does not say; tells why. */
  readonly defaultPool: (request: CreateEndpoint, onStep: OnStep) => PoolKind;
  /** Throws where variables or a webhook's secret ask for a secret that the owner does not have. */
  readonly checkSecrets: (
    asking: { readonly env?: ReleaseSpec["env"]; readonly webhookSecret?: string | null },
    owner: string,
  ) => void;
};

/** How the caller follows a build, and gives it up. */
export type Work = { readonly onStep: OnStep; readonly signal: AbortSignal };

/** An endpoint, and the release that a change made; null: none. */
export type Made = { readonly endpoint: Endpoint; readonly release: Release | null };

const ID_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz";
const ID_LENGTH = 14;
const CANCEL_BATCH = 500;
const FIRST_VERSION = 1;
/** Releases that a listing shows. */
const MAX_RELEASES = 100;
const DEFAULT_TEST_TIMEOUT_MS = 60_000;

export function createEndpoints(options: EndpointsOptions): Endpoints {
  const { store, clock, random, events, releases, checkSecrets } = options;
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
    if (kind.startsWith("endpoint.") || kind === "scaler.decide" || kind.startsWith("release.")) reload();
  });

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

  async function create(caller: Caller, request: CreateEndpoint, work: Work): Promise<Made> {
    refuseReserved(request.name, request.id);
    if (byName.has(request.name)) throw taken(request.name);
    const pool = request.pool ?? options.defaultPool(request, work.onStep);
    const spec = specOf(request, request.config, pool, caller.scope === "admin");
    const settings = resolveSettings(request.config);
    checkSecrets({ env: spec.env, webhookSecret: settings.webhookSecret }, caller.owner);
    const id = (request.id ?? random.text(ID_LENGTH, ID_ALPHABET)) as EndpointId;
    const built = await releases.build(
      { endpointId: id, version: FIRST_VERSION },
      spec,
      work.onStep,
      work.signal,
    );
    const nowMs = clock.nowMs();
    const isProven = request.rollout !== "prove";
    const endpoint: Endpoint = {
      id,
      name: request.name,
      owner: caller.owner,
      settings,
      liveRelease: isProven ? FIRST_VERSION : NO_RELEASE,
      candidateRelease: isProven ? null : FIRST_VERSION,
      paused: false,
      desired: { workers: 0, reason: "new" },
      createdAtMs: nowMs,
    };
    const release: Release = {
      endpointId: id,
      version: FIRST_VERSION,
      state: isProven ? "live" : "proving",
      reason: isProven ? "serves" : "its first worker has to become ready",
      spec,
      built,
      diff: releaseDiff(null, spec),
      origin: "create",
      tests: testsOf(request.tests),
      createdAtMs: nowMs,
      liveAtMs: isProven ? nowMs : null,
    };
    const outcome = await store.fleet.createEndpoint(endpoint, release, nowMs);
    if (outcome === "name_taken") throw taken(request.name);
    if (outcome === "id_taken")
      throw new RpxError("conflict", `the id "${id}" is in use`, { hint: "choose another --id" });
    return { endpoint, release };
  }

  async function update(
    caller: Caller,
    idOrName: string,
    request: UpdateEndpoint,
    work: Work,
  ): Promise<Made> {
    const endpoint = own(caller, idOrName);
    if (request.name !== undefined) refuseReserved(request.name);
    const { config = {} } = request;
    // Refused before a long build, where it can be.
    resolveSettings(config, endpoint.settings);
    checkSecrets({ env: config.env ?? {}, webhookSecret: config.webhook?.secret ?? null }, endpoint.owner);
    const saveSettings = async () => {
      const change = {
        settings: (present: EndpointSettings) => resolveSettings(config, present),
        ...(request.name !== undefined && { name: request.name }),
      };
      const outcome = await store.fleet.updateEndpoint(endpoint.id, change, clock.nowMs());
      if (outcome === "missing") throw unknown(idOrName);
      if (outcome === "name_taken") throw taken(request.name ?? endpoint.name);
    };
    const release = await releases.roll({
      endpointId: endpoint.id,
      make: (base) => draftOf(caller, endpoint.id, base, request),
      rollout: request.rollout ?? (request.code?.source.kind === "folder" ? "at_once" : "prove"),
      built: null,
      commit: saveSettings,
      ...work,
    });
    if (release === null) await saveSettings();
    return { endpoint: byId.get(endpoint.id) ?? endpoint, release };
  }

  /** The release that a request makes of the one before it; null when nothing that a worker is made of changes. */
  function draftOf(
    caller: Caller,
    id: EndpointId,
    base: Release,
    request: UpdateEndpoint,
  ): ReleaseDraft | null {
    // What failed is made again, also when nothing changed: the cause may be gone.
    const spec =
      changedSpec(base.spec, request, caller.scope === "admin") ??
      (base.state === "failed" && request.code ? base.spec : null);
    if (spec === null) return null;
    return {
      spec,
      diff: releaseDiff(liveSpec(id), spec),
      origin: request.origin ?? "update",
      tests: testsOf(request.tests),
      reason: "being built",
    };
  }

  function liveSpec(id: EndpointId): ReleaseSpec | null {
    const live = byId.get(id)?.liveRelease ?? NO_RELEASE;
    return store.fleet.release(id, live)?.spec ?? null;
  }

  async function rollback(caller: Caller, idOrName: string, to: number | null, work: Work): Promise<Made> {
    const endpoint = own(caller, idOrName);
    const target = to === null ? before(endpoint) : store.fleet.release(endpoint.id, to);
    if (!target?.built)
      throw new RpxError(
        "not_found",
        `no release ${to ?? "before this one"} of "${endpoint.name}" can serve`,
        {
          hint: `rpx endpoint releases ${endpoint.name}`,
        },
      );
    const { built, spec, version } = target;
    const release = await releases.roll({
      endpointId: endpoint.id,
      make: () =>
        version === endpoint.liveRelease
          ? null
          : {
              spec,
              diff: releaseDiff(liveSpec(endpoint.id), spec),
              origin: `rollback to ${version}`,
              tests: [],
              reason: "being made",
            },
      rollout: "prove",
      built,
      commit: async () => {},
      ...work,
    });
    return { endpoint: byId.get(endpoint.id) ?? endpoint, release };
  }

  /** The release that served before the one that does. */
  function before({ id, liveRelease }: Endpoint): Release | null {
    const served = store.fleet
      .releases(id, MAX_RELEASES)
      .filter(({ liveAtMs, version }) => liveAtMs !== null && version !== liveRelease)
      .sort((a, b) => (b.liveAtMs ?? 0) - (a.liveAtMs ?? 0));
    return served[0] ?? null;
  }

  async function setPaused(caller: Caller, idOrName: string, paused: boolean): Promise<Endpoint> {
    const endpoint = own(caller, idOrName);
    const reason = `${paused ? "paused" : "resumed"} by ${caller.owner}`;
    await store.fleet.setPaused(endpoint.id, paused, reason, clock.nowMs());
    return byId.get(endpoint.id) ?? endpoint;
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

  function shownRelease({ id, liveRelease, candidateRelease }: Endpoint): Release {
    const version = liveRelease === NO_RELEASE ? candidateRelease : liveRelease;
    const release = version === null ? store.fleet.releases(id, 1)[0] : store.fleet.release(id, version);
    if (!release) throw new Error(`endpoint ${id} has no release ${version}`);
    return release;
  }

  return {
    find,
    own,
    list: (caller) => [...byId.values()].flatMap((endpoint) => see(caller, endpoint) ?? []),
    byId: (id) => byId.get(id) ?? null,
    create,
    update,
    rollback,
    setPaused,
    delete: remove,
    shownRelease,
    releases: ({ id }) => store.fleet.releases(id, MAX_RELEASES),
  };
}

/** A key sees its owner's endpoints whole, shared ones with its owner's jobs alone, and no others. */
function see(caller: Caller, endpoint: Endpoint): VisibleEndpoint | null {
  if (caller.scope === "admin" || endpoint.owner === caller.owner) return { endpoint, owner: null };
  return caller.endpointIds.includes(endpoint.id) ? { endpoint, owner: caller.owner } : null;
}

function testsOf(tests: CreateEndpoint["tests"] = []): ReleaseTest[] {
  return tests.map(({ name, input, timeoutMs = DEFAULT_TEST_TIMEOUT_MS, ...test }) => ({
    name,
    inputJson: JSON.stringify(input),
    timeoutMs,
    expectedJson: "expected" in test ? JSON.stringify(test.expected) : null,
  }));
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
