import type { Logger } from "pino";
import { RpxError } from "../contract/error.ts";
import type { StatusBody } from "../contract/schemas/daemon.ts";
import { createEventRoutes } from "./api/event-routes.ts";
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
import type { Endpoint, EndpointId, PoolKind, WorkerId } from "./core/model.ts";
import { createStandstill } from "./core/standstill.ts";
import type { Guard } from "./core/url-guard.ts";
import type { Clock } from "./ports/clock.ts";
import type { LogStore } from "./ports/log-store.ts";
import type { Random } from "./ports/random.ts";
import type { SecretBox } from "./ports/secret-box.ts";
import type { BoundAddress, SocketHost } from "./ports/socket-host.ts";
import type { Store } from "./ports/store.ts";
import type { WebhookNet } from "./ports/webhook-net.ts";
import type { Pools } from "./ports/worker-pool.ts";
import { createReleaseParts, type ReleaseAdapters } from "./release-parts.ts";
import { createAutoscaler } from "./service/autoscaler.ts";
import { createDeliveries } from "./service/deliveries.ts";
import { createEndpoints } from "./service/endpoints.ts";
import { createEvents } from "./service/events.ts";
import { createJobs } from "./service/jobs.ts";
import { allows, createKeys, type Principal, parseAuthorization } from "./service/keys.ts";
import { createLeaseSweep } from "./service/leases.ts";
import { createLogs } from "./service/logs.ts";
import { createRateLimits } from "./service/rate-limits.ts";
import { createReconciler, type Reconciler } from "./service/reconciler.ts";
import { createRedaction, type Redact } from "./service/redaction.ts";
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
  readonly host: { readonly cpuCount: number; readonly memoryGiB: number };
  readonly log: Logger;
  readonly tls?: { readonly cert: string | Buffer; readonly key: string | Buffer };
  readonly version: string;
  /** What a user ends to end all of it: the supervisor. */
  readonly pid: number;
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

/** Free disk is looked at this often. */
const DISK_CHECK_MS = 1_000;
/** Replies in flight at a hand-over or stop get this long. */
const REPLIES_MS = 10_000;
const LOOPBACK_HOSTS = ["localhost", "127.0.0.1", "::1"];
const HTTP_SERVERS: Servers = { client: createClientServer, worker: createWorkerServer };

/** The whole daemon over its adapters: services, HTTP, loops. Nothing runs before `start`. */
export function createDaemon(config: DaemonConfig, adapters: Adapters): Daemon {
  const { store, clock, random, pools, log, servers: make = HTTP_SERVERS } = adapters;
  const startedAtMs = clock.nowMs();
  const closing = new AbortController();
  let draining = false;
  let room = true;
  let freeBytes = 0;
  let bound: { client: BoundAddress; worker: BoundAddress } | null = null;
  let servers: { client: HttpHost; worker: HttpHost } | null = null;

  const isLoopback = LOOPBACK_HOSTS.includes(config.host);
  const guard = (): Guard => (isLoopback ? "private_allowed" : "public_only");
  const events = createEvents({ store, clock });
  const standstill = createStandstill(startedAtMs);
  const activity = createActivity();
  events.subscribe(activity.observe);
  const keys = createKeys({ store: store.keys, clock, random, log });
  const revocations = createRevocations(keys.onRevoke);
  const workers = createWorkers({ store, clock, events });
  const secrets = createSecrets({ store, clock, box: adapters.secretBox, log });
  const redact = createRedaction({ fleet: store.fleet, events, valuesOf: secrets.valuesOf });
  const { secretBox } = adapters;
  const { databaseBytes } = adapters.disk;
  const parts = createReleaseParts({ store, clock, events, adapters, secretBox, databaseBytes, log });
  const { builders } = parts;
  const endpoints = createEndpoints({ store, clock, random, events, builders, checkSecrets: secrets.check });
  const jobs = createJobs({ store, clock, random, events, admit });
  const deliveries = createDeliveries({
    store,
    clock,
    random,
    events,
    maxStreamBytes: config.maxStreamBytes,
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
    workerUrl: () => workerUrl(),
    standstill,
    lastSeenMs: workers.lastSeenMs,
    lastTakeMs: workers.lastTakeMs,
    unfitReason: workers.unfitReason,
    releasePolls: (workerId) => releasePolls(workerId),
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
    draining: () => draining,
    diskFull: () => !room,
  });
  const webhooksRun: { done: Promise<void> } = { done: Promise.resolve() };

  function admit(): void {
    if (draining) throw new RpxError("unavailable", "the daemon is stopping", { retryAfterSeconds: 5 });
    if (room) return;
    throw new RpxError("unavailable", "the disk is almost full: new jobs are refused", {
      why: `less than ${config.minFreeBytes} bytes are free in the data directory`,
      hint: "free space; running jobs end and keep their results",
      retryAfterSeconds: 5,
    });
  }

  function releasePolls(workerId: WorkerId): void {
    deliveries.release(workerId);
    stops.release(workerId);
  }

  async function watchDisk(): Promise<void> {
    while (!closing.signal.aborted) {
      const had = room;
      freeBytes = await adapters.disk.freeBytes();
      room = freeBytes >= config.minFreeBytes;
      if (room) await adapters.disk.holdBallast();
      if (had !== room)
        log.warn({ room }, room ? "disk has room again" : "disk is almost full: new jobs are refused");
      await clock.sleep(DISK_CHECK_MS, closing.signal);
    }
  }

  const originOf = ({ host, port }: BoundAddress, scheme: string) =>
    `${scheme}://${host.includes(":") ? `[${host}]` : host}:${port}`;
  const clientUrl = () =>
    config.publicUrl ?? (bound ? originOf(bound.client, adapters.tls ? "https" : "http") : "");
  const workerUrl = () => (bound ? originOf(bound.worker, "http") : "");

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
      health: draining ? "stopping" : room ? "ok" : "the disk is almost full: new jobs are refused",
      disk: {
        databaseBytes: adapters.disk.databaseBytes(),
        freeBytes,
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
        ...createManageRoutes({
          ...shared,
          reconciler,
          why,
          bundles: parts.bundles,
          isolationOf,
          status,
          urlOf,
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
    bound = {
      client: await adapters.sockets.listen(
        { name: "client", host: config.host, port: config.port },
        client.accept,
      ),
      worker: await adapters.sockets.listen(
        { name: "worker", host: config.workerHost, port: config.workerPort },
        worker.accept,
      ),
    };
    freeBytes = await adapters.disk.freeBytes();
    room = freeBytes >= config.minFreeBytes;
    await reconciler.adopt();
    for (const loop of loops) loop.start();
    webhooksRun.done = webhooks.run(closing.signal);
    watchDisk().catch((error: unknown) => log.error({ err: error }, "disk watch ended"));
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
    bound: () => bound,
    ensureAdmin: keys.ensureAdmin,
    redact,
    drain: async () => {
      draining = true;
      log.info({ graceMs: config.graceMs }, "stopping: new work is refused");
      await autoscaler.stop();
      await reconciler.shutDown(config.graceMs);
      await close();
    },
    handOver: async () => {
      log.info({}, "handing over to a successor");
      await close();
    },
  };
}

function runningOnly<J extends { state: string }>(job: J): Extract<J, { state: "IN_PROGRESS" }>[] {
  return job.state === "IN_PROGRESS" ? [job as Extract<J, { state: "IN_PROGRESS" }>] : [];
}
