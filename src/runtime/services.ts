import type { Logger } from "pino";
import type { CreateEndpoint } from "../contract/schemas/endpoint.ts";
import { createAdmission } from "./admission.ts";
import type { HttpHost } from "./api/http-host.ts";
import { webhookBody } from "./api/present.ts";
import type { ClientServerOptions, WorkerServerOptions } from "./api/server.ts";
import type { DaemonConfig } from "./config.ts";
import { createActivity } from "./core/activity.ts";
import type { Resources } from "./core/budget.ts";
import type { PoolKind, WorkerId } from "./core/model.ts";
import { createStandstill } from "./core/standstill.ts";
import type { Guard } from "./core/url-guard.ts";
import { createListeners } from "./listeners.ts";
import type { Clock } from "./ports/clock.ts";
import type { LogStore } from "./ports/log-store.ts";
import type { Random } from "./ports/random.ts";
import type { SecretBox } from "./ports/secret-box.ts";
import type { SocketHost } from "./ports/socket-host.ts";
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
import { createKeys, type Principal } from "./service/keys.ts";
import { createLeaseSweep } from "./service/leases.ts";
import { createRateLimits } from "./service/rate-limits.ts";
import { createRedaction } from "./service/redaction.ts";
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

export const LOOPBACK_HOSTS = ["localhost", "127.0.0.1", "::1"];
/** Part of the machine that workers may claim, unless it is set. */
const BUDGET_SHARE = 0.9;

export type Services = ReturnType<typeof createServices>;

/** The daemon's services over its adapters, each handed what it needs of the others. Nothing runs yet. */
export function createServices(config: DaemonConfig, adapters: Adapters) {
  const { store, clock, random, pools, log } = adapters;
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
  const standstill = createStandstill(clock.nowMs());
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
    hasFailed: (ref) => reconciler.hasFailed(ref),
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
    workerUrl: workerUrlOf,
    budget: budgetOf(config, adapters.host),
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
  function releasePolls(workerId: WorkerId): void {
    deliveries.release(workerId);
    stops.release(workerId);
  }

  /** As workers of a pool reach the listener, once they can; for containers the user may know better. */
  function workerUrlOf(pool: PoolKind): string | null {
    const found = listeners.workerUrl(pool);
    return found !== null && pool === "docker" ? (config.workerUrl ?? found) : found;
  }

  /** Where workers of a new endpoint run: in containers where an engine answers, or where nothing else can run them. */
  function defaultPool({ source, handler }: CreateEndpoint, onStep: OnStep): PoolKind {
    if (config.pool !== "auto") return config.pool;
    const docker = pools.docker;
    if (!docker) return "process";
    const away = docker.away();
    if (away === null || source.kind === "image" || handler === undefined) return "docker";
    onStep(`workers run as processes, not isolated: ${away}`);
    return "process";
  }

  return {
    ...{
      admission,
      listeners,
      guard,
      events,
      activity,
      keys,
      revocations,
      secrets,
      redact,
      parts,
      releases,
      endpoints,
    },
    ...{
      workers,
      rollouts,
      jobs,
      deliveries,
      reconciler,
      stops,
      autoscaler,
      webhooks,
      rateLimits,
      why,
      loops,
    },
  };
}

/** What workers may claim: what is set, else a share of the machine. */
function budgetOf({ budget = {} }: DaemonConfig, { cpuCount, memoryGiB, diskBytes }: Host): Resources {
  return {
    cpus: budget.cpus ?? cpuCount * BUDGET_SHARE,
    memoryBytes: budget.memoryBytes ?? memoryGiB * 2 ** 30 * BUDGET_SHARE,
    diskBytes: budget.diskBytes ?? diskBytes * BUDGET_SHARE,
  };
}
