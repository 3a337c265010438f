import type { History, ReleaseLook, Submission } from "./history.ts";
import type { Workers } from "./workers.ts";
import type { World } from "./world.ts";

/** INV-12: where a worker asks and a job waits, a job starts within this time. */
const PROGRESS_MS = 5_000;

type ProgressOf = {
  readonly endpoint: number;
  readonly waitingSinceMs: number;
  /** One of them is of normal priority: sleepers wake for it. */
  readonly wakes: boolean;
};

/** Fails when jobs of an endpoint have been waiting since a time while a sound worker asked for them, and none started. */
export function checkProgress(
  world: World,
  workers: Workers,
  { endpoint, waitingSinceMs, wakes }: ProgressOf,
): void {
  const { history } = world;
  const release = history.releaseLooks.findLast(
    (look) => look.endpoint === endpoint && liveIn(look) !== null,
  );
  const live = release === undefined ? FIRST_RELEASE : (liveIn(release) ?? FIRST_RELEASE);
  if (mayBePaused(history, endpoint)) return;
  const asleep = !wakes || mayBeClosed(world, endpoint) ? null : workers.frozen(endpoint, live);
  const waiting = workers.asking(endpoint, live) ?? asleep;
  if (waiting === null) return;
  const lastStartMs =
    history.deliveries.findLast(({ step }) => history.submissions.get(step)?.endpoint === endpoint)?.atMs ??
    0;
  const stuckMs =
    world.nowMs() - Math.max(waitingSinceMs, waiting.sinceMs, lastStartMs, world.disturbedAtMs(endpoint));
  if (stuckMs > PROGRESS_MS)
    world.fail(
      "INV-12",
      `endpoint ${endpoint}: jobs wait, ${waiting.workerId} ${waiting === asleep ? "sleeps" : "asks"}, and none started for ${stuckMs} ms`,
    );
}

/** The first one was live before anybody asked. */
const FIRST_RELEASE = 1;

function liveIn({ releases }: ReleaseLook): number | null {
  return releases.find(({ state }) => state === "live")?.version ?? null;
}

/** Whether a pause may be in force: it was not refused, and no later end of it was confirmed. */
export function mayBePaused({ pauses }: History, endpoint: number): boolean {
  let maybe = false;
  for (const order of pauses) {
    if (order.endpoint !== endpoint || order.outcome === "refused") continue;
    const before = pauses.filter((each) => each.endpoint === endpoint && each.paused && each !== order);
    const isLast = before.every(({ endedAtMs }) => endedAtMs !== null && endedAtMs <= order.sentAtMs);
    if (order.paused) maybe = true;
    else if (order.outcome === "done" && isLast) maybe = false;
  }
  return maybe;
}

/** Whether no worker may be wanted at all: then sleepers stay asleep. */
function mayBeClosed({ history }: World, endpoint: number): boolean {
  const orders = history.maxOrders.filter((order) => order.endpoint === endpoint);
  const confirmed = orders.findLastIndex(({ outcome }) => outcome === "done");
  return orders.some(({ max }, at) => max === 0 && at >= confirmed);
}

/** The same amid faults, as far as the outside can know: of jobs that were accepted and never left for a worker. */
export function checkFreshJobs(world: World, workers: Workers): void {
  const { history } = world;
  const touched = new Set<string | number>([
    ...history.departures.map(({ jobId }) => jobId),
    ...history.orders.map(({ target }) => target),
  ]);
  for (const endpoint of world.plan.endpoints.keys()) {
    if (world.nowMs() - world.disturbedAtMs(endpoint) < PROGRESS_MS) continue;
    const waiting = [...history.submissions.values()].flatMap((submission) => {
      const sinceMs = submission.endpoint === endpoint ? waitsSinceMs(world, submission, touched) : null;
      return sinceMs === null ? [] : [{ sinceMs, wakes: !submission.lowPriority }];
    });
    for (const { sinceMs, wakes } of waiting)
      checkProgress(world, workers, { endpoint, waitingSinceMs: sinceMs, wakes });
  }
}

/** Since when a job surely waits; null when it may have ended or begun. */
function waitsSinceMs(
  { history, nowMs }: World,
  { jobId, endpoint, sendings, ttlMs }: Submission,
  touched: ReadonlySet<string | number>,
): number | null {
  const first = sendings[0];
  if (jobId === null || touched.has(jobId) || !first) return null;
  const purged = history.orders.some(
    ({ target, endedAtMs }) =>
      target === endpoint && (endedAtMs ?? Number.POSITIVE_INFINITY) >= first.sentAtMs,
  );
  // A daemon before this one may have claimed it for a worker that never heard of it.
  if (purged || first.sentAtMs < (history.servesMs.at(-1) ?? 0)) return null;
  return nowMs() - first.sentAtMs < ttlMs / 2 ? first.endedAtMs : null;
}
