import type { Logger } from "pino";
import { RpxError } from "../contract/error.ts";
import type { StatusBody } from "../contract/schemas/daemon.ts";
import type { CreateEndpoint } from "../contract/schemas/endpoint.ts";
import { createAdmission } from "./admission.ts";
import { createEndpointView } from "./api/endpoint-view.ts";
import { createEventRoutes } from "./api/event-routes.ts";
import { createFleetRoutes } from "./api/fleet-routes.ts";
import type { HttpHost } from "./api/http-host.ts";
import { createJobRoutes } from "./api/job-routes.ts";
import { createManageRoutes } from "./api/manage-routes.ts";
import { webhookBody } from "./api/present.ts";
import { createSecretRoutes } from "./api/secret-routes.ts";
import {
  type ClientServerOptions,
  createClientServer,
  createWorkerServer,
  type WorkerServerOptions,
} from "./api/server.ts";
import { createWorkerRoutes } from "./api/worker-routes.ts";
import type { DaemonConfig } from "./config.ts";
import { createActivity } from "./core/activity.ts";
import type { Resources } from "./core/budget.ts";
import type { Endpoint, EndpointId, PoolKind, WorkerId } from "./core/model.ts";
import { createStandstill } from "./core/standstill.ts";
import type { Guard } from "./core/url-guard.ts";
import { createListeners, originOf } from "./listeners.ts";
import type { Clock } from "./ports/clock.ts";
import type { LogStore } from "./ports/log-store.ts";
import type { Random } from "./ports/random.ts";
import type { SecretBox } from "./ports/secret-box.ts";
import type { BoundAddress, SocketHost } from "./ports/socket-host.ts";
import type { Store } from "./ports/store.ts";
import type { WebhookNet } from "./ports/webhook-net.ts";
import type { OnStep, Pools } from "./ports/worker-pool.ts";
import { createReleaseParts, type ReleaseAdapters } from "./release-parts.ts";
import { createAutoscaler } from "./service/autoscaler.ts";
import { createDeliveries } from "./service/deliveries.ts";
import { createEndpoints } from "./service/endpoints.ts";
import { createEvents } from "./service/events.ts";
import { createReconciler, type Reconciler } from "./service/fleet/reconciler.ts";
import { createRollouts } from "./service/fleet/rollouts.ts";
import { createJobs } from "./service/jobs.ts";
import { allows, createKeys, type Principal, parseAuthorization } from "./service/keys.ts";
import { createLeaseSweep } from "./service/leases.ts";
import { createLogs } from "./service/logs.ts";
import { createRateLimits } from "./service/rate-limits.ts";
import { createRedaction, type Redact } from "./service/redaction.ts";
import { createReleases } from "./service/releases.ts";
import { createRetention } from "./service/retention.ts";
import { createRevocations } from "./service/revocations.ts";
import { createSecrets } from "./service/secrets.ts";
import { createStops, type Stops } from "./service/stops.ts";
import { createWebhooks } from "./service/webhooks.ts";
import { createWhy } from "./service/why.ts";
import { createWorkers, type WorkerPrincipal } from "./service/workers.ts";

/** Everything that touches the world. main.ts, tests and the simulator each bring their own. */
export type Adapters = ReleaseAdapters & {
  readonly store: Store;
  readonly clock: Clock;
  readonly random: Random;
  readonly pools: Pools;
  readonly logStore: LogStore;
  readonly secretBox: SecretBox;
  readonly webhookNet: WebhookNet;
  readonly sockets: SocketHost;
  /** What serves the two listeners. Node's HTTP unless given: a simulation calls the handlers itself. */
  readonly servers?: Servers;
  readonly disk: Disk;
  readonly host: Host;
  readonly log: Logger;
  readonly tls?: { readonly cert: string | Buffer; readonly key: string | Buffer };
  readonly version: string;
  /** What a user ends to end all of it: the supervisor. */
  readonly pid: number;
};

