import type { Logger } from "pino";
import { RpxError } from "../../src/contract/error.ts";
import { API_ROUTES, JOB_ROUTES, type Route } from "../../src/contract/routes.ts";
import { createSimulatedRandom } from "../../src/runtime/adapters/simulated/random.ts";
import type { SimulatedHost } from "../../src/runtime/adapters/simulated/worker-pool.ts";
import { createSqliteStore, newestTimeMs } from "../../src/runtime/adapters/sqlite/store.ts";
import { createSystemClock } from "../../src/runtime/adapters/system/clock.ts";
import type { HttpHost } from "../../src/runtime/api/http-host.ts";
import { type Answer, errorAnswer, INTERNAL_ERROR } from "../../src/runtime/api/reply.ts";
import type { Call } from "../../src/runtime/api/request.ts";
import type { ClientServerOptions, Handler, WorkerServerOptions } from "../../src/runtime/api/server.ts";
import { daemonConfigSchema } from "../../src/runtime/config.ts";
import { createDaemon, type Daemon } from "../../src/runtime/daemon.ts";
import type { Clock } from "../../src/runtime/ports/clock.ts";
import type { LogStore } from "../../src/runtime/ports/log-store.ts";
import type { WebhookNet } from "../../src/runtime/ports/webhook-net.ts";
import type { WorkerPool } from "../../src/runtime/ports/worker-pool.ts";
import type { Principal } from "../../src/runtime/service/keys.ts";
import type { WorkerPrincipal } from "../../src/runtime/service/workers.ts";
import { seedOf } from "./chance.ts";
import type { SimulatedDisk } from "./disk.ts";
import type { Exchange, Reply, Request } from "./network.ts";
import type { Fault } from "./plan.ts";
import type { World } from "./world.ts";

/** The machine on which rpx runs: a supervisor, one daemon after another, a disk, a wall clock. */
export type Machine = {
  /** A connection with a request on it: it waits while there is no daemon, and is refused while there is no supervisor. */
  accept(exchange: Exchange): void;
  /** Starts the supervisor and its first daemon. */
  start(): void;
  strike(fault: MachineFault): void;
  /** The key of the admin, once the first daemon has made it. */
  adminKey(): string;
  isServing(): boolean;
  /** It serves, is not on its way out, and its disk takes what it writes. */
  isSound(): boolean;
  /** Everything that a person would mend: disk, pauses; a daemon that is away is on its way back. */
  heal(): void;
};

export type MachineFault = Exclude<Fault, { kind: "worker-death" | "worker-hang" | "partition" }>;
type ArmedKill = Extract<Fault, { kind: "kill-at-commit" }> & { left: number };

/** One daemon process. */
type Process = {
  readonly number: number;
  alive: boolean;
  /** What waits while the process is stopped; null while it runs. */
  held: (() => void)[] | null;
  /** It takes connections: not before it is up, and not while it hands over to its successor. */
  ready: boolean;
  /** It was asked to end or to hand over: it is asked nothing more. */
  ending: boolean;
  readonly open: Set<Exchange>;
  readonly waiting: Set<() => void>;
  client: ClientServerOptions<Principal> | null;
  worker: WorkerServerOptions<WorkerPrincipal> | null;
  daemon: Daemon | null;
  disconnect: () => void;
};

const WALL_START_MS = 1_900_000_000_000;
/** From exec to ready. */
const BOOT_MS = [200, 900] as const;
const BUILD_MS = 200;
const HANDOVER_LIMIT_MS = 30_000;
const LEFT_WITH_HOST = { code: null, signal: "SIGKILL", reason: "its host ended" } as const;
const CLIENT_ROUTES: Readonly<Record<string, Route>> = { ...JOB_ROUTES, ...API_ROUTES };
/** A job's chunks beyond this fail it: small, so that a stream that is too large is a cheap one. */
const MAX_STREAM_BYTES = 2_000;
const LOW_DISK = { free: 0, enough: 10_000_000_000 } as const;

