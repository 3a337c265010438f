import { LET_GO_MS } from "../core/job-machine.ts";
import type { JobId, JournalEvent, WorkerId } from "../core/model.ts";
import type { Clock } from "../ports/clock.ts";
import type { Store } from "../ports/store.ts";
import type { Events } from "./events.ts";

/** How long a stop poll is held: below the SDK's 90 s. */
const STOP_HOLD_MS = 25_000;
/** A worker that polled for stops this recently will poll again. */
const LISTENS_MS = 5_000;
/**
 * When, after a stop was delivered, it is said again and the worker's held takes are answered. The SDK drops a stop for a job that
 * it has not begun, and an open take would stay silent about what became of the job.
 */
const SAY_AGAIN_MS = [300, 1_000, 2_000, 3_000] as const;

/** Stopping single jobs on workers that go on. */
export type Stops = {
  /** Holds until jobs of this worker are to be stopped. */
  poll(workerId: WorkerId, signal: AbortSignal): Promise<readonly JobId[]>;
  /** The reply with these ids did not leave. */
  undelivered(workerId: WorkerId, jobIds: readonly JobId[]): void;
  /** A take arrived: what it says of the worker may prove that the stopped jobs are gone. */
  observeTake(workerId: WorkerId, busy: boolean): void;
  /** Answers a held poll with nothing, at once. */
  release(workerId: WorkerId): void;
  /** This daemon hands over or stops: held polls are answered with nothing, and none is held any more. */
  close(): void;
  /** Jobs that a worker was asked to stop and has not shown to be gone. */
  pending(workerId: WorkerId): number;
};

export type StopsOptions = {
  readonly store: Pick<Store, "jobs">;
  readonly clock: Clock;
  readonly events: Events;
  /** Revokes and kills a worker that does not let go of a job. */
  readonly condemn: (workerId: WorkerId, reason: string) => void;
  readonly releaseTakes: (workerId: WorkerId) => void;
};

/** A job to stop: how often the worker was told, and whether it is to be told (again). */
type StopState = { told: number; due: boolean };
type Listener = {
  open: ((jobIds: readonly JobId[]) => void) | null;
  lastPollMs: number;
  readonly stops: Map<JobId, StopState>;
};

/** With other jobs running a take proves less: the first stop may have come before the job began, and been dropped. */
const TOLD_FOR_SURE = 2;

export function createStops({ store, clock, events, condemn, releaseTakes }: StopsOptions): Stops {
  const listeners = new Map<WorkerId, Listener>();
  let closed = false;

  const listenerOf = (workerId: WorkerId): Listener => {
    let listener = listeners.get(workerId);
    if (!listener) {
      listener = { open: null, lastPollMs: Number.NEGATIVE_INFINITY, stops: new Map() };
      listeners.set(workerId, listener);
    }
    return listener;
  };

  events.subscribe((event) => {
    if (event.workerId === null) return;
    if (event.kind === "worker.move" && event.data.to === "gone") forget(event.workerId);
    if (event.jobId && endsOnWorker(event)) stop(event.workerId, event.jobId);
  });

  function forget(workerId: WorkerId): void {
    listeners.get(workerId)?.open?.([]);
    listeners.delete(workerId);
  }

  function stop(workerId: WorkerId, jobId: JobId): void {
    const listener = listenerOf(workerId);
    const listens = listener.open !== null || clock.nowMs() - listener.lastPollMs < LISTENS_MS;
    if (!listens) {
      condemn(workerId, "its job was stopped, and this worker cannot stop a single job");
      return;
    }
    listener.stops.set(jobId, { told: 0, due: true });
    answer(listener);
    void insist(workerId, jobId);
  }

  /** Says a stop again until the worker shows that the job is gone; at the end of the grace the worker goes. */
  async function insist(workerId: WorkerId, jobId: JobId): Promise<void> {
    for (const pauseMs of SAY_AGAIN_MS) {
      await clock.sleep(pauseMs);
      const listener = listeners.get(workerId);
      const stop = listener?.stops.get(jobId);
      if (!listener || !stop) return;
      stop.due = true;
      answer(listener);
      releaseTakes(workerId);
    }
    await clock.sleep(LET_GO_MS - SAY_AGAIN_MS.reduce((sum, pauseMs) => sum + pauseMs, 0));
    if (!listeners.get(workerId)?.stops.has(jobId)) return;
    condemn(workerId, `it did not let go of a stopped job within ${LET_GO_MS / 1_000} s`);
  }

  function answer(listener: Listener): void {
    const due = [...listener.stops].filter(([, stop]) => stop.due);
    if (!listener.open || due.length === 0) return;
    for (const [, stop] of due) {
      stop.due = false;
      stop.told += 1;
    }
    listener.open(due.map(([jobId]) => jobId));
  }

  function poll(workerId: WorkerId, signal: AbortSignal): Promise<readonly JobId[]> {
    const listener = listenerOf(workerId);
    listener.lastPollMs = clock.nowMs();
    return new Promise((resolve) => {
      const timer = new AbortController();
      const finish = (jobIds: readonly JobId[]) => {
        if (listener.open === finish) listener.open = null;
        listener.lastPollMs = clock.nowMs();
        timer.abort();
        signal.removeEventListener("abort", close);
        resolve(jobIds);
      };
      const close = () => finish([]);
      listener.open?.([]);
      listener.open = finish;
      signal.addEventListener("abort", close, { once: true });
      clock.sleep(STOP_HOLD_MS, timer.signal).then(() => !timer.signal.aborted && close(), close);
      if (closed || signal.aborted) close();
      else answer(listener);
    });
  }

  return {
    poll,
    undelivered: (workerId, jobIds) => {
      const listener = listenerOf(workerId);
      for (const jobId of jobIds) {
        const stop = listener.stops.get(jobId);
        if (stop) Object.assign(stop, { told: stop.told - 1, due: true });
      }
      answer(listener);
    },
    observeTake: (workerId, busy) => {
      const listener = listeners.get(workerId);
      if (!listener || listener.stops.size === 0) return;
      const enough = busy ? TOLD_FOR_SURE : 1;
      if (busy && store.jobs.leases(workerId).length === 0) return;
      for (const [jobId, { told }] of listener.stops) if (told >= enough) listener.stops.delete(jobId);
    },
    release: (workerId) => listeners.get(workerId)?.open?.([]),
    close: () => {
      closed = true;
      for (const listener of listeners.values()) listener.open?.([]);
    },
    pending: (workerId) => listeners.get(workerId)?.stops.size ?? 0,
  };
}

/** Whether a job ended while its worker may still be running it. */
function endsOnWorker({ kind, data }: JournalEvent): boolean {
  if (data.from !== "IN_PROGRESS") return false;
  if (kind === "job.cancel" || kind === "job.overrun" || kind === "job.expire") return true;
  return kind === "job.reject" && data.failure === "stream_too_large";
}
