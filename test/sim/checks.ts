import { checkDeliveries } from "./check-deliveries.ts";
import { checkFleet } from "./check-fleet.ts";
import { checkStreams } from "./check-streams.ts";
import { membersOf } from "./clients.ts";
import type { History, Order, Sight, Submission } from "./history.ts";
import { elapsedAtMost, type JobStory, mayPassFor, storiesOf } from "./model.ts";
import type { World } from "./world.ts";

/** Holds what clients, workers and receivers saw against the reference model. */
export function checkHistory(world: World): void {
  const { history } = world;
  for (const sight of webhookSights(history)) history.sights.push(sight);
  const stories = storiesOf(world);
  for (const submission of history.submissions.values()) checkSubmission(world, submission);
  for (const story of stories.values()) {
    checkKnown(world, story);
    checkFinal(world, story);
    checkEnds(world, story);
    checkWebhook(world, story);
  }
  checkDeliveries(world, stories);
  checkStreams(world, stories);
  checkFleet(world, stories);
}

const DAY_MS = 24 * 3_600_000;
const TERMINAL: ReadonlySet<string> = new Set(["COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"]);
const isTerminal = ({ state }: Sight): boolean => state !== null && TERMINAL.has(state);

/** What a receiver read is a look at the job like any other. */
function webhookSights({ webhooks, orders }: History): Sight[] {
  return webhooks.flatMap(({ jobId, atMs, body }) => {
    // The body of an earlier generation may arrive late.
    if (orders.some(({ kind, target }) => kind === "retry" && target === jobId)) return [];
    const members = membersOf(body);
    const error = members.get("error");
    return {
      jobId,
      sentAtMs: atMs,
      atMs,
      state: String(JSON.parse(members.get("status") ?? '""')),
      output: members.get("output") ?? null,
      error: error === undefined ? null : String(JSON.parse(error)),
      whole: true,
      by: "webhook" as const,
    };
  });
}

/** INV-3: one key makes one job; what was refused never runs. */
function checkSubmission(world: World, { step, key, sendings }: Submission): void {
  // Keys are kept for a day.
  if (world.history.leaps.some(({ ms }) => ms > DAY_MS)) return;
  const ids = new Set(sendings.flatMap(({ jobId }) => jobId ?? []));
  if (key !== null && ids.size > 1) world.fail("INV-3", `key ${key} made ${[...ids].join(" and ")}`);
  if (sendings.some(({ changed, jobId }) => changed && jobId !== null))
    world.fail("INV-3", `key ${key} was taken with another body`);
  const ran = world.history.deliveries.filter((delivery) => delivery.step === step);
  const refused =
    sendings.length > 0 && sendings.every(({ status }) => status !== null && status >= 400 && status < 500);
  if (refused && ran.length > 0) world.fail("INV-3", `step ${step} was refused and ran`);
  const ranIds = new Set(ran.map(({ jobId }) => jobId));
  if (ranIds.size > (key === null ? sendings.length : 1))
    world.fail("INV-3", `step ${step} ran as ${[...ranIds].join(" and ")}`);
}

/** INV-1: a job that was accepted is there until its retention is over. */
function checkKnown(world: World, { submission, sights, sentAtMs }: JobStory): void {
  const kept = (world.plan.endpoints[submission.endpoint]?.retentionS ?? 0) * 1_000;
  for (const { state, atMs, jobId } of sights) {
    if (state === null && elapsedAtMost(world, sentAtMs, atMs) < kept)
      world.fail("INV-1", `${jobId} was accepted and is not found at ${atMs}`);
  }
}

/** INV-2: a terminal state and its result never change but by a retry. */
function checkFinal(world: World, { sights, retries }: JobStory): void {
  const ends = sights.filter(isTerminal);
  for (const sight of sights) {
    if (sight.state === null) continue;
    const before = ends.find((end) => end.atMs <= sight.sentAtMs && end !== sight);
    if (before && !retriedBetween(retries, before, sight) && !agree(before, sight))
      world.fail("INV-2", `${sight.jobId} was ${describe(before)} and then ${describe(sight)}`);
  }
}

/** A retry that may have been done between two looks. */
function retriedBetween(retries: readonly Order[], before: Sight, after: Sight): boolean {
  return retries.some(
    ({ outcome, sentAtMs, endedAtMs }) =>
      outcome !== "refused" &&
      sentAtMs < after.atMs &&
      (outcome !== "done" || (endedAtMs ?? 0) > before.sentAtMs),
  );
}

function agree(one: Sight, other: Sight): boolean {
  if (one.state !== other.state) return false;
  return !one.whole || !other.whole || (one.output === other.output && one.error === other.error);
}

function describe({ state, output, error, by, atMs }: Sight): string {
  return `${state} (${output ?? error ?? "-"}, ${by} at ${atMs})`;
}

/** Every end has a cause that somebody outside gave. */
function checkEnds(world: World, story: JobStory): void {
  for (const sight of story.sights) {
    if (!isTerminal(sight)) continue;
    const problem = unfounded(world, story, sight);
    if (problem !== null) world.fail(problem.check, `${sight.jobId} is ${describe(sight)}: ${problem.why}`);
  }
}

/** From the end of a lease to the end of its worker, at most. */
const TAKEN_AWAY_MS = 20_000;

type Problem = { readonly check: string; readonly why: string };

