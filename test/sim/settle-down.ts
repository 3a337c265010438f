import { RETRY_AFTER_STOP_MS } from "../../src/runtime/core/job-machine.ts";
import type { Clients } from "./clients.ts";
import type { Hosts } from "./hosts.ts";
import type { Machine } from "./machine.ts";
import { goodCode } from "./plan-fleet.ts";
import { checkProgress } from "./progress.ts";
import { until } from "./simulate.ts";
import type { Workers } from "./workers.ts";
import type { World } from "./world.ts";

type Parts = {
  readonly world: World;
  readonly machine: Machine;
  readonly clients: Clients;
  readonly workers: Workers;
  readonly hosts: Hosts;
  readonly performing: ReadonlySet<Promise<void>>;
};

type Health = { readonly jobs: { readonly inQueue: number } };
type ListedJob = { readonly id: string; readonly status: string; readonly endpointId: string };
type ListedWorker = {
  readonly id: string;
  readonly endpointId: string;
  readonly endedAt: string | null;
  readonly asleep: string | null;
};
type Counted = Readonly<Record<"inQueue" | "inProgress" | "completed" | "failed", number>>;

const LOOK_EVERY_MS = 2_500;
/** Everything that was accepted has ended by now: the longest time to live, and the time to notice. */
const END_LIMIT_MS = 300_000;
/** Workers are what is wanted by now: the longest backoff of a start, and two periods of the reconciler. */
const CONVERGE_LIMIT_MS = 320_000;
/** Releases are what they will be: that backoff, a pull, a start and tests, and a machine that is full until sleepers have gone. */
const RELEASES_LIMIT_MS = 1_200_000;
const MOST_TRIES = 200;
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
  if (!(await mendCode(parts))) return;
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

/** As they were planned: an endpoint that an operator closed, or paused, is opened again. */
async function restoreSettings({ world, clients }: Parts): Promise<void> {
  const { history, plan } = world;
  for (const [endpoint, { max, min, extra, flashboot }] of plan.endpoints.entries()) {
    const change = { kind: "settings", endpoint, max, min, extra, flashboot } as const;
    await repeat(
      () => clients.perform(-1, change),
      () => history.maxOrders.at(-1)?.outcome === "done",
    );
    await repeat(
      () => clients.perform(-1, { kind: "resume-endpoint", endpoint }),
      () => history.pauses.at(-1)?.outcome === "done",
    );
  }
}

async function repeat(perform: () => Promise<void>, isDone: () => boolean): Promise<void> {
  for (let tried = 0; tried < MOST_TRIES; tried += 1) {
    await perform();
    if (isDone()) return;
  }
  throw new Error("an operator was never answered");
}

/** Every release comes to an end (INV-8). Where broken code serves, since nothing was to be proven with max 0, good code follows. */
async function mendCode({ world, clients }: Parts): Promise<boolean> {
  for (const endpoint of world.plan.endpoints.keys()) {
    const look = clients.settledReleases(endpoint);
    const releases = await until(world, "releases", look, 2 * RELEASES_LIMIT_MS);
    if (releases === null) {
      world.fail("INV-8", `endpoint ${endpoint}: a release is neither live, superseded nor failed`);
      return false;
    }
    const live = releases.find(({ state }) => state === "live");
    if (live === undefined) world.fail("INV-8", `endpoint ${endpoint} has no live release`);
    if (live && isBroken(world, endpoint, live.version))
      await until(world, "good code", clients.perform(-1, goodCode(endpoint)), RELEASES_LIMIT_MS);
  }
  return true;
}

/** Whether its workers end before they ask: one of them was seen to. */
function isBroken({ history, plan }: World, endpoint: number, version: number): boolean {
  return [...history.lives.values()].some((life) => {
    if (life.endpoint !== endpoint || life.release !== version) return false;
    const act = plan.steps.find(({ id }) => id === life.deploy)?.act;
    return act?.kind === "deploy" && act.fate !== "well";
  });
}

/** Until every job has ended, also those whose ids no client was told; false when some did not. */
async function watchToTheEnd({ world, clients, workers, performing }: Parts): Promise<boolean> {
  const { clock, plan } = world;
  const endMs = clock.nowMs() + END_LIMIT_MS;
  const waitingSinceMs = plan.endpoints.map((): number | null => null);
  for (;;) {
    const open = await until(world, "jobs", openJobs(clients));
    for (const [endpoint, { retries }] of plan.endpoints.entries()) {
      const params = { endpoint: clients.endpointId(endpoint) };
      const { jobs } = await until(world, "health", clients.ask<Health>("health", params));
      const sinceMs = jobs.inQueue === 0 ? null : (waitingSinceMs[endpoint] ?? clock.nowMs());
      waitingSinceMs[endpoint] = sinceMs;
      // Jobs on backoff wait for time, not for workers, and so do stopped ones that were retried.
      const backoff = retries > 0 || retriedSince(world, clock.nowMs() - RETRY_AFTER_STOP_MS - LOOK_EVERY_MS);
      const wakes = [...world.history.submissions.values()].some(
        (each) => each.endpoint === endpoint && !each.lowPriority && open.includes(`${each.jobId} IN_QUEUE`),
      );
      if (sinceMs !== null && !backoff)
        checkProgress(world, workers, { endpoint, waitingSinceMs: sinceMs, wakes });
    }
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
async function converge({ world, clients, hosts }: Parts): Promise<void> {
  const endMs = world.nowMs() + CONVERGE_LIMIT_MS;
  for (;;) {
    const workers = await until(world, "workers", clients.ask<ListedWorker[]>("listWorkers"));
    const problem = difference(world, workers, hosts, clients);
    if (problem === null) return;
    if (world.nowMs() > endMs) return world.fail("INV-8", problem);
    await world.clock.advance(LOOK_EVERY_MS * 4);
  }
}

function difference(
  { plan }: World,
  workers: readonly ListedWorker[],
  hosts: Hosts,
  clients: Clients,
): string | null {
  const present = workers.filter(({ endedAt }) => endedAt === null);
  const known = present.map(({ id }) => id).sort();
  const there = [...hosts.process.present(), ...hosts.docker.present()];
  const running = there.map(({ process }) => String(process.start.workerId)).sort();
  if (known.join() !== running.join()) return `rows ${known.join(" ")}, processes ${running.join(" ")}`;
  const asleep = new Map(there.map(({ process, asleep }) => [String(process.start.workerId), asleep]));
  for (const { id, asleep: said } of present)
    if (said !== asleep.get(id))
      return `${id} is said to be ${said ?? "awake"}, and is ${asleep.get(id) ?? "awake"}`;
  for (const [endpoint, { min, max, extra, flashboot, name }] of plan.endpoints.entries()) {
    const own = present.filter(({ endpointId }) => endpointId === clients.endpointId(endpoint));
    const awake = own.filter((worker) => worker.asleep === null).length;
    if (awake !== min) return `${name} has ${awake} workers up and wants ${min}`;
    if (own.length > (flashboot ? max + extra : min)) return `${name} has ${own.length} workers`;
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
