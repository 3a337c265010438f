import { createSimulatedHost, type SimulatedHost } from "../../src/runtime/adapters/simulated/worker-pool.ts";
import type { Workers } from "./workers.ts";
import type { World } from "./world.ts";

/** Where workers run: under the supervisor as processes, and in the engine as containers. */
export type Hosts = {
  readonly process: SimulatedHost;
  readonly docker: SimulatedHost;
  /** The engine cannot be reached for a while. */
  away(ms: number): void;
  /** It can from now on. */
  heal(): void;
  /** Whether an endpoint's workers can be reached. */
  isReachable(endpoint: number): boolean;
};

export function createHosts(world: World, workers: () => Workers): Hosts {
  const { clock, coverage, history, plan } = world;
  const chance = world.chance("hosts");
  const make = (kind: "process" | "docker"): SimulatedHost =>
    createSimulatedHost({
      kind,
      launch: (process, launch) => workers().launch(process, launch),
      sleepFailure: (what) =>
        world.strikes(what === "park" ? "park-fails" : "wake-fails", chance) ? `no ${what} today` : null,
      survivesAbsence: () => chance.hits(0.5),
    });
  const hosts = { process: make("process"), docker: make("docker") };
  let absences = 0;

  return {
    ...hosts,
    away: (ms) => {
      if (hosts.docker.isAway()) return;
      coverage.fault("pool-away");
      world.trace("the engine is away");
      absences += 1;
      const absence = absences;
      history.absences.push({ fromMs: clock.nowMs(), toMs: null });
      hosts.docker.setAway("it does not answer");
      void clock.sleep(ms).then(() => {
        if (absence === absences) back();
      });
    },
    heal: back,
    isReachable: (endpoint) => plan.endpoints[endpoint]?.pool !== "docker" || !hosts.docker.isAway(),
  };

  function back(): void {
    absences += 1;
    if (!hosts.docker.isAway()) return;
    world.trace("the engine is back");
    const last = history.absences.at(-1);
    if (last) last.toMs = clock.nowMs();
    world.disturb();
    hosts.docker.setAway(null);
  }
}
