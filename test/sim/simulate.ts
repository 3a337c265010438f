import type { WebhookNet } from "../../src/runtime/ports/webhook-net.ts";
import { checkHistory } from "./checks.ts";
import { createClients } from "./clients.ts";
import { createSimulatedDisk } from "./disk.ts";
import type { Violation } from "./history.ts";
import { createHosts } from "./hosts.ts";
import { createMachine, type MachineFault } from "./machine.ts";
import { createNetwork } from "./network.ts";
import type { Act, Fault, Plan, Step } from "./plan.ts";
import { checkFreshJobs } from "./progress.ts";
import { settleDown } from "./settle-down.ts";
import { createWorkers, type Workers } from "./workers.ts";
import { createWorld, type World, type WorldOptions } from "./world.ts";

/** What became of one seed. */
export type Outcome = {
  readonly seed: number;
  /** Digest of everything that happened, in order. */
  readonly digest: string;
  readonly violations: readonly Violation[];
  readonly counts: ReadonlyMap<string, number>;
  /** Jobs that were accepted. */
  readonly jobs: number;
  readonly virtualMs: number;
  /** The last lines of what happened. */
  readonly lines: readonly string[];
};

/** Amid the faults it is looked this often whether jobs start. */
const CHECK_EVERY_MS = 1_000;
/** The first daemon serves by then, and has made the admin's key. */
const FIRST_START_MS = 2_000;

/** Runs a plan to its end: the real services on virtual time in a world that misbehaves, then heals. */
export async function simulate(plan: Plan, options: WorldOptions = {}): Promise<Outcome> {
  const world = createWorld(plan, options);
  const disk = createSimulatedDisk();
  try {
    await live(world, disk);
  } catch (error) {
    world.fail("the simulation ends", error instanceof Error ? String(error.stack) : String(error));
  } finally {
    disk.close();
  }
  return {
    seed: plan.seed,
    digest: world.digest(),
    violations: world.violations,
    counts: world.coverage.counts,
    jobs: [...world.history.submissions.values()].filter(({ jobId }) => jobId !== null).length,
    virtualMs: world.nowMs(),
    lines: world.lines,
  };
}

async function live(world: World, disk: ReturnType<typeof createSimulatedDisk>): Promise<void> {
  const { clock, plan } = world;
  const hosts = createHosts(world, () => workers);
  const machine = createMachine(world, { disk, hosts, webhookNet: createReceiver(world) });
  const network = createNetwork(world, machine.accept);
  const workers: Workers = createWorkers(world, network, () => !hosts.docker.isAway());
  const clients = createClients(world, network, machine.adminKey);
  machine.start();
  await clock.advance(FIRST_START_MS);
  // Faults begin once the endpoints are there; the weather is bad from the beginning.
  await until(world, "endpoints", clients.prepare());
  const startMs = clock.nowMs();
  let nextCheckMs = startMs;
  const performing = new Set<Promise<void>>();
  for (const step of plan.steps) {
    await passTo(startMs + step.atMs);
    const done = act(step);
    performing.add(done);
    void done.finally(() => performing.delete(done));
  }
  await passTo(startMs + plan.healAtMs);
  world.healed = true;
  world.trace("the world heals");
  machine.heal();
  await settleDown({ world, machine, clients, workers, hosts, performing });
  machine.close();
  checkHistory(world);

  async function passTo(atMs: number): Promise<void> {
    while (clock.nowMs() < atMs) {
      await clock.advance(Math.min(CHECK_EVERY_MS, atMs - clock.nowMs()));
      if (clock.nowMs() >= nextCheckMs) {
        nextCheckMs = clock.nowMs() + CHECK_EVERY_MS;
        if (!machine.isSound()) world.disturb();
        for (const at of plan.endpoints.keys()) if (!hosts.isReachable(at)) world.disturb(at);
        if (machine.isSound()) checkFreshJobs(world, workers);
      }
    }
  }

  async function act({ id, act: what }: Step): Promise<void> {
    if (isWorkerFault(what)) strikeWorker(world, workers, what);
    else if (isFault(what)) machine.strike(what);
    else await clients.perform(id, what);
  }
}

/** Advances time until the promise has settled. */
export async function until<T>(
  world: World,
  what: string,
  promise: Promise<T>,
  limitMs = 600_000,
): Promise<T> {
  const endMs = world.nowMs() + limitMs;
  let settled = false;
  const watched = promise.finally(() => {
    settled = true;
  });
  watched.catch(() => {});
  await world.clock.settle();
  while (!settled) {
    if (world.nowMs() > endMs) throw new Error(`${what}: not within ${limitMs} ms of virtual time`);
    await world.clock.advance(Math.max(1, (world.clock.nextWakeMs() ?? endMs + 1) - world.nowMs()));
  }
  return watched;
}

type WorkerFault = Exclude<Fault, MachineFault>;
type ClientAct = Parameters<ReturnType<typeof createClients>["perform"]>[1];

function isWorkerFault(act: Act): act is WorkerFault {
  return WORKER_FAULTS.has(act.kind);
}

function isFault(act: Exclude<Act, WorkerFault>): act is Exclude<Act, WorkerFault | ClientAct> {
  return FAULTS.has(act.kind);
}

const WORKER_FAULTS: ReadonlySet<string> = new Set([
  "worker-death",
  "workers-die",
  "worker-hang",
  "partition",
]);
const FAULTS: ReadonlySet<string> = new Set([
  "kill",
  "kill-at-commit",
  "power-cut",
  "supervisor-kill",
  "pause",
  "handover",
  "restart",
  "clock-jump",
  "full-disk",
  "pool-away",
]);

function strikeWorker({ coverage }: World, workers: Workers, fault: WorkerFault): void {
  if (fault.kind === "worker-death") {
    if (workers.strike("death")) coverage.fault("worker-death");
  } else if (fault.kind === "workers-die") {
    if (workers.strike("all die")) coverage.fault("workers-die");
  } else if (fault.kind === "worker-hang") {
    const struck = workers.strike(fault.pings ? "hang, pings go on" : "hang");
    if (struck) coverage.fault(fault.pings ? "worker-hang, pings go on" : "worker-hang, whole");
  } else if (workers.strike({ cutOff: fault.way, ms: fault.ms })) coverage.fault(`partition ${fault.way}`);
}

/** The receiver of webhooks, and the way there. */
function createReceiver(world: World): WebhookNet {
  const chance = world.chance("webhooks");
  return {
    post: async ({ body, headers }) => {
      await world.clock.sleep(chance.skewed(1, 500));
      const id = headers["webhook-id"] ?? "";
      const refused = world.strikes("webhook-refused", chance);
      const jobId = id.replace(/^msg_/, "").replace(/_\d+$/, "");
      world.history.webhooks.push({ id, jobId, atMs: world.nowMs(), body, accepted: !refused });
      world.trace(`webhook ${id} ${refused ? "refused" : "taken"}`);
      if (refused) return { accepted: false, status: "500" };
      return world.strikes("webhook-broken", chance)
        ? { accepted: false, status: "reset" }
        : { accepted: true, status: "200" };
    },
  };
}
