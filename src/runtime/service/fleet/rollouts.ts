import { isDeepStrictEqual } from "node:util";
import { jobIdOf } from "../../core/job-id.ts";
import { isTerminal } from "../../core/job-machine.ts";
import type { Endpoint, EndpointId, QueuedJob, Release, ReleaseTest, Worker } from "../../core/model.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Random } from "../../ports/random.ts";
import type { JobView, Store } from "../../ports/store.ts";
import type { Events } from "../events.ts";

export type RolloutsOptions = {
  readonly store: Pick<Store, "jobs" | "fleet">;
  readonly clock: Clock;
  readonly random: Random;
  readonly events: Events;
  /** Whether a worker of a release that does not serve yet has failed, not with its daemon or while its pool was away. */
  readonly hasFailed: (ref: Pick<Worker, "endpointId" | "release">) => boolean;
  readonly log: {
    info(fields: object, message: string): void;
    error(fields: object, message: string): void;
  };
};

/** Lets releases go live once they are proven: their first worker is ready, and their tests have passed. */
export type Rollouts = {
  /** Goes on with what a daemon before began. */
  start(): void;
  /** From now on nothing is concluded: what ends with the daemon is no fault of a release. */
  stop(): void;
};

/** A job of a test may wait this long for the release's worker beside its own time. */
const TEST_WAIT_MS = 60_000;
/** Results of tests stay readable this long. */
const TEST_RETENTION_MS = 3_600_000;
/** Characters of an output that a reason quotes. */
const MAX_QUOTED_LENGTH = 200;
/** After a start: workers among which the one of a release is looked for that failed meanwhile, and releases whose tests may be left. */
const MOST_LOOKED_AT = 100;
const ENDED: readonly Worker["state"][] = ["failed", "gone"];

