import type { Delivery, Departure, History, Order, Post, Sight, Submission, WorkerLife } from "./history.ts";
import type { Run, Work } from "./plan.ts";
import type { World } from "./world.ts";

/** The reference model: one job as the outside knows it, with all that was done to it, in order. */
export type JobStory = {
  readonly jobId: string;
  readonly submission: Submission;
  readonly work: Work;
  /** Execution time in ms that the job was given. */
  readonly execution: number;
  /** When its first request was sent. */
  readonly sentAtMs: number;
  /** In order of their answers. */
  readonly sights: readonly Sight[];
  readonly cancels: readonly Order[];
  readonly retries: readonly Order[];
  /** Purges of its endpoint. */
  readonly purges: readonly Order[];
  /** In the order of their claims. */
  readonly deliveries: readonly Delivery[];
  /** Deliveries that left for a worker, those among them that did not reach it. */
  readonly departures: readonly Departure[];
  readonly posts: readonly Post[];
  readonly lives: History["lives"];
};

/** The stories of all jobs whose ids a client was told. */
export function storiesOf({ history, plan }: World): Map<string, JobStory> {
  const sights = Map.groupBy(history.sights, ({ jobId }) => jobId);
  const orders = Map.groupBy(history.orders, ({ target }) => target);
  const deliveries = Map.groupBy(history.deliveries, ({ jobId }) => jobId);
  const departures = Map.groupBy(history.departures, ({ jobId }) => jobId);
  const posts = Map.groupBy(history.posts, ({ jobId }) => jobId);
  const runs = new Map(plan.steps.map(({ id, act }) => [id, act as Run]));
  const stories = new Map<string, JobStory>();
  for (const submission of history.submissions.values()) {
    const { jobId, step, endpoint, sendings } = submission;
    const run = runs.get(step);
    if (jobId === null || run === undefined) continue;
    const about = orders.get(jobId) ?? [];
    stories.set(jobId, {
      jobId,
      submission,
      work: run.work,
      execution: (plan.endpoints[endpoint]?.executionS ?? 0) * 1_000,
      sentAtMs: sendings[0]?.sentAtMs ?? 0,
      sights: (sights.get(jobId) ?? []).toSorted((a, b) => a.atMs - b.atMs),
      cancels: about.filter(({ kind }) => kind === "cancel"),
      retries: about.filter(({ kind }) => kind === "retry"),
      purges: orders.get(endpoint) ?? [],
      deliveries: (deliveries.get(jobId) ?? []).toSorted((a, b) => a.order - b.order),
      departures: departures.get(jobId) ?? [],
      posts: posts.get(jobId) ?? [],
      lives: history.lives,
    });
  }
  return stories;
}

/**
 * Whether what a worker posted of one delivery may be taken for its part in a later one. Our SDK says the number of the delivery; the stock
 * protocol has none, so all of one worker's deliveries of a job look alike, and the last may have been lost on its way.
 */
export function mayPassFor(
  { plan }: World,
  { submission, departures }: JobStory,
  post: Pick<Post, "workerId">,
  later: Pick<Delivery, "order">,
): boolean {
  if (plan.endpoints[submission.endpoint]?.worker.sdk === "own") return false;
  return departures.some(({ workerId, order }) => workerId === post.workerId && order >= later.order);
}

/** The daemon's clock follows the wall clock by half a percent at most; a little more, for rounding. */
const FASTEST = 1.006;
const ROUNDING_MS = 1_000;

/** Most time that can have passed on the daemon's clock between two moments, in ms. */
export function elapsedAtMost({ history }: World, fromMs: number, toMs: number): number {
  const leaps = history.leaps.filter(({ atMs }) => atMs >= fromMs && atMs <= toMs);
  return (toMs - fromMs) * FASTEST + ROUNDING_MS + leaps.reduce((sum, { ms }) => sum + ms, 0);
}

/** Why a worker is gone: its own doing, or somebody's. */
export function endedByItself(life: WorkerLife | undefined): boolean {
  return life?.ended === "own";
}
