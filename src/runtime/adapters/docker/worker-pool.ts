import { readFile } from "node:fs/promises";
import { RpxError } from "../../../contract/error.ts";
import type { AskedEnd } from "../../core/exit-reason.ts";
import type { BuiltImage, BuiltRelease, WorkerId } from "../../core/model.ts";
import { createLoop } from "../../loop.ts";
import type { Clock } from "../../ports/clock.ts";
import type { LogStore } from "../../ports/log-store.ts";
import type { PoolWorker, StartStep, WorkerPool, WorkerStart } from "../../ports/worker-pool.ts";
import { containerName, containerSpec } from "./container-spec.ts";
import { createContainers } from "./containers.ts";
import { createDiskWatch } from "./disk-watch.ts";
import type { Engine } from "./engine.ts";
import { refusalOf, safeText } from "./engine-errors.ts";
import { canLimitDisk } from "./engine-facts.ts";
import { type FindFreezer, findFreezer } from "./freezer.ts";
import { resolveMounts } from "./mounts.ts";
import { HOST_ALIAS, type WorkerNetwork } from "./network-port.ts";
import { createQuarantine } from "./quarantine.ts";
import { createRoster, type Entry } from "./roster.ts";
import { createSleep } from "./sleep.ts";
import type { StartImages } from "./start-image.ts";
import { createSurvey } from "./survey.ts";

type Log = {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
};

export type DockerPoolDeps = {
  /** Opened by whoever made it, and shared with the builder and the network. Its label is `rpx.daemon=<daemonId>`. */
  readonly engine: Engine;
  readonly network: WorkerNetwork;
  readonly images: StartImages;
  readonly logs: Pick<LogStore, "pathOf" | "lastLines" | "read">;
  readonly clock: Clock;
  readonly log: Log;
  /** Id of the data directory: what this daemon's containers are known by after a restart. */
  readonly daemonId: string;
  readonly dataDir: string;
  /** Folders below the data directory that a release's mounts may name. */
  readonly mountable: readonly string[];
  /** How a container is held still; the kernel's freezer where this daemon may use it, unless told otherwise. */
  readonly findFreezer?: FindFreezer;
};

export type DockerPool = WorkerPool & {
  /** Begins to watch the containers. The engine is open by then, whether it answers or not. */
  open(): Promise<void>;
  /** Ends the watching; containers go on. */
  close(): Promise<void>;
};

/** What no event told is seen after this. */
const LOOK_EVERY_MS = 5_000;
const NETWORK_EVERY_MS = 30_000;
/** Events within this time are one. */
const COALESCE_MS = 20;