export function createRollouts(options: RolloutsOptions): Rollouts {
  const { store, clock, random, events, log } = options;
  const testing = new Map<EndpointId, { readonly version: number; readonly end: AbortController }>();
  let running = false;

  events.subscribe(({ kind, endpointId, workerId, data }) => {
    if (!running || endpointId === null) return;
    const ended = kind === "worker.move" && ENDED.some((state) => state === data.to);
    if (ended && workerId !== null)
      settle(failByWorker(endpointId, Number(data.release), String(data.reason)));
    else if (kind === "worker.move" || kind === "endpoint.update" || kind === "release.proving")
      look(endpointId);
    else if (["release.live", "release.superseded", "release.failed"].includes(kind))
      settle(cleanUp(endpointId, Number(data.version)));
  });

  function settle(work: Promise<unknown>): void {
    work.catch((error: unknown) => log.error({ err: error }, "rollout step failed"));
  }

  /** The release of an endpoint that proves itself, or null. */
  function provingOf(endpoint: Endpoint | undefined): Release | null {
    if (endpoint === undefined || endpoint.candidateRelease === null) return null;
    const release = store.fleet.release(endpoint.id, endpoint.candidateRelease);
    return release?.state === "proving" ? release : null;
  }

  const endpointOf = (id: EndpointId) => store.fleet.endpoints().find((endpoint) => endpoint.id === id);

  function look(endpointId: EndpointId): void {
    const endpoint = endpointOf(endpointId);
    const release = provingOf(endpoint);
    if (!endpoint || !release || testing.get(endpointId)?.version === release.version) return;
    if (endpoint.settings.workers.max === 0) {
      settle(goLive(release, "serves; not proven, since workers.max is 0"));
      return;
    }
    const isReady = store.fleet
      .workers()
      .some(
        (each) =>
          each.endpointId === endpointId && each.release === release.version && each.state === "ready",
      );
    if (isReady) settle(prove(release));
  }

  /** After a start: its worker may have ended while no daemon ran. */
  function resume(endpointId: EndpointId): void {
    const release = provingOf(endpointOf(endpointId));
    if (!release) return;
    const { version } = release;
    const last = store.fleet
      .listWorkers({ endpointId, limit: MOST_LOOKED_AT })
      .find((worker) => worker.release === version);
    settle(failByWorker(endpointId, version, last?.reason ?? "it ended"));
  }

  async function prove(release: Release): Promise<void> {
    const end = new AbortController();
    testing.set(release.endpointId, { version: release.version, end });
    try {
      const failure = await firstFailure(release, end.signal);
      if (!running || end.signal.aborted) return;
      if (failure === null) await goLive(release, "serves");
      else await store.fleet.moveRelease(release, "failed", failure, clock.nowMs(), "test");
    } finally {
      if (testing.get(release.endpointId)?.version === release.version) testing.delete(release.endpointId);
    }
  }

  async function goLive(release: Release, reason: string): Promise<void> {
    const moved = await store.fleet.moveRelease(release, "live", reason, clock.nowMs());
    if (moved) log.info({ endpointId: release.endpointId, version: release.version }, "release is live");
  }

  /** Runs the tests one after the other; why the first bad one failed, or null. */
  async function firstFailure(release: Release, signal: AbortSignal): Promise<string | null> {
    for (const [index, test] of release.tests.entries()) {
      const place = `test ${index + 1} of ${release.tests.length}, "${test.name}"`;
      await store.fleet.setReleaseReason(release, `runs ${place}`);
      // Its jobs are cancelled when it is over: none is added after that.
      const failure = signal.aborted ? null : await runTest(release, test, signal);
      if (signal.aborted) return null;
      if (failure !== null) return `${place}, failed: ${failure}`;
    }
    return null;
  }

  async function runTest(release: Release, test: ReleaseTest, signal: AbortSignal): Promise<string | null> {
    const job = jobOf(release, test);
    const outcome = await store.jobs.enqueue(
      {
        job,
        payload: { inputJson: test.inputJson, extrasJson: "{}" },
        idempotency: null,
        maxQueued: 0,
        maxOwnerQueued: 0,
      },
      clock.nowMs(),
    );
    if (outcome.kind !== "accepted") return "it could not be queued";
    const hasEnded = () => {
      const state = store.jobs.find(job.id)?.state;
      return state === undefined || isTerminal(state);
    };
    await events.untilJob(job.id, hasEnded, { timeoutMs: test.timeoutMs + TEST_WAIT_MS, signal });
    const view = store.jobs.view(job.id);
    return view === null ? "its job is gone" : judge(view, test);
  }

  function jobOf(release: Release, { timeoutMs }: ReleaseTest): QueuedJob {
    const nowMs = clock.nowMs();
    return {
      id: jobIdOf("run", random.uuid(), nowMs),
      endpointId: release.endpointId,
      owner: endpointOf(release.endpointId)?.owner ?? "",
      generation: 1,
      attempts: 0,
      deliveries: 0,
      policy: {
        executionTimeoutMs: timeoutMs,
        ttlMs: timeoutMs + TEST_WAIT_MS,
        lowPriority: false,
        handlerRetries: 0,
        retention: { completedMs: TEST_RETENTION_MS, failedMs: TEST_RETENTION_MS },
        pinned: release.version,
      },
      createdAtMs: nowMs,
      queuedAtMs: nowMs,
      expiresAtMs: nowMs + timeoutMs + TEST_WAIT_MS,
      webhookUrl: null,
      state: "IN_QUEUE",
      availableAtMs: nowMs,
    };
  }

  /** A release that proves itself fails with its worker: a second try would be the same code again. */
  async function failByWorker(endpointId: EndpointId, version: number, reason: string): Promise<void> {
    const release = provingOf(endpointOf(endpointId));
    if (release?.version !== version || !options.hasFailed({ endpointId, release: version }))
      return look(endpointId);
    testing.get(endpointId)?.end.abort();
    const said = `its first worker failed: ${reason}`;
    await store.fleet.moveRelease(release, "failed", said, clock.nowMs(), "worker");
  }

  /** The tests of a release that is over, whichever way, are of no use any more. */
  async function cleanUp(endpointId: EndpointId, version: number): Promise<void> {
    const running = testing.get(endpointId);
    if (running?.version === version) running.end.abort();
    const jobs = store.jobs.pinnedTo({ endpointId, version });
    await Promise.all(jobs.map(({ id }) => store.jobs.cancel(id, clock.nowMs())));
  }

  /** Tests of releases that were over when no daemon ran, or one that was on its way out. */
  function cancelLeftOver({ id, candidateRelease }: Endpoint): void {
    for (const { version, tests } of store.fleet.releases(id, MOST_LOOKED_AT))
      if (tests.length > 0 && version !== candidateRelease) settle(cleanUp(id, version));
  }

  return {
    start: () => {
      running = true;
      for (const endpoint of store.fleet.endpoints()) {
        cancelLeftOver(endpoint);
        resume(endpoint.id);
      }
    },
    stop: () => {
      running = false;
      for (const { end } of testing.values()) end.abort();
    },
  };
}

/** Why a test's job does not pass; null when it does. */
function judge({ job, payload }: JobView, { expectedJson }: ReleaseTest): string | null {
  if (job.state !== "COMPLETED") return payload.error ?? `its job is ${job.state}`;
  if (expectedJson === null) return null;
  const output = payload.outputJson ?? "null";
  if (isDeepStrictEqual(JSON.parse(output), JSON.parse(expectedJson))) return null;
  return `the output is ${quoted(output)}, expected was ${quoted(expectedJson)}`;
}

function quoted(text: string): string {
  return text.length <= MAX_QUOTED_LENGTH ? text : `${text.slice(0, MAX_QUOTED_LENGTH)}…`;
}
