import type {
  SimulatedLaunch,
  SimulatedProcess,
  SimulatedProgram,
} from "../../src/runtime/adapters/simulated/worker-pool.ts";
import type { BuiltRelease } from "../../src/runtime/ports/worker-pool.ts";
import { deployOf } from "./builds.ts";
import type { WorkerLife } from "./history.ts";
import type { Network } from "./network.ts";
import { CRASHES, type Fate, type Running, runWorker } from "./worker-program.ts";
import type { World } from "./world.ts";

/** The programs in the workers' processes, and what befalls them. */
export type Workers = {
  launch(process: SimulatedProcess, launch: SimulatedLaunch): Promise<SimulatedProgram>;
  /** One of those that run ends, stands still, or is cut off; false when none runs. */
  strike(
    what:
      | "death"
      | "all die"
      | "hang"
      | "hang, pings go on"
      | { readonly cutOff: "in" | "out" | "both"; readonly ms: number },
  ): boolean;
  /** The sound worker of a release that has been asking for jobs longest, without a break; null: none has. */
  asking(endpoint: number, release: number): Waiting | null;
  /** The sound worker of a release that has been standing still longest; null: none does. */
  frozen(endpoint: number, release: number): Waiting | null;
};

export type Waiting = { readonly workerId: string; readonly sinceMs: number };

const START_MS = [20, 400] as const;
/** An image that is not here yet. */
const PULL_MS = [200, 60_000] as const;
const PULLS = 0.5;
const PULL_STEPS = 8;

