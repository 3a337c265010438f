import { RpxError } from "../contract/error.ts";
import type { StatusBody } from "../contract/schemas/daemon.ts";
import { createEndpointView } from "./api/endpoint-view.ts";
import { createEventRoutes } from "./api/event-routes.ts";
import { createFleetRoutes } from "./api/fleet-routes.ts";
import type { HttpHost } from "./api/http-host.ts";
import { createJobRoutes } from "./api/job-routes.ts";
import { createManageRoutes } from "./api/manage-routes.ts";
import { createSecretRoutes } from "./api/secret-routes.ts";
import { createClientServer, createWorkerServer } from "./api/server.ts";
import { createWorkerRoutes } from "./api/worker-routes.ts";
import type { DaemonConfig } from "./config.ts";
import type { Endpoint, EndpointId, PoolKind } from "./core/model.ts";
import { originOf } from "./listeners.ts";
import type { BoundAddress } from "./ports/socket-host.ts";
import type { Isolation } from "./ports/worker-pool.ts";
import { allows, type Principal, parseAuthorization } from "./service/keys.ts";
import { createLogs } from "./service/logs.ts";
import type { Redact } from "./service/redaction.ts";
import { type Adapters, createServices, LOOPBACK_HOSTS, type Servers } from "./services.ts";

export type { Adapters, Disk, Host, Servers } from "./services.ts";

export type Daemon = {
  /** Opens both listeners, adopts what runs, and starts the loops. */
  start(): Promise<{ readonly url: string; readonly workerUrl: string }>;
  /** Where both listeners are, once open. */
  bound(): { readonly client: BoundAddress; readonly worker: BoundAddress } | null;
  /** The text of the first admin key, once, when there was none; handed to `keep` before the key is valid. */
  ensureAdmin(keep?: (text: string) => void): Promise<string | null>;
  /** A text of a worker without its secrets. What a pool says of its workers has passed it. */
  readonly redact: Redact;
  /** SIGTERM: refuses new work, waits for running jobs, ends the workers and closes. */
  drain(): Promise<void>;
  /** SIGHUP: answers what is in flight and closes; workers stay for the successor. */
  handOver(): Promise<void>;
};

/** Replies in flight at a hand-over or stop get this long. */
const REPLIES_MS = 10_000;
const HTTP_SERVERS: Servers = { client: createClientServer, worker: createWorkerServer };

