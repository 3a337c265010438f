import type { SimulatedProcess, SimulatedProgram } from "../../src/runtime/adapters/simulated/worker-pool.ts";
import type { BuiltRelease } from "../../src/runtime/ports/worker-pool.ts";
import type { WorkerLife } from "./history.ts";
import type { Network } from "./network.ts";
import { CRASHES, type Fate, type Running, runWorker } from "./worker-program.ts";
import type { World } from "./world.ts";

/** The programs in the workers' processes, and what befalls them. */
export type Workers = {
  launch(process: SimulatedProcess): Promise<SimulatedProgram>;
  /** One of those that run ends, stands still, or is cut off; false when none runs. */
  strike(
    what:
      | "death"
      | "hang"
      | "hang, pings go on"
      | { readonly cutOff: "in" | "out" | "both"; readonly ms: number },
  ): boolean;
  /** The sound worker of an endpoint that has been asking for jobs longest, without a break; null: none has. */
  asking(endpoint: number): { readonly workerId: string; readonly sinceMs: number } | null;
};

const START_MS = [20, 400] as const;
export function createWorkers(world: World, network: Network): Workers {
  const { clock, history, plan } = world;
  const chance = world.chance("workers");
  const running = new Map<string, Running>();

  async function launch(process: SimulatedProcess): Promise<SimulatedProgram> {
    const endpoint = endpointOf(process);
    checkStart(process, endpoint);
    await clock.sleep(chance.skewed(...START_MS));
    if (world.strikes("start-refused", chance)) throw new Error("no such interpreter");
    if (!process.isAlive()) throw new Error("its host ended");
    const life = recordLife(process, endpoint);
    const fate = bootFate();
    const worker = runWorker({ world, network, chance }, process, { endpoint, life, fate });
    running.set(process.start.workerId, worker);
    return {
      terminate: () => {
        if (!process.isAlive() || life.stopAskedAtMs !== null) return;
        life.stopAskedAtMs = clock.nowMs();
        worker.terminate();
      },
    };
  }

  function endpointOf({ start }: SimulatedProcess): number {
    const name = start.env.SIM_ENDPOINT;
    return plan.endpoints.findIndex((endpoint) => endpoint.name === name);
  }

  /** INV-5 and INV-6, from the host's side. */
  function checkStart({ start }: SimulatedProcess, endpoint: number): void {
    const { workerId, built } = start;
    if (history.lives.has(workerId)) world.fail("INV-6", `worker id ${workerId} is used again`);
    const alive = [...history.lives.values()].filter(
      (life) => life.endpoint === endpoint && life.endedAtMs === null,
    );
    const surge = alive.some(({ build }) => build !== buildOf(built)) ? 1 : 0;
    const most = mostWorkers(endpoint) + surge;
    if (alive.length + 1 > most)
      world.fail(
        "INV-5",
        `endpoint ${endpoint}: worker ${workerId} is started beside ${alive.length}, with max ${most}`,
      );
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
      confirmed < 0 ? (plan.endpoints[endpoint]?.max ?? 0) : 0,
    );
  }

  function recordLife(process: SimulatedProcess, endpoint: number): WorkerLife {
    const { workerId, built } = process.start;
    const life: WorkerLife = {
      workerId,
      endpoint,
      build: buildOf(built),
      startedAtMs: clock.nowMs(),
      stopAskedAtMs: null,
      endedAtMs: null,
      ended: null,
      idleTakesMs: [],
    };
    history.lives.set(workerId, life);
    world.trace(`process ${workerId} of ${endpoint} runs ${life.build}`);
    process.onEnd(({ reason }) => {
      life.endedAtMs = clock.nowMs();
      life.ended = endedHow(reason);
      if (life.ended !== "asked") world.disturb(endpoint);
      running.delete(workerId);
      world.trace(`process ${workerId} ended: ${reason}`);
      for (const delivery of history.deliveries) {
        if (delivery.workerId !== workerId || delivery.overAtMs !== null) continue;
        delivery.overAtMs = clock.nowMs();
        delivery.over = "died";
      }
    });
    return life;
  }

  function bootFate(): Fate {
    const fails = world.strikes("boot-fails", chance);
    const never = world.strikes("boot-never", chance);
    const unfit = world.strikes("unfit", chance);
    return fails ? "fails" : never ? "never" : unfit ? "unfit" : "well";
  }

  return {
    launch,
    asking: (endpoint) => {
      const asking = [...running.values()].flatMap((worker) => {
        const sinceMs = worker.endpoint === endpoint ? worker.askingSinceMs() : null;
        return sinceMs === null ? [] : { workerId: worker.process.start.workerId as string, sinceMs };
      });
      return asking.sort((a, b) => a.sinceMs - b.sinceMs)[0] ?? null;
    },
    strike: (what) => {
      const alive = [...running.values()];
      if (alive.length === 0) return false;
      const victim = chance.pick(alive);
      world.trace(`worker ${victim.process.start.workerId} is struck: ${JSON.stringify(what)}`);
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
  return (built.kind === "process" && built.args[0]) || "";
}