/** Workers as containers of an engine that somebody else runs: what is here is a view of them, looked at again and again. */
export function createDockerPool(deps: DockerPoolDeps): DockerPool {
  const { engine, network, images, clock, log, daemonId } = deps;
  const containers = createContainers(engine, daemonId);
  const quarantine = createQuarantine({ containers, clock, log });
  const freezing = { findFreezer: deps.findFreezer ?? findFreezer };
  const followDeps = { ...deps, containers };
  const roster = createRoster({ ...followDeps, ...freezing });
  const starting = new Set<WorkerId>();
  const sleep = createSleep({ ...{ engine, containers, network, clock, followDeps }, ...freezing });
  const survey = createSurvey({ roster, containers, quarantine, starting, clock, end, thaw: sleep.thaw });
  const disk = createDiskWatch({ roster, containers, clock, log, end });
  let closely = true;
  /** Until there are workers, or are to be, this host is left as it is. */
  let isWanted = false;
  let networkDueMs = 0;
  let wasAway = engine.away() !== null;

  const loop = createLoop({
    clock,
    tick: lookAgain,
    maxPauseMs: LOOK_EVERY_MS,
    minPauseMs: COALESCE_MS,
    log,
    name: "docker pool",
  });

  async function lookAgain(): Promise<number | null> {
    if (engine.away() !== null) {
      wasAway = true;
      return null;
    }
    const options = { closely: closely || wasAway, afterAbsence: wasAway };
    [closely, wasAway] = [false, false];
    try {
      if (isWanted && clock.nowMs() >= networkDueMs) await checkNetwork();
      await survey.look(options);
    } catch (error) {
      closely ||= options.closely;
      wasAway ||= options.afterAbsence;
      if (engine.away() === null) log.warn({ err: error }, "the containers could not be looked at");
    }
    return null;
  }

  /** Somebody may have removed it, or flushed the rules of this machine. */
  async function checkNetwork(): Promise<void> {
    networkDueMs = clock.nowMs() + NETWORK_EVERY_MS;
    await network.ensure().catch((error: unknown) => log.warn({ err: error }, "no network for workers"));
  }

  const leave = [
    engine.onEvent((event) => {
      if (event === null) closely = true;
      if (event === null) return loop.nudge();
      survey.hear(event).catch(() => {
        // The next look asks again.
        closely = true;
        loop.nudge();
      });
    }),
    engine.onChange(() => {
      if (engine.away() !== null) wasAway = true;
      else networkDueMs = 0;
      loop.nudge();
    }),
  ];

  /** Ends a container's processes now, frozen or not. Its end is told when the engine shows it. */
  async function end(entry: Entry): Promise<void> {
    await sleep.thaw(entry);
    await containers.signal(entry.containerId, "SIGKILL");
    loop.nudge();
  }

  async function start(
    worker: WorkerStart,
    onPhase: (phase: StartStep) => void,
    signal: AbortSignal,
  ): Promise<{ readonly handle: string }> {
    const { workerId } = worker;
    const built = imageOf(worker.built);
    if (starting.has(workerId) || roster.get(workerId) !== undefined)
      throw new Error(`worker ${workerId} was started before`);
    starting.add(workerId);
    let isMade = false;
    try {
      signal.throwIfAborted();
      const onPull = (percent: number | null) => onPhase({ phase: "pull", percent });
      const image = await images.ensure(built, onPull, signal);
      onPhase({ phase: "create" });
      // Beside the container's making: it asks two programs of this machine, which takes as long.
      const guarded = network.ensure();
      guarded.catch(() => {});
      const spec = containerSpec({
        ...{ worker, built, daemonId, image },
        networkMode: network.name,
        needsHostAlias: network.address()?.urlHost === HOST_ALIAS,
        mounts: await resolveMounts(built.mounts, mountRules()),
        engine: await engineLimits(),
      });
      for (const warning of spec.warnings) log.warn({ workerId, warning }, "worker limited");
      isMade = true;
      const containerId = await containers.create(spec.options, signal);
      await guarded;
      onPhase({ phase: "boot" });
      await containers.start(containerId, signal);
      await network.onContainerStarted(containerId);
      signal.throwIfAborted();
      await takeIn(worker, containerId);
      return { handle: containerId };
    } catch (error) {
      // By its name: whether the engine made it is not known after a lost answer.
      if (isMade) await quarantine.drop(containerName(workerId));
      throw startError(built, error);
    } finally {
      starting.delete(workerId);
      loop.nudge();
    }
  }

  async function takeIn({ workerId, endpointId, limits }: WorkerStart, containerId: string): Promise<void> {
    const details = await containers.inspect(containerId);
    if (details === null) throw new Error("its container was removed at once");
    const { canLimitDisk: isKept } = await engineLimits();
    const diskBytesLimit = isKept ? null : limits.diskBytes;
    const entry = await roster.add(
      { id: containerId, name: "", workerId, endpointId, diskBytesLimit },
      details,
    );
    // It may have ended already, but that is news.
    entry.isOld = false;
    await survey.catchUp(entry);
  }

  function mountRules() {
    const socket = engine.isSocket ? [engine.endpoint.replace(/^unix:\/\//, "")] : [];
    const rootDir = engine.facts()?.rootDir;
    return {
      dataDir: deps.dataDir,
      mountable: deps.mountable,
      engine: [...socket, "/var/run/docker.sock", ...(rootDir ? [rootDir] : [])],
    };
  }

  async function engineLimits() {
    const facts = engine.facts();
    const mounts = engine.isSocket ? await readFile("/proc/self/mounts", "utf8").catch(() => null) : null;
    return { cpus: facts?.cpus ?? 0, canLimitDisk: facts !== null && canLimitDisk(facts, mounts) };
  }

  /** The worker, also one that this daemon has not looked at yet; null when it is none or has ended. */
  async function alive(workerId: WorkerId): Promise<Entry | null> {
    if (roster.get(workerId) === undefined) await survey.look();
    const entry = roster.get(workerId);
    return entry === undefined || entry.exit !== null ? null : entry;
  }

  async function ask(workerId: WorkerId, asked: AskedEnd): Promise<void> {
    const entry = await alive(workerId);
    if (entry === null) return;
    if (entry.asked !== "kill") entry.asked = asked;
    if (entry.asleep === "stopped") return roster.conclude(entry, null);
    if (asked === "kill") return kill(entry);
    await sleep.thaw(entry);
    await containers.signal(entry.containerId, "SIGTERM");
  }

  /** A container that the engine cannot end holds nobody up: its worker's token is revoked, and it is tried again (F-17). */
  async function kill(entry: Entry): Promise<void> {
    try {
      await end(entry);
    } catch (error) {
      if (refusalOf(error) === null) throw error;
      log.warn({ workerId: entry.workerId, err: error }, "a container cannot be ended");
      await roster.conclude(entry, null);
      await quarantine.drop(entry.containerId);
    }
  }

  async function list(): Promise<readonly PoolWorker[]> {
    await survey.look();
    return roster.all().map(({ workerId, containerId, asleep, exit }) => ({
      workerId,
      handle: containerId,
      asleep: exit === null ? asleep : null,
      exit,
    }));
  }

  async function forget(workerId: WorkerId): Promise<void> {
    await alive(workerId);
    const entry = roster.get(workerId);
    if (entry === undefined) return;
    roster.delete(workerId);
    await sleep.thaw(entry).catch(() => {});
    await quarantine.drop(entry.containerId);
  }

  return {
    kind: "docker",
    sleeps: ["frozen", "stopped"],
    isolation: () => network.isolation(),
    away: () => engine.away(),
    address: () => network.address(),
    prepare() {
      if (isWanted) return;
      isWanted = true;
      loop.nudge();
    },
    onChange(listener) {
      const stops = [engine.onChange(listener), network.onChange(listener)];
      return () => {
        for (const stop of stops) stop();
      };
    },
    start,
    stop: (workerId) => ask(workerId, "stop"),
    kill: (workerId) => ask(workerId, "kill"),
    async park(workerId, depth) {
      const entry = await alive(workerId);
      if (entry !== null) await sleep.park(entry, depth);
      loop.nudge();
    },
    async wake(workerId) {
      const entry = await alive(workerId);
      if (entry !== null) await sleep.wake(entry);
    },
    list,
    forget,
    onExit: (listener) => roster.onExit(listener),
    async open() {
      // Those of a daemon before need their network and its rules from the beginning.
      if (engine.away() === null) isWanted = (await containers.list()).length > 0;
      if (isWanted) await checkNetwork();
      loop.start();
      disk.start();
    },
    async close() {
      for (const stop of leave) stop();
      await Promise.all([loop.stop(), disk.stop(), roster.close()]);
    },
  };
}

function imageOf(built: BuiltRelease): BuiltImage {
  if (built.kind === "image") return built;
  throw new Error(`the Docker pool cannot start ${built.file}: it is a program of this machine`);
}

function startError({ reference }: BuiltImage, error: unknown): unknown {
  if (error instanceof RpxError || refusalOf(error) === null) return error;
  return new RpxError("unavailable", `cannot start a worker from ${reference}`, {
    why: safeText((error as Error).message),
    hint: "check the image, its command and the limits of the endpoint",
    cause: error,
  });
}