function unfounded(world: World, story: JobStory, sight: Sight): Problem | null {
  const { work, execution, submission } = story;
  if (sight.state === "CANCELLED") return unfoundedCancel(world, story, sight);
  if (sight.state === "TIMED_OUT") {
    const begunAtMs =
      story.retries.findLast(({ sentAtMs }) => sentAtMs < sight.atMs)?.sentAtMs ?? story.sentAtMs;
    const passed = elapsedAtMost(world, Math.min(begunAtMs, story.sentAtMs), sight.atMs);
    return passed < submission.ttlMs
      ? { check: "F-24", why: `at most ${passed} ms of ${submission.ttlMs} have passed` }
      : null;
  }
  if (!sight.whole) return null;
  if (sight.state === "COMPLETED") {
    if (
      work.kind === "poison" ||
      work.kind === "error" ||
      work.kind === "unreadable" ||
      work.kind === "oversize"
    )
      return { check: "INV-2", why: `its handler can only ${work.kind}` };
    return unfoundedResult(world, story, sight, "result", sight.output);
  }
  const error = sight.error ?? "";
  if (error.startsWith("{")) return unfoundedResult(world, story, sight, "error", error);
  if (error.startsWith("invalid_result") && work.kind !== "unreadable")
    return { check: "INV-4", why: "nobody posted that" };
  if (error.startsWith("result_too_large") && work.kind !== "oversize")
    return { check: "INV-4", why: "nobody posted that" };
  if (error.startsWith("job timed out after")) {
    const passed = elapsedAtMost(world, story.sentAtMs, sight.atMs);
    return passed < execution
      ? { check: "F-24", why: `at most ${passed} ms of ${execution} have passed` }
      : null;
  }
  return null;
}

/** INV-4: what is recorded was posted by the holder of the lease in force: the last one that got the job. */
function unfoundedResult(
  world: World,
  story: JobStory,
  sight: Sight,
  kind: string,
  text: string | null,
): Problem | null {
  const { posts, deliveries, retries } = story;
  const post = posts.find((each) => each.kind === kind && each.text === text && each.sentAtMs <= sight.atMs);
  if (post === undefined) return { check: "INV-4", why: "no worker posted that" };
  // Where it was retried, an earlier end was right until the retry; later ones come from deliveries after it.
  const retriedMs = retries.find(({ outcome }) => outcome !== "refused")?.sentAtMs;
  const later = deliveries.findLast(
    ({ order, atMs }) =>
      order > post.order && (retriedMs === undefined || atMs < Math.max(retriedMs, sight.sentAtMs)),
  );
  if (later === undefined || mayPassFor(world, story, post, later)) return null;
  return {
    check: "INV-4",
    why: `delivery ${later.number} on ${later.workerId} superseded delivery ${post.number}`,
  };
}

/** INV-2 and F-44: somebody cancelled it, or purged its queue while it may have waited. */
function unfoundedCancel(
  world: World,
  { cancels, purges, deliveries, lives }: JobStory,
  sight: Sight,
): Problem | null {
  if (cancels.some(({ sentAtMs, outcome }) => sentAtMs <= sight.atMs && outcome !== "refused")) return null;
  const sent = purges.filter(({ sentAtMs, outcome }) => sentAtMs <= sight.atMs && outcome !== "refused");
  if (sent.length === 0) return { check: "INV-2", why: "nobody cancelled it" };
  const possible = sent.some((purge) => !heldThroughout(purge));
  return possible ? null : { check: "F-44", why: "a worker held it all through the purge" };

  /** One sound worker held it from before the purge until after its end, and gave no cause to take it away. */
  function heldThroughout({ sentAtMs, endedAtMs }: Order): boolean {
    if (endedAtMs === null) return false;
    const holder = deliveries.findLast(({ atMs }) => atMs < sentAtMs);
    if (!holder || deliveries.some(({ order }) => order > holder.order)) return false;
    const life = lives.get(holder.workerId);
    const letGo = holder.overAtMs ?? Number.POSITIVE_INFINITY;
    const denied = life?.idleTakesMs.some(
      (ms) => ms >= holder.askedAtMs && ms !== holder.askedAtMs && ms <= endedAtMs,
    );
    // One that was ended by us soon after may have been given up already.
    const takenAway =
      life?.ended !== "own" && (life?.endedAtMs ?? Number.POSITIVE_INFINITY) < endedAtMs + TAKEN_AWAY_MS;
    // A daemon that stops puts back what is not done in time.
    const stopping = world.history.outages.some(
      ({ kind, fromMs, toMs }) => kind === "asked to end" && fromMs <= endedAtMs && toMs >= sentAtMs,
    );
    return letGo > endedAtMs && !denied && !takenAway && !stopping;
  }
}

/** F-06: the end of a job with a webhook is sent, to the end of its tries. */
function checkWebhook(world: World, { submission, sights, jobId }: JobStory): void {
  const last = sights.filter(({ whole }) => whole).at(-1);
  if (!submission.webhook || !last || !isTerminal(last)) return;
  const { retentionS = 0 } = world.plan.endpoints[submission.endpoint] ?? {};
  // Past its retention there is nothing to send.
  if (retentionS < 1_000 || world.history.leaps.length > 0) return;
  const sent = world.history.webhooks.filter((post) => post.jobId === jobId);
  if (sent.length === 0) world.fail("F-06", `${jobId} ended ${last.state} and its webhook was not sent`);
  const bodies = Map.groupBy(sent, ({ id }) => id);
  for (const [id, posts] of bodies)
    if (new Set(posts.map(({ body }) => body)).size > 1)
      world.fail("F-29", `webhook ${id} was sent with two bodies`);
}
