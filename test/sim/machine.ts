import { RpxError } from "../../src/contract/error.ts";
import { createSimulatedRandom } from "../../src/runtime/adapters/simulated/random.ts";
import { createSimulatedSecretBox } from "../../src/runtime/adapters/simulated/secret-box.ts";
import { createSqliteStore, newestTimeMs } from "../../src/runtime/adapters/sqlite/store.ts";
import { daemonConfigSchema } from "../../src/runtime/config.ts";
import { createDaemon, type Daemon } from "../../src/runtime/daemon.ts";
import type { LogStore } from "../../src/runtime/ports/log-store.ts";
import type { WebhookNet } from "../../src/runtime/ports/webhook-net.ts";
import { type Builds, createBuilds } from "./builds.ts";
import { seedOf } from "./chance.ts";
import {
  clockOf,
  createProcess,
  enter,
  hostOf,
  logOf,
  type Process,
  poolOf,
  serve,
  within,
} from "./daemon-process.ts";
import type { SimulatedDisk } from "./disk.ts";
import type { Hosts } from "./hosts.ts";
import type { Exchange } from "./network.ts";
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
  /** The world ends: Node keeps signals that were composed of a request's, and all that listens, until that one is aborted. */
  close(): void;
};

export type MachineFault = Exclude<
  Fault,
  { kind: "worker-death" | "workers-die" | "worker-hang" | "partition" }
>;
type ArmedKill = Extract<Fault, { kind: "kill-at-commit" }> & { left: number };

const WALL_START_MS = 1_900_000_000_000;
/** From exec to ready. */
const BOOT_MS = [200, 900] as const;
const HANDOVER_LIMIT_MS = 30_000;
/** The grace of a stop, and the ends of workers after it. */
const STOP_MS = 15_000;
const LEFT_WITH_HOST = { code: null, signal: "SIGKILL", reason: "its host ended" } as const;
/** A job's chunks beyond this fail it: small, so that a stream that is too large is a cheap one. */
const MAX_STREAM_BYTES = 2_000;
const LOW_DISK = { free: 0, enough: 10_000_000_000 } as const;
const GIB = 2 ** 30;
/** What a small machine has enough of. */
const MUCH = { cpus: 1_000, diskBytes: 1e15 } as const;
const POWER_CUT = "power cut";

export function createMachine(
  world: World,
  parts: { readonly disk: SimulatedDisk; readonly hosts: Hosts; readonly webhookNet: WebhookNet },
): Machine {
  const { clock, coverage, history } = world;
  const { disk, hosts } = parts;
  const chance = world.chance("machine");
  const armed: ArmedKill[] = [];
  let queue: Exchange[] = [];
  /** What was open when its daemon ended. */
  const broken: Exchange[] = [];
  let process: Process | null = null;
  let supervisor = false;
  let processes = 0;
  const builds: Builds = createBuilds(world);
  let adminKey = "";
  let wallOffsetMs = 0;
  /** How far the daemon's time was ahead of true time when it was last read. */
  let lastAheadMs: number | null = null;

  // --- Life of a daemon ----------------------------------------------------------------------------------

  function compose(own: Process): Daemon {
    const { db, disconnect } = disk.connect({
      before: (kinds) => killAtCommit(own, "before", kinds),
      after: (kinds) => killAtCommit(own, "after", kinds),
    });
    own.disconnect = disconnect;
    const ownClock = clockOf(own, clock, {
      wallMs: () => WALL_START_MS + clock.nowMs() + wallOffsetMs,
      newestStoredMs: newestTimeMs(db),
      onRead: (ownMs) => {
        if (own.alive && own.ready) lastAheadMs = ownMs - clock.nowMs();
      },
    });
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
    const { budgetGiB } = world.plan;
    const config = {
      ...{ dataDir: "/simulated", port: 1, workerPort: 2, maxStreamBytes: MAX_STREAM_BYTES },
      ...(budgetGiB !== null && { budget: { ...MUCH, memoryBytes: budgetGiB * GIB } }),
    };
    return createDaemon(daemonConfigSchema.parse(config), {
      store,
      clock: ownClock,
      random: createSimulatedRandom(seedOf(world.plan.seed, `daemon ${own.number}`)),
      pools: {
        process: poolOf(own, hosts.process.pool(own.gone.signal)),
        docker: poolOf(own, hosts.docker.pool(own.gone.signal)),
      },
      builders: builds.builders((built) => within(own, built)),
      logStore: NO_LOGS,
      secretBox: createSimulatedSecretBox(),
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
      images: null,
      artifacts: [],
      diskShares: [],
      disk: {
        freeBytes: async () => (disk.isFull() ? LOW_DISK.free : LOW_DISK.enough),
        databaseBytes: () => 0,
        holdBallast: async () => {},
      },
      host: { cpuCount: 2, memoryGiB: 1_000, diskBytes: 1e12 },
      log: logOf(own, world),
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

  async function boot(): Promise<void> {
    processes += 1;
    const own = createProcess(processes);
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
    history.servesMs.push(clock.nowMs());
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
    own.gone.abort(null);
    own.disconnect();
    world.trace(`daemon ${own.number} ends: ${why}`);
    if (process === own) process = null;
    for (const exchange of own.open) {
      exchange.reset();
      broken.push(exchange);
    }
    return true;
  }

  /** Supervisor, daemon and processes end; a person starts them again. Containers stay, unless the power goes. */
  function endAll(why: string, downMs: number): void {
    supervisor = false;
    if (process) leave(process, why);
    for (const exchange of queue) exchange.reset();
    queue = [];
    hosts.process.lose({ ...LEFT_WITH_HOST });
    if (why === POWER_CUT) hosts.docker.endAll({ ...LEFT_WITH_HOST });
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
    if (fault.kind === "pool-away") hosts.away(fault.ms);
    if (fault.kind === "full-disk" || fault.kind === "pool-away" || own === null) return;
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
    endAll(POWER_CUT, downMs);
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
    const nowMs = clock.nowMs();
    history.outages.push({ fromMs: nowMs, toMs: nowMs + STOP_MS, kind: "asked to end", endsWorkers: true });
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
    for (const exchange of waited) void serve(world, process, exchange);
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
      hosts.heal();
      if (process?.held) resume(process);
    },
    close: () => {
      if (process) process.alive = false;
      for (const { abort } of [...broken, ...(process?.open ?? [])]) abort.abort(null);
    },
  };
}

const NO_LOGS: LogStore = {
  pathOf: () => "/simulated",
  read: async () => [],
  follow: async () => {},
  lastLines: () => [],
  prune: async () => 0,
};
