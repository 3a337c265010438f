import type { Delivery } from "./history.ts";
import { elapsedAtMost, endedByItself, type JobStory } from "./model.ts";
import type { World } from "./world.ts";

/** What workers were given: INV-4, INV-5, INV-6, F-15, F-42. */
export function checkDeliveries(world: World, stories: ReadonlyMap<string, JobStory>): void {
  const { history } = world;
  for (const delivery of history.deliveries) {
    const stopAskedAtMs = history.lives.get(delivery.workerId)?.stopAskedAtMs ?? Number.POSITIVE_INFINITY;
    if (stopAskedAtMs < delivery.atMs && !endedOnItsWay(world, stories.get(delivery.jobId), stopAskedAtMs))
      world.fail("F-42", `${delivery.workerId} was asked to end and then given ${delivery.jobId}`);
  }
  for (const [jobId, deliveries] of Map.groupBy(history.deliveries, (delivery) => delivery.jobId)) {
    const ordered = deliveries.toSorted((a, b) => a.order - b.order);
    for (const [at, delivery] of ordered.entries()) {
      if (ordered[at - 1]?.order === delivery.order)
        world.fail("INV-5", `delivery ${delivery.number} of ${jobId} reached two workers`);
    }
    checkSameWorker(world, jobId, ordered, stories.get(jobId));
    const story = stories.get(jobId);
    if (story) checkAttempts(world, story);
  }
}

/** Somebody cancelled the job, or its time to live was over, while it was on its way: its worker held nothing and could be asked to end. */
function endedOnItsWay(world: World, story: JobStory | undefined, byMs: number): boolean {
  if (story === undefined) return false;
  const { cancels, submission, sentAtMs } = story;
  if (cancels.some((cancel) => cancel.sentAtMs <= byMs && cancel.outcome !== "refused")) return true;
  return elapsedAtMost(world, sentAtMs, byMs) >= submission.ttlMs;
}

/** INV-6: a worker gets a job again only after it showed that it does not hold it. */
function checkSameWorker(
  world: World,
  jobId: string,
  ordered: readonly Delivery[],
  story: JobStory | undefined,
): void {
  for (const [workerId, own] of Map.groupBy(ordered, (delivery) => delivery.workerId)) {
    for (const [at, delivery] of own.entries()) {
      const before = own[at - 1];
      if (before === undefined || story === undefined) continue;
      const shown = world.history.lives
        .get(workerId)
        ?.idleTakesMs.some((ms) => ms > before.atMs && ms <= delivery.atMs);
      const failed = story.posts.some(
        ({ kind, order }) => order === before.order && kind !== "progress" && kind !== "chunk",
      );
      if (!shown && !failed && story.retries.length === 0)
        world.fail("INV-6", `${workerId} got ${jobId} as ${before.number} and again as ${delivery.number}`);
    }
  }
}

/** F-15: a job whose workers die is given up after three deliveries. */
const MOST_LOSSES = 3;

function checkAttempts(world: World, { jobId, deliveries, retries, lives, submission }: JobStory): void {
  // Where jobs wait behind others in a worker, the daemon can only guess which have begun, and counts no others.
  if ((world.plan.endpoints[submission.endpoint]?.prefetch ?? 1) > 1) return;
  // A host that ended may have taken the knowledge of a death with it.
  if (retries.length > 0 || world.history.outages.some(({ endsWorkers }) => endsWorkers)) return;
  const lost = deliveries.filter(
    ({ workerId, over, begunAtMs }) =>
      over === "died" && begunAtMs !== null && endedByItself(lives.get(workerId)),
  );
  if (lost.length > MOST_LOSSES)
    world.fail(
      "F-15",
      `${jobId} lost ${lost.length} workers: ${lost.map(({ workerId }) => workerId).join(" ")}`,
    );
}
