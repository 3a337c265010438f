import type { Clock } from "../../ports/clock.ts";
import type { SleepDepth } from "../../ports/worker-pool.ts";
import { containerName } from "./container-spec.ts";
import type { Containers } from "./containers.ts";
import type { Engine } from "./engine.ts";
import type { FindFreezer } from "./freezer.ts";
import { followLog, type LogFollowDeps } from "./log-follow.ts";
import type { WorkerNetwork } from "./network-port.ts";
import { type Entry, parkedName } from "./roster.ts";

export type SleepDeps = {
  readonly engine: Engine;
  readonly containers: Containers;
  readonly network: WorkerNetwork;
  readonly clock: Clock;
  readonly findFreezer: FindFreezer;
  readonly followDeps: LogFollowDeps;
};

/**
 * Parks and wakes workers (D15, D21). Frozen: by the kernel's freezer where this daemon may write it, else by the engine's pause. Stopped: the
 * container is kept, under a name that says so.
 */
export function createSleep({ engine, containers, network, clock, findFreezer, followDeps }: SleepDeps) {
  /** While it changes, what the engine shows of it means nothing. A step that fails leaves it as it was. */
  async function change(entry: Entry, to: SleepDepth | null, steps: () => Promise<void>): Promise<void> {
    const before = entry.asleep;
    entry.busy = true;
    entry.asleep = to;
    try {
      await steps();
    } catch (error) {
      entry.asleep = before;
      throw error;
    } finally {
      entry.busy = false;
    }
  }

  async function freeze(entry: Entry): Promise<void> {
    entry.isPaused = entry.freezer === null;
    await (entry.freezer?.freeze() ?? containers.pause(entry.containerId));
  }

  /** By the kernel's switch it takes 0.1 ms, and no engine. */
  async function thaw({ freezer, isPaused, containerId }: Entry): Promise<void> {
    if (isPaused || freezer === null) await containers.unpause(containerId);
    else await freezer.thaw();
  }

  async function keepStopped(entry: Entry): Promise<void> {
    await containers.rename(entry.containerId, parkedName(entry.workerId));
    await containers.stop(entry.containerId);
  }

  async function startAgain(entry: Entry): Promise<void> {
    const { containerId, workerId, endpointId } = entry;
    await network.ensure();
    // Two of them would write each line twice.
    await entry.follower.stop();
    await containers.start(containerId);
    await containers.rename(containerId, containerName(workerId));
    await network.onContainerStarted(containerId);
    entry.follower = followLog(followDeps, { containerId, endpointId, workerId });
    const details = await containers.inspect(containerId);
    if (details === null) return;
    entry.startedAt = details.startedAt;
    entry.isPaused = false;
    entry.freezer = engine.isSocket ? await findFreezer({ pid: details.pid, containerId, clock }) : null;
  }

  return {
    async park(entry: Entry, depth: SleepDepth): Promise<void> {
      if (entry.asleep === depth || entry.asleep === "stopped") return;
      if (depth === "frozen") return change(entry, "frozen", () => freeze(entry));
      if (entry.asleep === "frozen") await change(entry, null, () => thaw(entry));
      await change(entry, "stopped", () => keepStopped(entry));
    },
    async wake(entry: Entry): Promise<void> {
      if (entry.asleep === "frozen") await change(entry, null, () => thaw(entry));
      else if (entry.asleep === "stopped") await change(entry, null, () => startAgain(entry));
    },
    /** Lets a frozen one go on, so that it can hear a signal: the engine's own calls would wait for it. */
    async thaw(entry: Entry): Promise<void> {
      if (entry.asleep === "frozen") await change(entry, null, () => thaw(entry));
    },
  };
}
