import { formatDuration } from "../../text/duration.ts";
import type { EndpointSettings } from "./model.ts";

/** What an endpoint's load is at one moment. Times are ms of the daemon's clock. */
export type LoadSample = {
  /** Waiting jobs that may start a worker: all but those of low priority. */
  readonly inQueueNormal: number;
  readonly inQueue: number;
  readonly inProgress: number;
  /** Start of the oldest wait among the normal ones; null when none waits. */
  readonly oldestQueuedAtMs: number | null;
  readonly workers: {
    /** Starting, ready and running ones: all that the endpoint has, draining ones aside. */
    readonly up: number;
    /** Those of them that have not taken yet. */
    readonly starting: number;
    /** One entry per ready worker without a job, and per one that waits for its part of the machine: since when. */
    readonly idleSinceMs: readonly number[];
    /** Jobs that one worker has been seen to take at once; 1 while unknown. */
    readonly perWorkerConcurrencyHint: number;
  };
};

/** What the next decision must know of the last ones. Kept in memory: losing it makes one step early. */
export type ScalingState = {
  readonly raisedAtMs: number | null;
  /** What the last raise asked for: it stands while its workers are not in the sample yet. */
  readonly raisedTo: number;
};

export const INITIAL_SCALING: ScalingState = { raisedAtMs: null, raisedTo: 0 };

/** Why a number is wanted, as a word that stays the same while nothing changes (reasons count seconds). */
export type ScalingRule =
  | "max_zero"
  | "from_zero"
  | "oldest_wait"
  | "requests"
  | "starting"
  | "pacing"
  | "within_threshold"
  | "keep"
  | "idle_timeout"
  | "min";

export type ScalingDecision = {
  /** Always within min and max. Where max is below the workers that hold jobs, those drain: their jobs end. */
  readonly desired: number;
  readonly rule: ScalingRule;
  /** A sentence for people. */
  readonly reason: string;
  /** When time alone may change the decision (ms of the daemon's clock); null: not before the load changes. */
  readonly nextCheckMs: number | null;
  readonly state: ScalingState;
};

type Settings = Pick<EndpointSettings, "workers" | "scale">;
type Wanted = { readonly workers: number; readonly rule: ScalingRule; readonly reason: string };

/**
 * How many workers an endpoint should have.
 *
 * Up, by `queue-delay`: the first normal job starts a worker at once when none is up. After that, while the oldest wait
 * exceeds the threshold, one step per threshold interval: never more than doubles the workers, never more than the waiting
 * jobs can fill beside the workers that are starting already. By `request-count`: ceil((waiting + running) / threshold), at once.
 *
 * Down: workers above `min` that have been idle for the idle timeout may go; never while jobs wait, never one with a job.
 * Whoever acts on it lets the longest idle go first: those are the ones that were counted.
 */
export function decide(
  sample: LoadSample,
  settings: Settings,
  state: ScalingState,
  nowMs: number,
): ScalingDecision {
  const { min, max, extra } = settings.workers;
  if (max === 0)
    return decision({ workers: 0, rule: "max_zero", reason: "max is 0: no workers" }, state, null);
  const wanted =
    settings.scale.by === "queue-delay"
      ? byQueueDelay(sample, settings, state, nowMs)
      : byRequestCount(sample, settings, nowMs);
  const bounded = withinBounds(wanted, min, max, extra);
  const raised = bounded.workers > Math.max(sample.workers.up, min);
  // Restarted while the workers do not exist yet: the next step waits for this one.
  const nextState = raised ? { raisedAtMs: nowMs, raisedTo: bounded.workers } : state;
  return decision(bounded, nextState, nextCheck(sample, settings, nextState, nowMs));
}

function decision(wanted: Wanted, state: ScalingState, nextCheckMs: number | null): ScalingDecision {
  return { desired: wanted.workers, rule: wanted.rule, reason: wanted.reason, nextCheckMs, state };
}

