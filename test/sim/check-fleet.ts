import type {
  Absence,
  Delivery,
  History,
  PauseOrder,
  ReleaseLook,
  Rollout,
  SeenRelease,
  WorkerLife,
} from "./history.ts";
import { elapsedAtMost, type JobStory } from "./model.ts";
import { type Deploy, testNumber, testOf } from "./plan-fleet.ts";
import type { World } from "./world.ts";

/** Which workers got jobs: of releases that serve, that are awake, of endpoints that are not paused. */
export function checkFleet(world: World, stories: ReadonlyMap<string, JobStory>): void {
  const { history } = world;
  for (const delivery of history.deliveries) {
    checkPinned(world, delivery);
    checkServes(world, delivery);
    checkPaused(world, delivery);
  }
  checkFrozen(world, stories);
  checkEndsOfReleases(world);
  for (const rollout of history.rollouts) checkProven(world, rollout);
  for (const absence of history.absences) checkAbsence(world, absence);
  for (const life of history.lives.values()) checkWoken(world, life);
}

const endpointOf = ({ lives }: History, { workerId }: Pick<Delivery, "workerId">) =>
  lives.get(workerId)?.endpoint;

/** A release's test runs on that release alone. */
function checkPinned({ history, fail }: World, { step, workerId, jobId }: Delivery): void {
  const test = testOf(step);
  const deploy = history.lives.get(workerId)?.deploy ?? null;
  if (test !== null && deploy !== test.step)
    fail("D12", `${jobId}, a test of deploy ${test.step}, ran on ${workerId} of deploy ${deploy}`);
}

/** F-41: a client's job runs on a release that serves, and never on one that failed. */
function checkServes({ history, fail }: World, delivery: Delivery): void {
  if (testOf(delivery.step) !== null) return;
  const life = history.lives.get(delivery.workerId);
  if (life === undefined) return;
  for (const look of history.releaseLooks) {
    if (look.endpoint !== life.endpoint) continue;
    const seen = look.releases.find(({ version }) => version === life.release);
    if (seen && servedNever(seen, look, delivery.atMs))
      fail(
        "F-41",
        `${delivery.jobId} ran on ${life.workerId} of release ${life.release}, which is ${seen.state} at ${look.atMs}`,
      );
  }
}

/** What a look proves of a release up to a time: it had not gone live. */
function servedNever({ state, liveAt }: SeenRelease, { sentAtMs }: ReleaseLook, byMs: number): boolean {
  if (state === "failed" || state === "superseded") return liveAt === null;
  return state !== "live" && byMs <= sentAtMs;
}

/** What was asked for after a pause was confirmed brings no job, until its end is sent. */
function checkPaused({ history, fail }: World, delivery: Delivery): void {
  if (testOf(delivery.step) !== null) return;
  const endpoint = endpointOf(history, delivery);
  const own = history.pauses.filter((order) => order.endpoint === endpoint && order.outcome !== "refused");
  const pause = own.find(
    (order) =>
      order.paused &&
      order.outcome === "done" &&
      (order.endedAtMs ?? Number.POSITIVE_INFINITY) < delivery.askedAtMs &&
      !own.some((other) => mayEnd(other, order, delivery.atMs)),
  );
  if (pause)
    fail(
      "D15",
      `${delivery.jobId} reached ${delivery.workerId} at ${delivery.atMs}, paused since ${pause.endedAtMs}`,
    );
}

/** Whether a resume may have ended a pause by a time. */
function mayEnd({ paused, sentAtMs, endedAtMs }: PauseOrder, pause: PauseOrder, byMs: number): boolean {
  return !paused && sentAtMs <= byMs && (endedAtMs ?? Number.POSITIVE_INFINITY) >= pause.sentAtMs;
}

/** A thaw may be on its way while a job is. */
const THAW_MS = 1_000;

/** D15: who stands still gets no job, and who has one does not stand still. */
function checkFrozen(world: World, stories: ReadonlyMap<string, JobStory>): void {
  const { history, fail } = world;
  for (const { workerId, fromMs, toMs, holding } of history.frozen) {
    const untilMs = toMs ?? Number.POSITIVE_INFINITY;
    for (const departure of history.departures)
      if (departure.workerId === workerId && departure.atMs > fromMs && departure.atMs + THAW_MS < untilMs)
        fail("D15", `${departure.jobId} left for ${workerId}, which stands still since ${fromMs}`);
    for (const delivery of holding)
      if (isStillIts(world, stories.get(delivery.jobId), delivery, fromMs))
        fail("D15", `${workerId} was frozen at ${fromMs} with ${delivery.jobId}`);
  }
}

/** Whether a worker surely still has a job: nobody cancelled it, its times are not over, and nobody else got it. */
function isStillIts(world: World, story: JobStory | undefined, delivery: Delivery, atMs: number): boolean {
  if (story === undefined || story.work.kind === "flood") return false;
  const { cancels, deliveries, departures, sights, retries, submission, execution, sentAtMs } = story;
  const isGivenUp =
    cancels.some((cancel) => cancel.sentAtMs <= atMs && cancel.outcome !== "refused") ||
    retries.some((retry) => retry.sentAtMs <= atMs) ||
    sights.some(
      ({ state, atMs: seenMs }) => seenMs <= atMs && state !== "IN_PROGRESS" && state !== "IN_QUEUE",
    );
  const isTakenBack = [...deliveries, ...departures].some(({ order }) => order > delivery.order);
  const isOverdue =
    elapsedAtMost(world, sentAtMs, atMs) >= submission.ttlMs ||
    elapsedAtMost(world, delivery.atMs, atMs) >= execution;
  return !isGivenUp && !isTakenBack && !isOverdue;
}