export function createMachine(
  world: World,
  parts: { readonly disk: SimulatedDisk; readonly host: SimulatedHost; readonly webhookNet: WebhookNet },
): Machine {
  const { clock, coverage, history } = world;
  const { disk, host } = parts;
  const chance = world.chance("machine");
  const armed: ArmedKill[] = [];
  let queue: Exchange[] = [];
  let process: Process | null = null;
  let supervisor = false;
  let processes = 0;
  let builds = 0;
  let adminKey = "";
  let wallOffsetMs = 0;
  /** How far the daemon's time was ahead of true time when it was last read. */
  let lastAheadMs: number | null = null;

  // --- A process's view of the world: nothing reaches it while it is stopped, or after its end -------------

  function enter(own: Process, run: () => void): void {
    if (!own.alive) return;
    if (own.held) own.held.push(run);
    else run();
  }

  function within<T>(own: Process, outside: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      outside.then(
        (value) => enter(own, () => resolve(value)),
        (error) => enter(own, () => reject(error)),
      );
    });
  }

  function clockOf(own: Process, newestStoredMs: number): Clock {
    const source = { wallMs: () => WALL_START_MS + clock.nowMs() + wallOffsetMs, monotonicMs: clock.nowMs };
    const { nowMs } = createSystemClock({ newestStoredMs, source });
    return {
      nowMs: () => {
        const ownMs = nowMs();
        if (own.alive && own.ready) lastAheadMs = ownMs - clock.nowMs();
        return ownMs;
      },
      sleep: (ms, signal) => within(own, clock.sleep(ms, signal)),
      endOfTurn: (callback) => clock.endOfTurn(() => enter(own, callback)),
    };
  }

  function poolOf(own: Process): WorkerPool {
    const pool = host.pool();
    return {
      kind: pool.kind,
      isolation: pool.isolation,
      start: (worker) => within(own, pool.start(worker)),
      stop: (workerId) => within(own, pool.stop(workerId)),
      kill: (workerId) => within(own, pool.kill(workerId)),
      freeze: (workerId) => within(own, pool.freeze(workerId)),
      resume: (workerId) => within(own, pool.resume(workerId)),
      list: () => within(own, pool.list()),
      forget: (workerId) => within(own, pool.forget(workerId)),
      onExit: (listener) => pool.onExit((exit) => enter(own, () => listener(exit))),
    };
  }

  /** An expected failure is one of a full disk; any other is a bug. */
  function logOf(own: Process): Logger {
    const quiet = (): void => {};
    const error = (fields: { readonly err?: unknown }, message: string): void => {
      if (!own.alive || fields.err instanceof RpxError) return;
      world.fail(
        "no internal error",
        `${message}: ${fields.err instanceof Error ? fields.err.stack : fields.err}`,
      );
    };
    const log = { debug: quiet, info: quiet, warn: quiet, error, fatal: quiet, isLevelEnabled: () => false };
    return log as unknown as Logger;
  }

  /** A server whose requests are function calls. */
  function hostOf(own: Process, listener: Request["listener"]): HttpHost {
    const openOnes = () => [...own.open].filter(({ request }) => request.listener === listener);
    const drained = (): Promise<void> =>
      new Promise((resolve) => {
        const look = (): void => {
          if (openOnes().length > 0) return;
          own.waiting.delete(look);
          resolve();
        };
        own.waiting.add(look);
        look();
      });
    return {
      accept: () => {},
      drain: drained,
      close: () => {
        for (const exchange of openOnes()) {
          exchange.abort.abort();
          exchange.reset();
        }
        return drained();
      },
    };
  }

  // --- Life of a daemon ----------------------------------------------------------------------------------

  function compose(own: Process): Daemon {
    const { db, disconnect } = disk.connect({
      before: (kinds) => killAtCommit(own, "before", kinds),
      after: (kinds) => killAtCommit(own, "after", kinds),
    });
    own.disconnect = disconnect;
    const ownClock = clockOf(own, newestTimeMs(db));
    noteLeap(ownClock.nowMs());
    const store = createSqliteStore({
      db,
      clock: ownClock,
      fatal: () => end(own, "a commit failed"),
      makeRoom: disk.releaseBallast,
    });
    store.onCommit((events) => {
      for (const event of events) {
        coverage.observe(event);
        const { kind, jobId, workerId, data } = event;
        world.trace(
          `${kind} ${jobId ?? "-"} ${workerId ?? "-"} ${data.from ?? "-"}>${data.to ?? "-"} ${data.reason ?? ""}`,
        );
      }
    });
    const config = { dataDir: "/simulated", port: 1, workerPort: 2, maxStreamBytes: MAX_STREAM_BYTES };
    return createDaemon(daemonConfigSchema.parse(config), {
      store,
      clock: ownClock,
      random: createSimulatedRandom(seedOf(world.plan.seed, `daemon ${own.number}`)),
      pool: poolOf(own),
      builder: { build: () => within(own, build()) },
      logStore: NO_LOGS,
      webhookNet: { post: (request) => within(own, parts.webhookNet.post(request)) },
      sockets: { listen: async ({ host: name, port }) => ({ host: name, port }), close: async () => {} },
      servers: {
        client: async (options) => {
          own.client = options;
          return hostOf(own, "client");
        },
        worker: async (options) => {
          own.worker = options;
          return hostOf(own, "worker");
        },
      },
      bundles: { has: () => false, receive: async () => {} },
      disk: {
        freeBytes: async () => (disk.isFull() ? LOW_DISK.free : LOW_DISK.enough),
        databaseBytes: () => 0,
        holdBallast: async () => {},
      },
      host: { cpuCount: 2, memoryGiB: 4 },
      log: logOf(own),
      version: "0.0.0-sim",
      pid: own.number,
    });
  }

  /** A new daemon believes the wall clock where that is ahead of all it finds stored. */
  function noteLeap(ownMs: number): void {
    const aheadMs = ownMs - clock.nowMs();
    const leapMs = aheadMs - (lastAheadMs ?? aheadMs);
    if (leapMs > 0) history.leaps.push({ atMs: clock.nowMs(), ms: leapMs });
    lastAheadMs = aheadMs;
  }

  async function build() {
    await clock.sleep(BUILD_MS);
    builds += 1;
    return {
      file: "worker",
      args: [`build-${builds}`],
      cwd: "/",
      env: {},
      runtime: "simulated",
      warnings: [],
    };
  }

  async function boot(): Promise<void> {
    processes += 1;
    const own: Process = {
      number: processes,
      alive: true,
      held: null,
      ready: false,
      ending: false,
      open: new Set(),
      waiting: new Set(),
      client: null,
      worker: null,
      daemon: null,
      disconnect: () => {},
    };
    process = own;
    world.trace(`daemon ${own.number} starts`);
    await within(own, clock.sleep(chance.between(...BOOT_MS)));
    try {
      own.daemon = compose(own);
      adminKey = (await own.daemon.ensureAdmin()) ?? adminKey;
      await own.daemon.start();
    } catch (error) {
      if (!(error instanceof RpxError)) world.fail("the daemon starts", String((error as Error).stack));
      if (own.alive) end(own, "could not start", 1_000);
      return;
    }
    world.trace(`daemon ${own.number} serves`);
    own.ready = true;
    world.disturb();
    serveQueue();
  }

  /** The process is gone, and its supervisor starts the next after a while. */
  function end(own: Process, why: string, downMs = chance.skewed(50, 2_000)): void {
    if (!leave(own, why)) return;
    const outage = { fromMs: clock.nowMs(), toMs: clock.nowMs() + downMs, kind: why, endsWorkers: false };
    history.outages.push(outage);
    void clock.sleep(downMs).then(() => {
      if (supervisor && process === null) void boot();
    });
  }

  function leave(own: Process, why: string): boolean {
    if (!own.alive) return false;
    own.alive = false;
    own.held = null;
    own.disconnect();
    world.trace(`daemon ${own.number} ends: ${why}`);
    if (process === own) process = null;
    for (const exchange of own.open) exchange.reset();
    return true;
  }

  /** Supervisor, daemon and workers end; a person starts them again. */
  function endAll(why: string, downMs: number): void {
    supervisor = false;
    if (process) leave(process, why);
    for (const exchange of queue) exchange.reset();
    queue = [];
    host.lose({ ...LEFT_WITH_HOST });
    history.outages.push({
      fromMs: clock.nowMs(),
      toMs: clock.nowMs() + downMs,
      kind: why,
      endsWorkers: true,
    });
    void clock.sleep(downMs).then(start);
  }

  function start(): void {
    if (supervisor) return;
    supervisor = true;
    if (process === null) void boot();
  }

  // --- Faults --------------------------------------------------------------------------------------------

  function killAtCommit(own: Process, when: "before" | "after", kinds: ReadonlySet<string>): void {
    const at = armed.findIndex(
      (kill) => kill.when === when && (kill.holding === "any" || kinds.has(kill.holding)) && kill.left-- <= 0,
    );
    const [kill] = at < 0 ? [] : armed.splice(at, 1);
    if (kill === undefined || world.healed) return;
    coverage.fault(`kill ${when} commit of ${kill.holding}`);
    end(own, `killed ${when} a commit of ${[...kinds].join(", ") || "nothing"}`, kill.downMs);
    throw new Error("killed");
  }

  function strike(fault: MachineFault): void {
    const own = process;
    world.disturb();
    if (fault.kind === "kill-at-commit") return void armed.push({ ...fault, left: fault.skip });
    if (fault.kind === "clock-jump") {
      coverage.fault(fault.kind);
      wallOffsetMs += fault.ms;
      return;
    }
    if (fault.kind === "full-disk") fillDisk(fault.ms);
    if (fault.kind === "full-disk" || own === null) return;
    // A daemon that is still starting cannot be asked for anything.
    if ((fault.kind === "handover" || fault.kind === "restart") && (own.ending || !isServing())) return;
    coverage.fault(fault.kind);
    switch (fault.kind) {
      case "kill":
        end(own, "killed", fault.downMs);
        break;
      case "supervisor-kill":
        endAll("supervisor killed", fault.downMs);
        break;
      case "power-cut":
        losePower(fault.downMs);
        break;
      case "pause":
        pause(own, fault.ms);
        break;
      case "handover":
        void handOver(own);
        break;
      case "restart":
        void restart(own, fault.downMs);
    }
  }

  function losePower(downMs: number): void {
    disk.losePower((unsynced) => {
      const kept = chance.between(0, unsynced);
      if (kept < unsynced) coverage.fault("unsynced commits lost");
      return kept;
    });
    endAll("power cut", downMs);
  }

  function fillDisk(ms: number): void {
    coverage.fault("full-disk");
    disk.setFull(true);
    world.trace("disk full");
    void clock.sleep(ms).then(() => {
      world.disturb();
      disk.setFull(false);
    });
  }

  function pause(own: Process, ms: number): void {
    own.held ??= [];
    world.trace(`daemon ${own.number} stands still`);
    history.outages.push({
      fromMs: clock.nowMs(),
      toMs: clock.nowMs() + ms,
      kind: "paused",
      endsWorkers: false,
    });
    void clock.sleep(ms).then(() => resume(own));
  }

  function resume(own: Process): void {
    const held = own.held ?? [];
    own.held = null;
    world.disturb();
    for (const run of held) enter(own, run);
    serveQueue();
  }

  async function handOver(own: Process): Promise<void> {
    own.ending = true;
    own.ready = false;
    world.trace(`daemon ${own.number} hands over`);
    void clock.sleep(HANDOVER_LIMIT_MS).then(() => own.alive && end(own, "killed: it did not hand over"));
    await own.daemon?.handOver();
    if (leave(own, "handed over")) void boot();
  }

  async function restart(own: Process, downMs: number): Promise<void> {
    own.ending = true;
    world.trace(`daemon ${own.number} is asked to end`);
    await own.daemon?.drain();
    if (own.alive) endAll("stopped", downMs);
  }

  // --- Requests ------------------------------------------------------------------------------------------

  const isServing = (): boolean => process?.ready === true && process.held === null;

  function accept(exchange: Exchange): void {
    if (!supervisor) exchange.reset();
    // Behind all that arrives in this moment: it is served in one turn.
    else if (queue.push(exchange) === 1) void clock.sleep(0).then(serveQueue);
  }

  function serveQueue(): void {
    if (!process || !isServing()) return;
    const waited = queue;
    queue = [];
    for (const exchange of waited) void serve(process, exchange);
  }

  async function serve(own: Process, exchange: Exchange): Promise<void> {
    if (exchange.abort.signal.aborted) return;
    own.open.add(exchange);
    const answer = await answerOf(own, exchange);
    if (!own.alive) return;
    own.open.delete(exchange);
    if (exchange.answer(replyOf(answer))) answer.onSent?.();
    else answer.onUnsent?.();
    for (const look of [...own.waiting]) look();
  }

  async function answerOf(own: Process, exchange: Exchange): Promise<Answer> {
    try {
      return await call(own, exchange);
    } catch (error) {
      if (error instanceof RpxError) return errorAnswer(error);
      if (own.alive) world.fail("no internal error", `${exchange.request.route}: ${(error as Error).stack}`);
      return INTERNAL_ERROR;
    }
  }

  function call({ client, worker }: Process, exchange: Exchange): Promise<Answer> {
    const { listener, route, params, headers = {}, oversize } = exchange.request;
    if (listener === "worker" && worker) {
      const principal = worker.authenticateWorker(
        headers.authorization,
        params.endpoint ?? "",
        params.worker ?? "",
      );
      const handler = oversize ? worker.oversize : worker.handlers[route as keyof typeof worker.handlers];
      return (handler as Handler<WorkerPrincipal>)(callOf(exchange, principal));
    }
    if (!client) throw new Error("nobody listens");
    const principal = client.authenticate(headers.authorization, "127.0.0.1");
    const access = CLIENT_ROUTES[route]?.access ?? "admin";
    if (!client.allows(principal, access)) throw new RpxError("forbidden", "beyond its scope");
    const handler = client.handlers[route as keyof typeof client.handlers] as Handler<Principal>;
    return handler(callOf(exchange, principal));
  }

  return {
    accept,
    start,
    strike,
    adminKey: () => adminKey,
    isServing,
    isSound: () => isServing() && process?.ending === false && !disk.isFull(),
    heal: () => {
      armed.length = 0;
      disk.setFull(false);
      if (process?.held) resume(process);
    },
  };
}

function callOf<P>({ request, abort }: Exchange, principal: P): Call<P> {
  const { params, query = {}, headers = {}, body = "" } = request;
  return {
    params,
    query: new URLSearchParams(query),
    headers,
    bytes: Buffer.from(body),
    principal,
    remoteAddress: "127.0.0.1",
    signal: abort.signal,
    text: () => body,
  };
}

function replyOf(answer: Answer): Reply {
  if (answer.kind === "stream") throw new Error("streamed answers are not simulated");
  const headers = Object.entries(answer.headers ?? {}).map(([name, value]) => [name.toLowerCase(), value]);
  const text = answer.kind === "json" ? answer.text : "";
  return { status: answer.status ?? 200, text, headers: Object.fromEntries(headers) };
}

const NO_LOGS: LogStore = {
  pathOf: () => "/simulated",
  read: async () => [],
  follow: async () => {},
  lastLines: () => [],
  prune: async () => 0,
};