function byQueueDelay(sample: LoadSample, settings: Settings, state: ScalingState, nowMs: number): Wanted {
  const { inQueueNormal, oldestQueuedAtMs, workers } = sample;
  if (inQueueNormal === 0 || oldestQueuedAtMs === null) return steady(sample, settings, nowMs);
  if (workers.up === 0) return fromZero(inQueueNormal, 1);
  const thresholdMs = settings.scale.threshold * 1_000;
  const waitMs = nowMs - oldestQueuedAtMs;
  const waited = `oldest wait ${formatDuration(waitMs)}`;
  const limit = formatThreshold(settings.scale.threshold);
  if (waitMs <= thresholdMs) return keep(workers.up, "within_threshold", `${waited}, within ${limit}`);
  const unfilled = inQueueNormal - workers.starting * workers.perWorkerConcurrencyHint;
  const over = `${waited} > ${limit}`;
  if (unfilled <= 0) {
    return keep(workers.up, "starting", `${over}, but ${count(workers.starting, "worker")} starting already`);
  }
  if (state.raisedAtMs !== null && nowMs - state.raisedAtMs < thresholdMs) {
    return keep(
      Math.max(workers.up, state.raisedTo),
      "pacing",
      `${over}, but a worker was added less than ${limit} ago`,
    );
  }
  const step = Math.min(workers.up, Math.ceil(unfilled / workers.perWorkerConcurrencyHint));
  return want(workers.up + step, "oldest_wait", over);
}

function byRequestCount(sample: LoadSample, settings: Settings, nowMs: number): Wanted {
  const { inQueueNormal, inProgress, workers } = sample;
  const jobs = inQueueNormal + inProgress;
  const wanted = Math.ceil(jobs / settings.scale.threshold);
  if (workers.up === 0 && inQueueNormal > 0) return fromZero(inQueueNormal, wanted);
  if (wanted <= workers.up) return steady(sample, settings, nowMs);
  return want(wanted, "requests", `${count(jobs, "request")}, ${settings.scale.threshold} per worker`);
}

/** Enough workers are up: which may go? */
function steady(sample: LoadSample, settings: Settings, nowMs: number): Wanted {
  const { inQueue, inProgress, workers } = sample;
  const { min, idleTimeoutMs } = settings.workers;
  if (workers.up <= min) return { workers: min, rule: "min", reason: `min is ${min}` };
  if (inQueue > 0) return keep(workers.up, "keep", `${count(inQueue, "job")} waiting`);
  const expired = workers.idleSinceMs.filter((sinceMs) => nowMs - sinceMs >= idleTimeoutMs).length;
  if (expired === 0) {
    const busy = inProgress > 0 ? `${count(inProgress, "job")} running` : "no worker idle for long enough";
    return keep(workers.up, "keep", busy);
  }
  const idle = `${count(expired, "worker")} idle for ${formatDuration(idleTimeoutMs)} or longer`;
  return want(Math.max(min, workers.up - expired), "idle_timeout", idle);
}

function fromZero(waiting: number, workers: number): Wanted {
  return want(workers, "from_zero", `${count(waiting, "job")} waiting and no worker up`);
}

function keep(workers: number, rule: ScalingRule, why: string): Wanted {
  return { workers, rule, reason: `${why}: keeps ${workers}` };
}

function want(workers: number, rule: ScalingRule, why: string): Wanted {
  return { workers, rule, reason: `${why}: wants ${workers}` };
}

/** Only a load that asks for more than max reaches the extra workers. */
function withinBounds(wanted: Wanted, min: number, max: number, extra: number): Wanted {
  const most = max + extra;
  if (wanted.workers > most) {
    const cap = extra === 0 ? `max ${max}` : `max ${max} and ${extra} extra`;
    return { ...wanted, workers: most, reason: `${wanted.reason}, capped by ${cap}` };
  }
  if (wanted.workers < min)
    return { ...wanted, workers: min, reason: `${wanted.reason}, raised to min ${min}` };
  return wanted;
}

/** The earliest moment still ahead at which a wait, a pace or an idle time is over. */
function nextCheck(
  sample: LoadSample,
  settings: Settings,
  state: ScalingState,
  nowMs: number,
): number | null {
  const { oldestQueuedAtMs, workers } = sample;
  const { min, max, extra, idleTimeoutMs } = settings.workers;
  const thresholdMs = settings.scale.threshold * 1_000;
  const moments: number[] = [];
  if (workers.up > min && sample.inQueue === 0) {
    moments.push(...workers.idleSinceMs.map((sinceMs) => sinceMs + idleTimeoutMs));
  }
  if (settings.scale.by === "queue-delay" && oldestQueuedAtMs !== null && workers.up < max + extra) {
    moments.push(Math.floor(oldestQueuedAtMs + thresholdMs) + 1);
    if (state.raisedAtMs !== null) moments.push(Math.ceil(state.raisedAtMs + thresholdMs));
  }
  const ahead = moments.filter((atMs) => atMs > nowMs);
  return ahead.length === 0 ? null : Math.min(...ahead);
}

function formatThreshold(seconds: number): string {
  return `${seconds} s`;
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
