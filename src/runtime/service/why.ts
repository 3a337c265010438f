import { formatDuration } from "../../text/duration.ts";
import type { Activity } from "../core/activity.ts";
import type { CrashState } from "../core/crash-backoff.ts";
import {
  type Endpoint,
  type EndpointId,
  type Job,
  NO_RELEASE,
  type QueuedJob,
  type Worker,
} from "../core/model.ts";
import { type WaitingFacts, whyWaiting } from "../core/why.ts";
import type { Clock } from "../ports/clock.ts";
import type { Store } from "../ports/store.ts";

export type WhyOptions = {
  readonly store: Pick<Store, "jobs" | "fleet">;
  readonly clock: Clock;
  readonly activity: Activity;
  readonly crashState: (endpointId: EndpointId) => CrashState & { readonly lastReason: string | null };
  readonly draining: () => boolean;
  readonly diskFull: () => boolean;
};

/** Says of every job why it is where it is: nothing waits without a named cause. */
export type Why = (job: Job, endpoint: Endpoint | null) => string;

/** Jobs before one in its queue are counted up to here. */
const MAX_AHEAD = 10_000;

export function createWhy({ store, clock, activity, crashState, draining, diskFull }: WhyOptions): Why {
  return (job, endpoint) => {
    const nowMs = clock.nowMs();
    if (job.state === "IN_PROGRESS") {
      const { startedAtMs, workerId } = job.lease;
      if (startedAtMs === null) return `handed to worker ${workerId}, behind the job that it runs`;
      return `running on worker ${workerId} for ${formatDuration(nowMs - startedAtMs)}`;
    }
    if ("end" in job) return endReason(job);
    if (!endpoint) return "its endpoint was deleted";
    return whyWaiting(factsOf(job, endpoint), nowMs);
  };

  function factsOf(job: QueuedJob, endpoint: Endpoint): WaitingFacts {
    const workers = store.fleet.workers().filter(({ endpointId }) => endpointId === endpoint.id);
    const ready = workers.filter(({ state }) => state === "ready" || state === "parked");
    const busy = ready.filter(({ id }) => activity.leases(id) > 0).length;
    return {
      job: {
        availableAtMs: job.availableAtMs,
        lowPriority: job.policy.lowPriority,
        ahead: store.jobs.ahead(job.id, MAX_AHEAD),
      },
      daemon: { draining: draining(), diskFull: diskFull() },
      endpoint: {
        name: endpoint.name,
        workersMax: endpoint.settings.workers.max,
        paused: endpoint.paused,
        notLive: endpoint.liveRelease === NO_RELEASE ? notLive(endpoint) : null,
        desiredReason: endpoint.desired.reason,
      },
      workers: {
        busy,
        free: ready.length - busy,
        draining: workers.filter(({ state }) => state === "draining").length,
        waiting: workers.find(({ state }) => state === "wanted")?.reason ?? null,
        starting: startingOf(workers),
        failed: failedOf(endpoint),
      },
    };
  }

  function notLive({ id, candidateRelease }: Endpoint): string {
    const [newest] = store.fleet.releases(id, 1);
    if (candidateRelease !== null) return `release ${candidateRelease} does not serve yet: ${newest?.reason}`;
    return `no release serves: release ${newest?.version} failed, ${newest?.reason}`;
  }

  function failedOf(endpoint: Endpoint): WaitingFacts["workers"]["failed"] {
    const { failures, retryAtMs, lastReason } = crashState(endpoint.id);
    if (failures === 0 || lastReason === null) return null;
    const [how = lastReason, ...rest] = lastReason.split(": ");
    return { how, lastLine: rest.length > 0 ? rest.join(": ") : null, retryAtMs, inARow: failures };
  }
}

function startingOf(workers: readonly Worker[]): WaitingFacts["workers"]["starting"] {
  const starting = workers.filter(({ state }) => state === "starting");
  const [first] = starting;
  return first ? { count: starting.length, phase: first.reason, sinceMs: first.createdAtMs } : null;
}

function endReason(job: Extract<Job, { end: unknown }>): string {
  const { end, state, attempts } = job;
  const where = end.workerId ? ` on worker ${end.workerId}` : "";
  const took = `after ${formatDuration(end.executionMs)}`;
  switch (end.failure) {
    case "handler":
      return `the handler failed${where} ${took}`;
    case "worker_lost":
      return `worker_lost: ${attempts} deliveries ended without a result`;
    case "execution_timeout":
      return `stopped${where}: its execution timeout of ${formatDuration(job.policy.executionTimeoutMs)} was over`;
    case "ttl":
      return `its time to live of ${formatDuration(job.policy.ttlMs)} was over`;
    case "invalid_result":
    case "result_too_large":
    case "stream_too_large":
      return `${end.failure}: what worker ${end.workerId} sent could not be kept`;
    case null:
      return state === "CANCELLED" ? `cancelled${where}` : `completed${where} ${took}`;
  }
}
