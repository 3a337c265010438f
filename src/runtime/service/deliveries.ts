import { BODY_LIMIT_BYTES } from "../../contract/schemas/job.ts";
import { createDispatch, type QueueKey, queueKey, type Waiter } from "../core/dispatch.ts";
import type { EndpointId, JobId, RunningJob, WorkerId } from "../core/model.ts";
import { type Report, readChunk, readReport } from "../core/result.ts";
import type { Clock } from "../ports/clock.ts";
import type { Random } from "../ports/random.ts";
import type { Applied, Delivery, LeaseRef, Result, Store } from "../ports/store.ts";
import type { Events } from "./events.ts";

/** How long a take is held: below the 30 s after which some SDKs give up. */
export const TAKE_HOLD_MS = 22_000;
/** A delivery may be on its way to the worker for this long while the worker's idle take is on its way to us. */
const CROSSING_MS = 1_000;
/** What a worker with several takes open says is believed about leases that are older than any of them. */
const PARALLEL_CROSSING_MS = 2 * TAKE_HOLD_MS;
/** Pause before a claim that came back empty is tried again, and one that failed. */
const EMPTY_CLAIM_MS = 100;
const FAILED_CLAIM_MS = 1_000;
const NOTHING: Promise<readonly Delivery[]> = Promise.resolve([]);

export type TakeRequest = {
  readonly workerId: WorkerId;
  readonly endpointId: EndpointId;
  /** Jobs handed over at most, and how many of them start at once (the others are prefetched). */
  readonly max: number;
  readonly startable: number;
  /** What the worker says of itself: false proves that it holds no job. */
  readonly busy: boolean;
  readonly signal: AbortSignal;
};

/** The jobs that a first-party worker wants in the reply to a result, without waiting. */
export type NextJobs = Pick<TakeRequest, "endpointId" | "workerId" | "max" | "startable">;

/** What became of a post, and the next jobs where it asked for some. */
export type Reported = {
  readonly applied: boolean;
  readonly taken: readonly Delivery[];
};

/** The worker's side of jobs: take, result, progress, chunk. */
export type Deliveries = {
  /** Holds until jobs are there; empty after the hold, at release or when the poll's socket closes. */
  take(request: TakeRequest): Promise<readonly Delivery[]>;
  /** Puts back deliveries whose reply did not leave: they do not count. */
  giveBack(deliveries: readonly Delivery[]): Promise<void>;
  /** Answers a worker's held takes with nothing, at once. */
  release(workerId: WorkerId): void;
  /** Whether a worker waits for the endpoint's next job. */
  isWaitedFor(endpointId: EndpointId): boolean;
  /** This daemon hands over or stops: held takes are answered with nothing, and none is held any more. */
  close(): void;
  /** Records what a worker posted to job-done and, with a result, hands over the next jobs. */
  report(lease: LeaseRef, body: string, next: NextJobs | null): Promise<Reported>;
  /** Records a result that is over the size limit. */
  reportOversize(lease: LeaseRef): Promise<Applied>;
  /** Records a chunk; a stream over its limit fails the job. */
  chunk(lease: LeaseRef, body: string, part: number | null): Promise<Applied>;
};

export type DeliveriesOptions = {
  readonly store: Store;
  readonly clock: Clock;
  readonly random: Random;
  readonly events: Events;
  readonly maxStreamBytes: number;
  /** The queue that a worker takes from; null: none now (it drains, sleeps, or its endpoint is paused), but its poll is held. */
  readonly queueOf: (workerId: WorkerId) => QueueKey | null;
  /** The worker asked to be replaced: it gets no more work. */
  readonly retire: (workerId: WorkerId, reason: string) => Promise<void>;
  /** A text of a worker without its secrets. */
  readonly redact: (workerId: WorkerId, text: string) => string;
  readonly log: { warn(fields: object, message: string): void };
};

/** Journal rows after which a worker may take from another queue than before. */
const CHANGES_QUEUES: ReadonlySet<string> = new Set(["release.live", "endpoint.pause", "endpoint.resume"]);
const NO_QUEUE = "" as QueueKey;

type OpenTake = Waiter & {
  /** Empty until it stands in a line. */
  queue: QueueKey;
  readonly request: TakeRequest;
  readonly finish: (deliveries: readonly Delivery[]) => void;
  open: boolean;
};