/** The machine under the daemon; `diskBytes` of the file system that holds the data directory. */
export type Host = {
  readonly cpuCount: number;
  readonly memoryGiB: number;
  readonly diskBytes: number;
};

export type Servers = {
  client(options: ClientServerOptions<Principal>): Promise<HttpHost>;
  worker(options: WorkerServerOptions<WorkerPrincipal>): Promise<HttpHost>;
};

export type Disk = {
  freeBytes(): Promise<number>;
  databaseBytes(): number;
  /** Fills the ballast again that a full disk had released (F-07). */
  holdBallast(): Promise<unknown>;
};

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
const LOOPBACK_HOSTS = ["localhost", "127.0.0.1", "::1"];
/** Part of the machine that workers may claim, unless it is set. */
const BUDGET_SHARE = 0.9;
const HTTP_SERVERS: Servers = { client: createClientServer, worker: createWorkerServer };

/** The whole daemon over its adapters: services, HTTP, loops. Nothing runs before `start`. */
export function createDaemon(config: DaemonConfig, adapters: Adapters): Daemon {
  const { store, clock, random, pools, log, servers: make = HTTP_SERVERS } = adapters;
  const startedAtMs = clock.nowMs();
  const closing = new AbortController();
  let servers: { client: HttpHost; worker: HttpHost } | null = null;

  const admission = createAdmission({
    clock,
    minFreeBytes: config.minFreeBytes,
    freeBytes: adapters.disk.freeBytes,
    holdBallast: adapters.disk.holdBallast,
    log,
  });
  const listeners = createListeners({
    sockets: adapters.sockets,
    pools,
    client: { host: config.host, port: config.port },
    worker: { host: config.workerHost, port: config.workerPort },
    onReachable: () => reconciler.nudge(),
    log,
  });

  const isLoopback = LOOPBACK_HOSTS.includes(config.host);
  const guard = (): Guard => (isLoopback ? "private_allowed" : "public_only");
  const events = createEvents({ store, clock });
  const standstill = createStandstill(startedAtMs);
  const activity = createActivity();
  events.subscribe(activity.observe);
  const keys = createKeys({ store: store.keys, clock, random, log });
  const revocations = createRevocations(keys.onRevoke);
  const secrets = createSecrets({ store, clock, box: adapters.secretBox, log });
  const redact = createRedaction({ fleet: store.fleet, events, valuesOf: secrets.valuesOf });
  const { secretBox } = adapters;
  const { databaseBytes } = adapters.disk;
  const parts = createReleaseParts({ store, clock, events, adapters, secretBox, databaseBytes, log });
  const releases = createReleases({ store, clock, builders: parts.builders });
  const endpoints = createEndpoints({
    store,
    clock,
    random,
    events,
    releases,
    defaultPool,
    checkSecrets: secrets.check,
  });
  const workers = createWorkers({ store, clock, events, endpoint: endpoints.byId });
  const rollouts = createRollouts({
    store,
    clock,
    random,
    events,
    isAway: (pool) => pools[pool]?.away() !== null,
    log,
  });
  const jobs = createJobs({
    store,
    clock,
    random,
    events,
    admit: admission.admit,
    wake: (endpointId) => {
      if (!deliveries.isWaitedFor(endpointId)) reconciler.wakeOne(endpointId);
    },
  });
  const deliveries = createDeliveries({
    store,
    clock,
    random,
    events,
    maxStreamBytes: config.maxStreamBytes,
    queueOf: workers.queueOf,
    retire: workers.retire,
    redact,
    log,
  });
  const reconciler: Reconciler = createReconciler({
    store,
    clock,
    random,
    pools,
    events,
    activity,
    host: adapters.host,
    workerUrl: listeners.workerUrl,
    budget: config.budget ?? wholeMachine(adapters.host),
    standstill,
    lastSeenMs: workers.lastSeenMs,
    lastTakeMs: workers.lastTakeMs,
    unfitReason: workers.unfitReason,
    releasePolls: (workerId) => releasePolls(workerId),
    releaseTakes: deliveries.release,
    fillSecrets: secrets.fill,
    redact,
    log,
  });
  const stops: Stops = createStops({
    store,
    clock,
    events,
    condemn: reconciler.condemn,
    releaseTakes: deliveries.release,
  });
  const autoscaler = createAutoscaler({ store, clock, events, activity, log });
  const leases = createLeaseSweep({ store, clock, events, standstill, log });
  const { logStore: logs } = adapters;
  const retention = createRetention({ store, clock, logs, databaseBytes, log });
  const loops = [autoscaler, reconciler, leases, retention, ...parts.loops];
  const webhooks = createWebhooks({
    outbox: store.outbox,
    net: adapters.webhookNet,
    clock,
    guard,
    log,
    secrets: (endpointId) => secrets.signing(endpoints.byId(endpointId)),
    present: (jobId, generation) => {
      const view = store.jobs.view(jobId);
      return view?.job.generation === generation && "end" in view.job ? webhookBody(view) : null;
    },
  });
  events.subscribe(({ data }) => {
    if (data.webhook) webhooks.nudge();
  });
  const rateLimits = createRateLimits({ clock, enabled: config.rateLimits ?? !isLoopback });
  const why = createWhy({
    store,
    clock,
    activity,
    crashState: reconciler.crashState,
    draining: admission.isStopping,
    diskFull: () => !admission.hasRoom(),
  });
  const webhooksRun: { done: Promise<void> } = { done: Promise.resolve() };

  function releasePolls(workerId: WorkerId): void {
    deliveries.release(workerId);
    stops.release(workerId);
  }

  function clientUrl(): string {
    const bound = listeners.bound();
    return config.publicUrl ?? (bound ? originOf(bound.client, adapters.tls ? "https" : "http") : "");
  }
  const workerUrl = () => listeners.workerUrl("process") ?? "";

  /** Where workers of a new endpoint run: in containers where an engine answers. */
  function defaultPool({ source }: CreateEndpoint, onStep: OnStep): PoolKind {
    if (config.pool !== "auto") return config.pool;
    const docker = pools.docker;
    if (!docker) return "process";
    const away = docker.away();
    if (away === null || source.kind === "image") return "docker";
    onStep(`workers run as processes, not isolated: ${away}`);
    return "process";
  }

  const isolationOf = (kind: PoolKind) => pools[kind]?.isolation().level ?? "none";

  async function status(): Promise<StatusBody> {
    return {
      version: adapters.version,
      pid: adapters.pid,
      url: clientUrl(),
      workerUrl: workerUrl(),
      startedAt: new Date(startedAtMs).toISOString(),
      uptimeMs: clock.nowMs() - startedAtMs,
      dataDir: config.dataDir,
      pool: "process",
      isolation: isolationOf("process"),
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
        const entry = rateLimits.enter(principal, id, operation);
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
        ...createSecretRoutes(secrets),
        ...parts.routes,
        ...createEventRoutes({
          ...shared,
          logs: createLogs({ logs, journal: store.journal, jobs: store.jobs, redact }),
          untilRevoked: ({ keyId }) => AbortSignal.any([revocations.signal(keyId), closing.signal]),
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
    await releases.failCutOff();
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

function wholeMachine({ cpuCount, memoryGiB, diskBytes }: Host): Resources {
  return {
    cpus: cpuCount * BUDGET_SHARE,
    memoryBytes: memoryGiB * 2 ** 30 * BUDGET_SHARE,
    diskBytes: diskBytes * BUDGET_SHARE,
  };
}

function runningOnly<J extends { state: string }>(job: J): Extract<J, { state: "IN_PROGRESS" }>[] {
  return job.state === "IN_PROGRESS" ? [job as Extract<J, { state: "IN_PROGRESS" }>] : [];
}