/** The whole daemon over its adapters: services, HTTP, loops. Nothing runs before `start`. */
export function createDaemon(config: DaemonConfig, adapters: Adapters): Daemon {
  const { store, clock, pools, log, servers: make = HTTP_SERVERS } = adapters;
  const startedAtMs = clock.nowMs();
  const closing = new AbortController();
  let servers: { client: HttpHost; worker: HttpHost } | null = null;

  const services = createServices(config, adapters);
  const { admission, listeners, guard, events, activity, keys, redact, parts, endpoints, workers, rollouts } =
    services;
  const { jobs, deliveries, reconciler, stops, autoscaler, webhooks, why, loops } = services;
  const { logStore: logs } = adapters;
  const webhooksRun: { done: Promise<void> } = { done: Promise.resolve() };

  function clientUrl(): string {
    const bound = listeners.bound();
    return config.publicUrl ?? (bound ? originOf(bound.client, adapters.tls ? "https" : "http") : "");
  }
  const workerUrl = () => listeners.workerUrl("process") ?? "";

  const isolationOf = (kind: PoolKind): Isolation =>
    pools[kind]?.isolation() ?? { level: "none", reason: "this daemon runs without that pool" };

  const defaultKind = (): PoolKind => {
    if (config.pool !== "auto") return config.pool;
    return pools.docker?.away() === null ? "docker" : "process";
  };

  async function status(): Promise<StatusBody> {
    return {
      version: adapters.version,
      pid: adapters.pid,
      url: clientUrl(),
      workerUrl: workerUrl(),
      startedAt: new Date(startedAtMs).toISOString(),
      uptimeMs: clock.nowMs() - startedAtMs,
      dataDir: config.dataDir,
      pool: defaultKind(),
      isolation: isolationOf(defaultKind()).level,
      pools: Object.values(pools).map((pool) => ({
        kind: pool.kind,
        isolation: pool.isolation().level,
        isolationReason: pool.isolation().reason,
        away: pool.away(),
      })),
      health: admission.health(),
      disk: {
        databaseBytes: adapters.disk.databaseBytes(),
        freeBytes: admission.freeBytes(),
        minFreeBytes: config.minFreeBytes,
        usage: [...(await parts.diskUsage())],
      },
      journalSeq: store.journal.newestSeq(),
    };
  }

  function authenticate(authorization: string | undefined, remoteAddress: string): Principal {
    const principal = keys.authenticate(authorization, remoteAddress);
    if (principal) return principal;
    throw new RpxError("unauthorized", "no valid key", {
      hint: "send Authorization: Bearer <key>; rpx key create makes one",
    });
  }

  async function openServers(): Promise<{ client: HttpHost; worker: HttpHost }> {
    const urlOf = (endpoint: Endpoint) => `${clientUrl()}/v2/${endpoint.id}`;
    const shared = { store, endpoints, activity, keys, events, clock };
    const present = createEndpointView({ ...shared, reconciler, isolationOf, urlOf });
    const client = await make.client({
      version: adapters.version,
      log,
      clock,
      ...(adapters.tls && { tls: adapters.tls }),
      authenticate,
      allows: (principal, access) =>
        access !== "open" && access !== "worker" && allows(principal.scope, access),
      allowedHosts: () => allowedHosts,
      enterLimit: (principal, endpoint, operation) => {
        const id = endpointIdOf(principal, endpoint);
        const entry = services.rateLimits.enter(principal, id, operation);
        return entry.ok ? entry : { ...entry, headers: entry.headers as Record<string, string> };
      },
      handlers: {
        healthz: async () => ({ kind: "json", text: '{"status":"ok"}' }),
        ...createJobRoutes({
          ...shared,
          jobs,
          fleet: store.fleet,
          webhookGuard: guard,
          closing: closing.signal,
        }),
        ...createManageRoutes({ ...shared, why, bundles: parts.bundles, status, present }),
        ...createFleetRoutes({
          ...shared,
          reconciler,
          warm: autoscaler.warm,
          isolationOf,
          lastLines: ({ endpointId, id }, count) => logs.lastLines(endpointId, id, count),
          present,
        }),
        ...createSecretRoutes(services.secrets),
        ...parts.routes,
        ...createEventRoutes({
          ...shared,
          logs: createLogs({ logs, journal: store.journal, jobs: store.jobs, redact }),
          untilRevoked: ({ keyId }) => AbortSignal.any([services.revocations.signal(keyId), closing.signal]),
        }),
      },
    });
    const worker = await make.worker({
      version: adapters.version,
      log,
      clock,
      authenticateWorker: (authorization, endpoint, id) =>
        workers.authenticate(parseAuthorization(authorization), endpoint, id),
      ...createWorkerRoutes({ workers, deliveries, stops, endpoint: endpoints.byId, redact, log }),
    });
    return { client, worker };
  }

  /** A limit belongs to an endpoint however it is called; an unknown one has a limit of its own. */
  function endpointIdOf(principal: Principal, ref: string): EndpointId {
    try {
      return endpoints.find(principal, ref).endpoint.id;
    } catch {
      return ref as EndpointId;
    }
  }

  const allowedHosts: ReadonlySet<string> = new Set([
    ...LOOPBACK_HOSTS,
    config.host.toLowerCase(),
    ...(config.publicUrl ? [new URL(config.publicUrl).hostname.toLowerCase().replace(/^\[|\]$/g, "")] : []),
  ]);

  async function start() {
    servers = await openServers();
    const { client, worker } = servers;
    activity.seed(
      store.jobs.list({ states: ["IN_PROGRESS"], limit: Number.MAX_SAFE_INTEGER }).flatMap(runningOnly),
      clock.nowMs(),
    );
    await listeners.open({ client: client.accept, worker: worker.accept });
    await admission.look();
    await services.releases.failCutOff();
    await reconciler.adopt();
    rollouts.start();
    for (const loop of loops) loop.start();
    webhooksRun.done = webhooks.run(closing.signal);
    admission.watch(closing.signal).catch((error: unknown) => log.error({ err: error }, "disk watch ended"));
    return { url: clientUrl(), workerUrl: workerUrl() };
  }

  /** Answers every held request and waits, within bounds, until the replies have left. */
  async function finishReplies(): Promise<void> {
    closing.abort();
    deliveries.close();
    stops.close();
    if (!servers) return;
    const drained = Promise.all([servers.client.drain(), servers.worker.drain()]);
    await Promise.race([drained, clock.sleep(REPLIES_MS)]);
    await Promise.all([servers.client.close(), servers.worker.close()]);
  }

  async function close(): Promise<void> {
    await Promise.all(loops.map((loop) => loop.stop()));
    await finishReplies();
    await Promise.race([webhooksRun.done, clock.sleep(REPLIES_MS)]);
    await store.close();
  }

  return {
    start,
    bound: listeners.bound,
    ensureAdmin: keys.ensureAdmin,
    redact,
    drain: async () => {
      admission.stop();
      rollouts.stop();
      log.info({ graceMs: config.graceMs }, "stopping: new work is refused");
      await autoscaler.stop();
      await reconciler.shutDown(config.graceMs, config.stopWorkers);
      await close();
    },
    handOver: async () => {
      rollouts.stop();
      log.info({}, "handing over to a successor");
      await close();
    },
  };
}

function runningOnly<J extends { state: string }>(job: J): Extract<J, { state: "IN_PROGRESS" }>[] {
  return job.state === "IN_PROGRESS" ? [job as Extract<J, { state: "IN_PROGRESS" }>] : [];
}
