import { formatDuration } from "../../text/duration.ts";

/** What is known of a waiting job and of what it waits for. Times are ms of the daemon's clock. */
export type WaitingFacts = {
  readonly job: {
    /** Not handed out before (backoff of a retry). */
    readonly availableAtMs: number;
    readonly lowPriority: boolean;
    /** Jobs before it in its queue. */
    readonly ahead: number;
  };
  readonly daemon: { readonly draining: boolean; readonly diskFull: boolean };
  readonly endpoint: {
    readonly name: string;
    readonly workersMax: number;
    readonly paused: boolean;
    /** While no release serves yet: how the first one does. */
    readonly notLive: string | null;
    /** The autoscaler's sentence. */
    readonly desiredReason: string;
  };
  readonly workers: {
    /** Ready ones without a free place for a job. */
    readonly busy: number;
    /** Ready ones with a free place. */
    readonly free: number;
    readonly draining: number;
    /** What the first of those without a part of the machine waits for; null: none waits. */
    readonly waiting: string | null;
    /** The start that began first. */
    readonly starting: { readonly count: number; readonly phase: string; readonly sinceMs: number } | null;
    /** The newest start that failed, while no start after it succeeded. */
    readonly failed: FailedStart | null;
  };
};

/** How a worker ended before its first take. */
export type FailedStart = {
  /** As in "handler exits with code 1" or "handler is killed by SIGSEGV". */
  readonly how: string;
  readonly lastLine: string | null;
  /** When the next start is tried; null when none is planned. */
  readonly retryAtMs: number | null;
  readonly inARow: number;
};

/** Characters of a worker's last line that a sentence quotes. */
const MAX_QUOTED_LENGTH = 200;

/**
 * Why a job waits, as one sentence: the nearest cause that somebody could act on. The last line of a worker is quoted as it
 * came; who shows it sanitizes it.
 */
export function whyWaiting(facts: WaitingFacts, nowMs: number): string {
  const { job, daemon, endpoint, workers } = facts;
  if (daemon.draining)
    return "the daemon is stopping and hands out no more jobs; this one waits for its next start";
  if (endpoint.paused) return `${endpoint.name} is paused: jobs wait until it is resumed`;
  if (endpoint.notLive !== null) return endpoint.notLive;
  if (endpoint.workersMax === 0) return `workers.max of ${endpoint.name} is 0: jobs wait until it is raised`;
  if (job.availableAtMs > nowMs) {
    return `put off until a retry in ${formatDuration(job.availableAtMs - nowMs)}`;
  }
  const ready = workers.busy + workers.free;
  if (ready === 0) return whyNoWorker(facts, nowMs);
  if (workers.free > 0) return behind(job, "a worker is free and takes next");
  const busy = `no worker slot is free: ${counted(workers.busy, "worker")} busy, max ${endpoint.workersMax}`;
  const starting = workers.starting === null ? "" : `; ${startingText(workers.starting, nowMs)}`;
  return behind(job, busy + starting);
}

function whyNoWorker({ job, daemon, endpoint, workers }: WaitingFacts, nowMs: number): string {
  if (workers.failed !== null) return whyFailed(workers.failed, workers.starting !== null, nowMs);
  if (workers.starting !== null) return startingText(workers.starting, nowMs);
  if (workers.waiting !== null) return `a worker ${workers.waiting}`;
  if (daemon.diskFull) return "the disk is full: no worker can start until there is room";
  if (workers.draining > 0) {
    return `${counted(workers.draining, "worker")} draining and none of them takes another job; a new one follows`;
  }
  if (job.lowPriority)
    return "of low priority: it starts no worker and waits for one that another job starts";
  return `no worker is up: ${endpoint.desiredReason}`;
}

function whyFailed(failed: FailedStart, starting: boolean, nowMs: number): string {
  const times = failed.inARow > 1 ? ` (${failed.inARow} times in a row)` : "";
  const line = failed.lastLine === null ? "" : `: ${shorten(failed.lastLine)}`;
  return `${failed.how} before it takes a job${times}${line}; ${nextStart(failed, starting, nowMs)}`;
}

function nextStart(failed: FailedStart, starting: boolean, nowMs: number): string {
  if (starting) return "starting again now";
  if (failed.retryAtMs === null) return "no further start is planned";
  return failed.retryAtMs <= nowMs
    ? "next start now"
    : `next start in ${formatDuration(failed.retryAtMs - nowMs)}`;
}

function startingText(starting: NonNullable<WaitingFacts["workers"]["starting"]>, nowMs: number): string {
  const since = formatDuration(Math.max(0, nowMs - starting.sinceMs));
  return starting.count === 1
    ? `starting a worker (${starting.phase}) since ${since}`
    : `starting ${starting.count} workers (${starting.phase}), the first since ${since}`;
}

function behind(job: WaitingFacts["job"], cause: string): string {
  const queue = job.ahead === 0 ? "next in line" : `behind ${counted(job.ahead, "job")}`;
  return `${queue}; ${cause}`;
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

function shorten(line: string): string {
  const text = line.trim();
  return text.length <= MAX_QUOTED_LENGTH ? text : `${text.slice(0, MAX_QUOTED_LENGTH)}…`;
}
