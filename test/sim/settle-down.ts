import type { SimulatedHost } from "../../src/runtime/adapters/simulated/worker-pool.ts";
import { RETRY_AFTER_STOP_MS } from "../../src/runtime/core/job-machine.ts";
import type { Clients } from "./clients.ts";
import type { Machine } from "./machine.ts";
import { checkProgress } from "./progress.ts";
import { until } from "./simulate.ts";
import type { Workers } from "./workers.ts";
import type { World } from "./world.ts";

type Parts = {
  readonly world: World;
  readonly machine: Machine;
  readonly clients: Clients;
  readonly workers: Workers;
  readonly host: SimulatedHost;
  readonly performing: ReadonlySet<Promise<void>>;
};

type Health = { readonly jobs: { readonly inQueue: number } };
type ListedJob = { readonly id: string; readonly status: string; readonly endpointId: string };
type ListedWorker = { readonly id: string; readonly endpointId: string; readonly endedAt: string | null };
type Counted = Readonly<Record<"inQueue" | "inProgress" | "completed" | "failed", number>>;

const LOOK_EVERY_MS = 2_500;
/** Everything that was accepted has ended by now: the longest time to live, and the time to notice. */
const END_LIMIT_MS = 300_000;
/** Workers are what is wanted by now: the longest backoff of a start, and two periods of the reconciler. */
const CONVERGE_LIMIT_MS = 320_000;
/** Three tries of a webhook. */
const WEBHOOKS_MS = 40_000;
const MOST_JOBS = "1000";
const DAY_MS = 24 * 3_600_000;
const TERMINAL: ReadonlySet<string> = new Set(["COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"]);

/** After the faults: everything comes to its end, and what is there is what is wanted. */
export async function settleDown(parts: Parts): Promise<void> {
  const { world, machine, clients } = parts;
  await passUntil(world, "the daemon serves", END_LIMIT_MS, machine.isServing);
  await until(world, "settings", restoreSettings(parts));
  if (!(await watchToTheEnd(parts))) return;
  await until(world, "looks at the ends", lookAtAll(parts));
  await world.clock.advance(WEBHOOKS_MS);
  await converge(parts);
  await until(world, "last looks", lookAtAll(parts));
  await until(world, "audit", audit(world, clients));
}

async function passUntil(world: World, what: string, limitMs: number, holds: () => boolean): Promise<void> {
  const endMs = world.nowMs() + limitMs;
  while (!holds()) {
    if (world.nowMs() > endMs) return world.fail("liveness", `${what}: not within ${limitMs} ms`);
    await world.clock.advance(LOOK_EVERY_MS / 5);
  }
}

/** As they were planned: an endpoint that an operator closed is opened again. */
async function restoreSettings({ world, clients }: Parts): Promise<void> {
  for (const [endpoint, { max, min }] of world.plan.endpoints.entries()) {
    for (;;) {
      await clients.perform(-1, { kind: "settings", endpoint, max, min });
      if (world.history.maxOrders.at(-1)?.outcome === "done") break;
    }
  }
}

/** Until every job has ended, also those whose ids no client was told; false when some did not. */
async function watchToTheEnd({ world, clients, workers, performing }: Parts): Promise<boolean> {
  const { clock, plan } = world;
  const endMs = clock.nowMs() + END_LIMIT_MS;
  const waitingSinceMs = plan.endpoints.map((): number | null => null);
  for (;;) {
    for (const [endpoint, { retries }] of plan.endpoints.entries()) {
      const params = { endpoint: clients.endpointId(endpoint) };
      const { jobs } = await until(world, "health", clients.ask<Health>("health", params));
      const sinceMs = jobs.inQueue === 0 ? null : (waitingSinceMs[endpoint] ?? clock.nowMs());
      waitingSinceMs[endpoint] = sinceMs;
      // Jobs on backoff wait for time, not for workers, and so do stopped ones that were retried.
      const backoff = retries > 0 || retriedSince(world, clock.nowMs() - RETRY_AFTER_STOP_MS - LOOK_EVERY_MS);
      if (sinceMs !== null && !backoff) checkProgress(world, workers, { endpoint, waitingSinceMs: sinceMs });
    }
    const open = await until(world, "jobs", openJobs(clients));
    if (open.length === 0 && performing.size === 0) return true;
    if (clock.nowMs() > endMs) {
      world.fail("INV-1", `not ended ${END_LIMIT_MS / 1_000} s after the faults: ${open.join(", ")}`);
      return false;
    }
    await clock.advance(LOOK_EVERY_MS);
  }
}