export function createDeliveries(options: DeliveriesOptions): Deliveries {
  const { store, clock, random, events, log } = options;
  const dispatch = createDispatch<OpenTake>();
  const open = new Map<WorkerId, Set<OpenTake>>();
  /** Workers that keep several takes open at once (SDK 1.6 and older): an idle take of theirs proves less. */
  const parallel = new Set<WorkerId>();
  /** When this daemon last answered a worker's take with nothing: its next take was sent later. */
  const answeredMs = new Map<WorkerId, number>();
  const startedAtMs = clock.nowMs();
  /** Workers with deliveries from before this daemon: what it sent last may have been lost with the one before. */
  const inherited = new Set<WorkerId>();
  let closed = false;

  for (const { id } of store.fleet.endpoints()) seed(id);
  for (const { id } of store.fleet.workers()) if (hasInherited(id)) inherited.add(id);
  events.subscribe((event) => {
    const queue = dispatch.observe(event);
    if (queue !== null) pump(queue);
    const { kind, workerId, endpointId } = event;
    if (kind === "worker.move" && workerId) {
      if (event.data.to === "ready") for (const waiter of open.get(workerId) ?? []) lineUp(waiter);
      else leave(workerId, event.data.to);
    }
    // What its workers take from has changed: they ask afresh.
    if (endpointId !== null && CHANGES_QUEUES.has(kind))
      for (const { id, endpointId: of } of store.fleet.workers()) if (of === endpointId) release(id);
  });

  function seed(endpointId: EndpointId): void {
    for (const [pinned, ready] of store.jobs.ready(endpointId))
      dispatch.seed(queueKey(endpointId, pinned), ready);
  }

  function leave(workerId: WorkerId, state: unknown): void {
    release(workerId);
    if (state !== "gone") return;
    parallel.delete(workerId);
    inherited.delete(workerId);
    answeredMs.delete(workerId);
  }

  function pump(queue: QueueKey): void {
    for (const { waiter, count } of dispatch.match(queue)) {
      claim(waiter, count).catch((error: unknown) => log.warn({ err: error }, "claim failed"));
    }
  }

  async function claim(waiter: OpenTake, count: number): Promise<void> {
    const { endpointId, workerId, startable } = waiter.request;
    const { queue } = waiter;
    let deliveries: readonly Delivery[] = [];
    let pauseMs = EMPTY_CLAIM_MS;
    try {
      deliveries = await store.jobs.take({ endpointId, workerId, max: count, startable }, clock.nowMs());
    } catch (error) {
      // A full disk: the worker stays in line.
      pauseMs = FAILED_CLAIM_MS;
      log.warn({ err: error, endpointId }, "claim failed");
    }
    dispatch.settle(queue, count);
    if (!waiter.open) await giveBack(deliveries);
    else if (deliveries.length > 0) waiter.finish(deliveries);
    else await offerAgain(waiter, pauseMs);
    pump(queue);
  }

  async function offerAgain(waiter: OpenTake, pauseMs: number): Promise<void> {
    await clock.sleep(pauseMs, waiter.request.signal);
    if (waiter.open) dispatch.offer(waiter, "front");
  }

  function take(request: TakeRequest): Promise<readonly Delivery[]> {
    if (!request.busy)
      settleLost(request).catch((error: unknown) => log.warn({ err: error }, "lost results not settled"));
    return new Promise((resolve) => {
      const timer = new AbortController();
      const waiter: OpenTake = {
        queue: NO_QUEUE,
        wants: request.max,
        request,
        open: true,
        finish: (deliveries) => {
          waiter.open = false;
          timer.abort();
          request.signal.removeEventListener("abort", stop);
          dispatch.withdraw(waiter);
          forget(waiter);
          if (deliveries.length === 0) answeredMs.set(request.workerId, clock.nowMs());
          resolve(deliveries);
        },
      };
      const stop = () => waiter.open && waiter.finish([]);
      request.signal.addEventListener("abort", stop, { once: true });
      clock.sleep(TAKE_HOLD_MS, timer.signal).then(stop, stop);
      remember(waiter);
      if (closed || request.signal.aborted) return stop();
      lineUp(waiter);
    });
  }

  /** Puts a take in the line of its worker's queue; one whose worker takes from none is only held. */
  function lineUp(waiter: OpenTake): void {
    const queue = options.queueOf(waiter.request.workerId);
    if (queue === null || waiter.queue === queue) return;
    waiter.queue = queue;
    dispatch.offer(waiter);
    pump(queue);
  }

  function remember(waiter: OpenTake): void {
    const takes = open.get(waiter.request.workerId) ?? new Set();
    open.set(waiter.request.workerId, takes.add(waiter));
    if (takes.size > 1) parallel.add(waiter.request.workerId);
  }

  function forget(waiter: OpenTake): void {
    const takes = open.get(waiter.request.workerId);
    takes?.delete(waiter);
    if (takes?.size === 0) open.delete(waiter.request.workerId);
  }

  function release(workerId: WorkerId): void {
    for (const waiter of [...(open.get(workerId) ?? [])]) waiter.finish([]);
  }

  /**
   * A take that says "no job in progress" proves that the worker's leases are without a result, if it was said after they
   * were delivered. A request may have waited long for a daemon, so only what follows an answer of ours is sure: in doubt the take is
   * answered with nothing, and the worker says afresh.
   */
  async function settleLost(request: TakeRequest): Promise<void> {
    const leases = store.jobs.leases(request.workerId);
    if (leases.length === 0) return;
    const sure = leases.filter((job) => job.lease.takenAtMs <= believedUntilMs(request.workerId));
    for (const job of sure) await endLost(job, request.workerId);
    if (sure.length === leases.length || parallel.has(request.workerId)) return;
    await clock.sleep(CROSSING_MS, request.signal);
    for (const waiter of [...(open.get(request.workerId) ?? [])])
      if (waiter.request === request) waiter.finish([]);
  }

  /** Deliveries up to this time were there when the worker sent its take. */
  function believedUntilMs(workerId: WorkerId): number {
    if (parallel.has(workerId)) return clock.nowMs() - PARALLEL_CROSSING_MS;
    return (answeredMs.get(workerId) ?? Number.NEGATIVE_INFINITY) - CROSSING_MS;
  }

  /**
   * A held take says what was true when it was sent. A worker that then reports a result may hold nothing, and a delivery that was
   * lost with the daemon before this one would wait for the end of the hold: the take is answered with nothing instead.
   */
  async function askAfresh(workerId: WorkerId): Promise<void> {
    if (!inherited.has(workerId)) return;
    // The answer to its post may be on the way to the worker, which calls itself busy until then.
    await clock.sleep(CROSSING_MS);
    if (!hasInherited(workerId)) inherited.delete(workerId);
    else for (const waiter of [...(open.get(workerId) ?? [])]) if (waiter.request.busy) waiter.finish([]);
  }

  function hasInherited(workerId: WorkerId): boolean {
    return store.jobs.leases(workerId).some(({ lease }) => lease.takenAtMs < startedAtMs);
  }

  /** Counts against the job, unless the delivery is from before this daemon: then our own restart lost the post. */
  async function endLost(job: RunningJob, workerId: WorkerId): Promise<void> {
    const kind = job.lease.takenAtMs < startedAtMs ? "return" : "lose";
    const lease = { jobId: job.id, workerId, delivery: job.deliveries };
    const { applied } = await store.jobs.endLease(lease, kind, "its result did not arrive", clock.nowMs());
    if (applied) log.warn({ jobId: job.id, workerId }, "result lost, job put back");
  }

  async function giveBack(deliveries: readonly Delivery[]): Promise<void> {
    const nowMs = clock.nowMs();
    await Promise.all(
      deliveries.map(({ job }) => {
        const lease = { jobId: job.id, workerId: job.lease.workerId, delivery: job.deliveries };
        return store.jobs.endLease(lease, "return", "the worker's connection had closed", nowMs);
      }),
    );
  }

  async function report(lease: LeaseRef, body: string, next: NextJobs | null): Promise<Reported> {
    const result = readReport(body);
    if (result.kind === "progress") {
      const { applied } = await store.jobs.progress(lease, result.outputJson, clock.nowMs());
      if (applied) events.touchJob(lease.jobId);
      return { applied, taken: [] };
    }
    const reported = await recordEnd(lease, result, next);
    askAfresh(lease.workerId).catch((error: unknown) => log.warn({ err: error }, "worker not asked afresh"));
    return reported;
  }

  async function recordEnd(
    lease: LeaseRef,
    result: Exclude<Report, { kind: "progress" }>,
    next: NextJobs | null,
  ): Promise<Reported> {
    if (result.kind === "unreadable") {
      const error = `invalid_result: the result is ${result.reason}`;
      return finish(lease, { kind: "rejected", failure: "invalid_result", error }, next);
    }
    const ended = result.kind === "error" ? failed(lease, result) : result;
    if (!result.refresh) return finish(lease, ended, next);
    // In one transaction with the result and before it: an open take of this worker gets nothing more.
    const retired = options.retire(lease.workerId, "its handler asked for a fresh worker");
    const [reported] = await Promise.all([finish(lease, ended, null), retired]);
    return reported;
  }

  /** Tracebacks show what they run into, secrets too; an output is what the handler chose to give. */
  function failed(lease: LeaseRef, result: Extract<Report, { kind: "error" }>) {
    const error = options.redact(lease.workerId, result.error);
    return { ...result, error, retryDelayMs: retryDelayMs(lease.jobId) };
  }

  /** Result and next take are asked for in one turn, so that one commit and one sync carry both. */
  async function finish(lease: LeaseRef, result: Result, next: NextJobs | null): Promise<Reported> {
    const finished = store.jobs.finish(lease, result, clock.nowMs());
    const taking = next === null ? NOTHING : takeNow(next);
    try {
      const { applied } = await finished;
      const taken = await taking;
      // A post that changed nothing may be a copy, whose answer nobody reads: it brings no job.
      if (!applied) await giveBack(taken);
      if (!applied || next === null || taken.length > 0) return { applied, taken: applied ? taken : [] };
      // What has become ready meanwhile saves the worker a take.
      return { applied, taken: await takeNow(next) };
    } catch (error) {
      await giveBack(await taking);
      throw error;
    }
  }

  /** Backoff of opt-in retries: 15 + n^4 + rand(30)(n+1) seconds. */
  function retryDelayMs(jobId: JobId): number {
    const attempt = store.jobs.find(jobId)?.attempts ?? 1;
    return Math.round(1_000 * (15 + (attempt - 1) ** 4 + 30 * random.fraction() * attempt));
  }

  function reportOversize(lease: LeaseRef): Promise<Applied> {
    const error = `result_too_large: what the worker sent is larger than ${BODY_LIMIT_BYTES.result} bytes; store large files elsewhere and return their address`;
    return store.jobs.finish(lease, { kind: "rejected", failure: "result_too_large", error }, clock.nowMs());
  }

  async function chunk(lease: LeaseRef, body: string, part: number | null): Promise<Applied> {
    const parsed = readChunk(body);
    if ("reason" in parsed) {
      log.warn({ jobId: lease.jobId, reason: parsed.reason }, "chunk dropped");
      return { applied: false, job: null };
    }
    const appended = await store.jobs.appendChunk(lease, { ...parsed, part }, options.maxStreamBytes);
    if (appended.tooLarge) {
      const error = `stream_too_large: the job's chunks pass ${options.maxStreamBytes} bytes`;
      return store.jobs.finish(
        lease,
        { kind: "rejected", failure: "stream_too_large", error },
        clock.nowMs(),
      );
    }
    if (appended.applied) events.touchJob(lease.jobId);
    return appended;
  }

  /** Jobs without waiting: the fast path of first-party workers. None where they cannot be claimed: the result counts. */
  async function takeNow({ endpointId, workerId, max, startable }: NextJobs): Promise<readonly Delivery[]> {
    const queue = options.queueOf(workerId);
    const count = queue === null ? 0 : Math.min(max, dispatch.unreserved(queue));
    if (queue === null || count <= 0) return [];
    dispatch.reserve(queue, count);
    try {
      return await store.jobs.take({ endpointId, workerId, max: count, startable }, clock.nowMs());
    } catch (error) {
      log.warn({ err: error, endpointId }, "claim failed");
      return [];
    } finally {
      dispatch.settle(queue, count);
      pump(queue);
    }
  }

  return {
    take,
    giveBack,
    release,
    isWaitedFor: (endpointId) => dispatch.waiters(queueKey(endpointId, 0)).length > 0,
    close: () => {
      closed = true;
      for (const workerId of [...open.keys()]) release(workerId);
    },
    report,
    reportOversize,
    chunk,
  };
}