export function createWorkers(world: World, network: Network, isAllReachable: () => boolean): Workers {
  const { clock, history, plan } = world;
  const chance = world.chance("workers");
  const running = new Map<string, Running>();

  async function launch(process: SimulatedProcess, how: SimulatedLaunch): Promise<SimulatedProgram> {
    const endpoint = endpointOf(process);
    const life = how.again ? wakeLife(process, endpoint) : beginLife(process, endpoint);
    const isImage = plan.endpoints[endpoint]?.pool === "docker";
    if (isImage && !how.again) await pull(process, how);
    how.onPhase({ phase: "create" });
    await clock.sleep(chance.skewed(...START_MS), how.signal);
    stillWanted(process, how);
    if (world.strikes("start-refused", chance)) throw new Error("no such interpreter");
    how.onPhase({ phase: "boot" });
    const fate = fateOf(process);
    const worker = runWorker({ world, network, chance }, process, { endpoint, life, fate });
    running.set(process.start.workerId, worker);
    world.trace(`process ${life.workerId} of ${endpoint} runs ${life.build} of release ${life.release}`);
    return {
      freeze: worker.freeze,
      thaw: worker.thaw,
      terminate: () => {
        if (!process.isAlive() || life.stopAskedAtMs !== null) return;
        life.stopAskedAtMs = clock.nowMs();
        worker.terminate();
      },
    };
  }

  async function pull(process: SimulatedProcess, { onPhase, signal }: SimulatedLaunch): Promise<void> {
    if (!chance.hits(PULLS)) return;
    world.coverage.fault("slow-pull");
    const wholeMs = chance.skewed(...PULL_MS);
    for (let part = 0; part < PULL_STEPS; part += 1) {
      onPhase({ phase: "pull", percent: part === 0 ? null : (100 * part) / PULL_STEPS });
      await clock.sleep(wholeMs / PULL_STEPS, signal);
      stillWanted(process, { signal });
      if (part === 1 && world.strikes("pull-fails", chance)) throw new Error("no such image");
    }
  }

  function stillWanted(process: SimulatedProcess, { signal }: Pick<SimulatedLaunch, "signal">): void {
    if (signal.aborted) world.coverage.fault("start-aborted");
    if (signal.aborted || !process.isAlive()) throw new Error("nobody waits for it any more");
  }

  function endpointOf({ start }: SimulatedProcess): number {
    const name = start.env.SIM_ENDPOINT;
    return plan.endpoints.findIndex((endpoint) => endpoint.name === name);
  }

  /** INV-5 and INV-6, from the host's side. */
  function checkStart({ start }: SimulatedProcess, endpoint: number): void {
    const { workerId, release } = start;
    if (history.lives.has(workerId)) world.fail("INV-6", `worker id ${workerId} is used again`);
    const alive = [...history.lives.values()].filter(
      (life) => life.endpoint === endpoint && life.endedAtMs === null,
    );
    const surge = alive.some((life) => life.release !== release) ? 1 : 0;
    const most = mostWorkers(endpoint) + surge;
    if (alive.length + 1 > most)
      world.fail(
        "INV-5",
        `endpoint ${endpoint}: worker ${workerId} is started beside ${alive.length}, with max ${most}`,
      );
  }

  /** What workers hold together fits, unless one that asks for more than there is has the machine for itself. */
  function checkMemory(workerId: string, endpoint: number): void {
    const claim = plan.endpoints[endpoint]?.memoryGiB ?? 0;
    const { budgetGiB } = plan;
    // What came up in an engine that nobody reaches is nobody's claim yet.
    if (budgetGiB === null || claim === 0 || !isAllReachable()) return;
    const held = [...history.lives.values()]
      .filter((life) => life.workerId !== workerId && life.endedAtMs === null && !life.kept)
      .reduce((sum, life) => sum + (plan.endpoints[life.endpoint]?.memoryGiB ?? 0), 0);
    if (held > 0 && held + claim > budgetGiB)
      world.fail("budget", `${workerId} claims ${claim} GiB beside ${held} of ${budgetGiB}`);
  }

  /** The largest max that may be in force: the last one confirmed, and all sent since. */
  function mostWorkers(endpoint: number): number {
    const orders = history.maxOrders.filter(
      (order) => order.endpoint === endpoint && order.outcome !== "refused",
    );
    const confirmed = orders.findLastIndex(({ outcome }) => outcome === "done");
    const candidates = orders.filter((order, at) => at >= confirmed || overlaps(order, orders[confirmed]));
    return Math.max(
      ...candidates.map(({ max }) => max),
      confirmed < 0 ? (plan.endpoints[endpoint]?.max ?? 0) + (plan.endpoints[endpoint]?.extra ?? 0) : 0,
    );
  }

  function wakeLife(process: SimulatedProcess, endpoint: number): WorkerLife {
    const { workerId } = process.start;
    const life = history.lives.get(workerId);
    if (life === undefined) throw new Error(`${workerId} never ran`);
    checkMemory(workerId, endpoint);
    life.kept = false;
    life.wokenAtMs = clock.nowMs();
    return life;
  }

  function beginLife(process: SimulatedProcess, endpoint: number): WorkerLife {
    checkStart(process, endpoint);
    const { workerId, built, release, env } = process.start;
    checkMemory(workerId, endpoint);
    const life: WorkerLife = {
      workerId,
      endpoint,
      build: buildOf(built),
      release,
      deploy: env.SIM_DEPLOY === undefined ? null : Number(env.SIM_DEPLOY),
      startedAtMs: clock.nowMs(),
      stopAskedAtMs: null,
      kept: false,
      wokenAtMs: null,
      struck: false,
      endedAtMs: null,
      ended: null,
      idleTakesMs: [],
    };
    history.lives.set(workerId, life);
    process.onEnd(({ reason }, kept) => {
      life.kept = kept;
      running.delete(workerId);
      if (kept) return world.trace(`process ${workerId} sleeps, its container is kept`);
      life.endedAtMs = clock.nowMs();
      life.ended = endedHow(reason);
      if (life.ended !== "asked") world.disturb(endpoint);
      world.trace(`process ${workerId} ended: ${reason}`);
      for (const delivery of history.deliveries) {
        if (delivery.workerId !== workerId || delivery.overAtMs !== null) continue;
        delivery.overAtMs = clock.nowMs();
        delivery.over = "died";
      }
    });
    return life;
  }

  /** Broken code breaks in each worker; good code has bad luck. */
  function fateOf({ start }: SimulatedProcess): Fate {
    const fate = deployOf(world, start.env)?.fate;
    if (fate === "exits") return "fails";
    return fate === "never-asks" ? "never" : bootFate();
  }

  function bootFate(): Fate {
    const fails = world.strikes("boot-fails", chance);
    const never = world.strikes("boot-never", chance);
    const unfit = world.strikes("unfit", chance);
    return fails ? "fails" : never ? "never" : unfit ? "unfit" : "well";
  }

  function longest(
    endpoint: number,
    release: number,
    sinceMsOf: (worker: Running) => number | null,
  ): Waiting | null {
    const waiting = [...running.values()].flatMap((worker) => {
      const { start } = worker.process;
      const isOf = worker.endpoint === endpoint && start.release === release;
      const sinceMs = isOf ? sinceMsOf(worker) : null;
      return sinceMs === null ? [] : { workerId: start.workerId as string, sinceMs };
    });
    return waiting.sort((a, b) => a.sinceMs - b.sinceMs)[0] ?? null;
  }

  function endAll(alive: readonly Running[]): boolean {
    const isAsleep = (worker: Running) => Number(worker.frozenSinceMs() !== null);
    for (const { process } of alive.toSorted((a, b) => isAsleep(a) - isAsleep(b))) {
      world.trace(`worker ${process.start.workerId} dies with all others`);
      process.end(CRASHES[1]);
    }
    return alive.length > 0;
  }

  return {
    launch,
    asking: (endpoint, release) => longest(endpoint, release, (worker) => worker.askingSinceMs()),
    frozen: (endpoint, release) => longest(endpoint, release, (worker) => worker.frozenSinceMs()),
    strike: (what) => {
      const alive = [...running.values()];
      if (what === "all die") return endAll(alive);
      if (alive.length === 0) return false;
      const victim = chance.pick(alive);
      const { workerId } = victim.process.start;
      world.trace(`worker ${workerId} is struck: ${JSON.stringify(what)}`);
      const life = history.lives.get(workerId);
      if (life) life.struck = true;
      if (what === "death") victim.process.end(chance.pick(CRASHES));
      else if (typeof what === "object") victim.peer.cutOff(what.cutOff, what.ms);
      else victim.hang(what === "hang, pings go on");
      return true;
    },
  };
}

function endedHow(reason: string): WorkerLife["ended"] {
  if (reason === "killed by rpx") return "killed";
  if (reason === "stopped by rpx") return "asked";
  return reason === "its host ended" ? "lost" : "own";
}

function overlaps(
  order: { readonly endedAtMs: number | null },
  later: { readonly sentAtMs: number } | undefined,
): boolean {
  return later !== undefined && (order.endedAtMs === null || order.endedAtMs > later.sentAtMs);
}

/** Which build of the plan a worker runs: its program's argument. */
function buildOf(built: BuiltRelease): string {
  return (built.kind === "process" ? built.args[0] : built.image) ?? "";
}