function retriedSince({ history }: World, sinceMs: number): boolean {
  return history.orders.some(({ kind, sentAtMs }) => kind === "retry" && sentAtMs > sinceMs);
}

async function openJobs(clients: Clients): Promise<string[]> {
  const jobs = await clients.ask<ListedJob[]>("listJobs", {}, { limit: MOST_JOBS });
  return jobs.flatMap(({ id, status }) => (TERMINAL.has(status) ? [] : [`${id} ${status}`]));
}

async function lookAtAll({ world, clients }: Parts): Promise<void> {
  for (const { jobId, endpoint } of world.history.submissions.values()) {
    if (jobId !== null) while ((await clients.look(jobId, endpoint)) === undefined);
  }
}

/** INV-8: the processes are those that the daemon knows, and as many as are wanted. */
async function converge({ world, clients, host }: Parts): Promise<void> {
  const endMs = world.nowMs() + CONVERGE_LIMIT_MS;
  for (;;) {
    const workers = await until(world, "workers", clients.ask<ListedWorker[]>("listWorkers"));
    const problem = difference(world, workers, host, clients);
    if (problem === null) return;
    if (world.nowMs() > endMs) return world.fail("INV-8", problem);
    await world.clock.advance(LOOK_EVERY_MS * 4);
  }
}

function difference(
  { plan }: World,
  workers: readonly ListedWorker[],
  host: SimulatedHost,
  clients: Clients,
): string | null {
  const present = workers.filter(({ endedAt }) => endedAt === null);
  const known = present.map(({ id }) => id).sort();
  const running = host
    .running()
    .map(({ start }) => String(start.workerId))
    .sort();
  if (known.join() !== running.join()) return `rows ${known.join(" ")}, processes ${running.join(" ")}`;
  for (const [endpoint, { min, name }] of plan.endpoints.entries()) {
    const count = present.filter(({ endpointId }) => endpointId === clients.endpointId(endpoint)).length;
    if (count !== min) return `${name} has ${count} workers and wants ${min}`;
  }
  return null;
}

/** INV-7: the counters agree with the list. */
async function audit(world: World, clients: Clients): Promise<void> {
  const jobs = await clients.ask<ListedJob[]>("listJobs", {}, { limit: MOST_JOBS });
  // Metadata of jobs is kept for seven days.
  if (world.history.leaps.some(({ ms }) => ms > DAY_MS)) return;
  for (const endpoint of world.plan.endpoints.keys()) {
    const endpointId = clients.endpointId(endpoint);
    const { jobs: counted } = await clients.ask<{ jobs: Counted }>("getEndpoint", { endpoint: endpointId });
    const count = (...states: string[]) =>
      jobs.filter((job) => job.endpointId === endpointId && states.includes(job.status)).length;
    const listed = {
      inQueue: count("IN_QUEUE"),
      inProgress: count("IN_PROGRESS"),
      completed: count("COMPLETED"),
      failed: count("FAILED", "TIMED_OUT"),
    };
    for (const name of Object.keys(listed) as (keyof Counted)[])
      if (listed[name] !== counted[name])
        world.fail(
          "INV-7",
          `endpoint ${endpoint}: ${name} is counted ${counted[name]}, listed ${listed[name]}`,
        );
  }
}