/** What a release may be seen to become. */
const LATER: Readonly<Record<SeenRelease["state"], readonly SeenRelease["state"][]>> = {
  building: ["building", "proving", "live", "superseded", "failed"],
  proving: ["proving", "live", "superseded", "failed"],
  live: ["live", "superseded"],
  superseded: ["superseded"],
  failed: ["failed"],
};

/** INV-2 of releases: what has ended stays so. */
function checkEndsOfReleases({ history, fail }: World): void {
  for (const [endpoint, looks] of Map.groupBy(history.releaseLooks, (look) => look.endpoint)) {
    const last = new Map<number, { readonly state: SeenRelease["state"]; readonly atMs: number }>();
    for (const { sentAtMs, atMs, releases } of looks.toSorted((a, b) => a.sentAtMs - b.sentAtMs))
      for (const { version, state } of releases) {
        const before = last.get(version);
        if (before && before.atMs <= sentAtMs && !LATER[before.state].includes(state))
          fail("INV-2", `release ${version} of endpoint ${endpoint} was ${before.state} and then ${state}`);
        if (before === undefined || before.atMs <= atMs) last.set(version, { state, atMs });
      }
  }
}

/** D12: a release that has to prove itself serves after its first worker asked, and its tests were done well. */
function checkProven(world: World, { endpoint, step, version, proves, sentAtMs }: Rollout): void {
  if (!proves || version === null) return;
  const { history, plan, fail } = world;
  const look = history.releaseLooks.find(
    (each) =>
      each.endpoint === endpoint &&
      each.releases.some((release) => release.version === version && release.liveAt !== null),
  );
  if (look === undefined || mayHaveBeenClosed(history, endpoint, sentAtMs, look.atMs)) return;
  const hasAsked = [...history.lives.values()].some(
    (life) =>
      life.endpoint === endpoint && life.release === version && (life.idleTakesMs[0] ?? Infinity) < look.atMs,
  );
  if (!hasAsked)
    fail("D12", `release ${version} of endpoint ${endpoint} serves, and no worker of it ever asked`);
  const act = plan.steps.find(({ id }) => id === step)?.act;
  for (const [place] of (act?.kind === "deploy" ? (act as Deploy).tests : []).entries()) {
    const done = history.deliveries
      .filter((delivery) => delivery.step === testNumber(step, place))
      .flatMap(({ jobId }) => history.posts.filter((post) => post.jobId === jobId && post.kind === "result"));
    if (!done.some((post) => post.sentAtMs < look.atMs))
      fail("D12", `release ${version} of endpoint ${endpoint} serves, and its test ${place} was not done`);
  }
}

/** Whether max may have been 0 at some time: then nothing is proven. */
function mayHaveBeenClosed({ maxOrders }: History, endpoint: number, fromMs: number, toMs: number): boolean {
  const orders = maxOrders.filter((order) => order.endpoint === endpoint && order.outcome !== "refused");
  const confirmed = orders.findLast(
    ({ outcome, endedAtMs }) => outcome === "done" && endedAtMs !== null && endedAtMs <= fromMs,
  );
  return orders.some(
    ({ max, sentAtMs, endedAtMs }) =>
      max === 0 &&
      sentAtMs <= toMs &&
      (confirmed === undefined || (endedAtMs ?? Number.POSITIVE_INFINITY) >= confirmed.sentAtMs),
  );
}

/** Silence of a worker for this long may end it, whatever its engine does. */
const SILENCE_MS = 30_000;
/** What came back is looked at in this time. */
const RETURN_MS = 1_000;

/** F-18: nothing is concluded from an engine's silence: a worker that asked all the time is not killed at its return. */
function checkAbsence({ history, plan, fail }: World, { fromMs, toMs }: Absence): void {
  if (toMs === null || toMs - fromMs > SILENCE_MS) return;
  if (history.outages.some((outage) => outage.fromMs <= toMs + RETURN_MS && outage.toMs >= fromMs)) return;
  for (const life of history.lives.values()) {
    const { workerId, idleTakesMs, endedAtMs } = life;
    const isKilled =
      life.ended === "killed" && endedAtMs !== null && endedAtMs >= toMs && endedAtMs <= toMs + RETURN_MS;
    const hasAsked = (idleTakesMs[0] ?? Infinity) < fromMs && (idleTakesMs.at(-1) ?? 0) > toMs - SILENCE_MS;
    const own = history.deliveries.filter((delivery) => delivery.workerId === workerId);
    // It was heard: what it asks may be lost on its way, and then it was never up.
    const isHeard = own.some(({ atMs }) => atMs < fromMs);
    const isBusy = own.some(({ overAtMs }) => (overAtMs ?? Number.POSITIVE_INFINITY) >= fromMs);
    if (!isHeard || plan.endpoints[life.endpoint]?.pool !== "docker" || !isKilled || !hasAsked || isBusy)
      continue;
    if (life.stopAskedAtMs === null && !life.struck)
      fail("F-18", `${workerId} asked for jobs while its engine was away, and was killed when it came back`);
  }
}

/** F-13: whose container was started again has its start timeout anew. */
function checkWoken({ plan, fail }: World, life: WorkerLife): void {
  const { workerId, wokenAtMs, endedAtMs, ended, stopAskedAtMs, idleTakesMs, endpoint } = life;
  if (wokenAtMs === null || endedAtMs === null || ended !== "killed" || stopAskedAtMs !== null) return;
  const isUp = (idleTakesMs.at(-1) ?? 0) > wokenAtMs;
  if (!isUp && endedAtMs - wokenAtMs < (plan.endpoints[endpoint]?.startS ?? 0) * 1_000)
    fail("F-13", `${workerId} was woken at ${wokenAtMs}, and killed at ${endedAtMs} before it could ask`);
}
