import type { EndpointId, JournalEvent } from "./model.ts";

declare const queueBrand: unique symbol;
/** A line of jobs: an endpoint's own, or of those pinned to one of its releases. */
export type QueueKey = string & { readonly [queueBrand]: true };

/** The line of an endpoint's jobs (`pinned` 0), or of those pinned to a release. */
export function queueKey(endpointId: EndpointId, pinned: number): QueueKey {
  return (pinned === 0 ? endpointId : `${endpointId}#${pinned}`) as QueueKey;
}

/** A worker's open take: the line that it waits in, and how many jobs it wants. */
export type Waiter = { readonly queue: QueueKey; readonly wants: number };

/** Jobs reserved for a waiter: the claim in the store follows. */
export type Match<W extends Waiter> = { readonly waiter: W; readonly count: number };

/**
 * Matches waiting workers with waiting jobs, synchronously. It knows exactly how many jobs are ready in
 * each queue, from the journal, and how many of those are promised to claims under way. So no job is promised twice
 * and no wake-up is lost between a reservation and its claim.
 */
export type Dispatch<W extends Waiter> = {
  /** How many jobs are ready at start. */
  seed(queue: QueueKey, ready: number): void;
  /** Follows one journal row; returns the queue whose matches may have changed. */
  observe(event: JournalEvent): QueueKey | null;
  /** Adds a waiter, at the front when it comes back from an empty claim. */
  offer(waiter: W, place?: "front" | "back"): void;
  /** Removes a waiter that has not been matched; false when it was. */
  withdraw(waiter: W): boolean;
  /** Takes waiters off the line and reserves jobs for them. */
  match(queue: QueueKey): Match<W>[];
  /** Promises jobs to a claim that has no waiter. */
  reserve(queue: QueueKey, count: number): void;
  /** A claim has ended: its reservation is over. */
  settle(queue: QueueKey, count: number): void;
  /** Ready jobs that nobody is promised. */
  unreserved(queue: QueueKey): number;
  /** Waiters of one queue, longest wait first. */
  waiters(queue: QueueKey): readonly W[];
};

type Line<W> = { ready: number; reserved: number; waiting: W[] };

export function createDispatch<W extends Waiter>(): Dispatch<W> {
  const lines = new Map<QueueKey, Line<W>>();

  const lineOf = (queue: QueueKey): Line<W> => {
    let line = lines.get(queue);
    if (!line) {
      line = { ready: 0, reserved: 0, waiting: [] };
      lines.set(queue, line);
    }
    return line;
  };

  const unreserved = (queue: QueueKey) => {
    const { ready, reserved } = lineOf(queue);
    return ready - reserved;
  };

  return {
    seed: (queue, ready) => {
      lineOf(queue).ready = ready;
    },
    observe: (event) => {
      if (event.endpointId === null) return null;
      // Also at its creation: the jobs of a former endpoint of that id were cancelled after it was gone.
      if (event.kind === "endpoint.delete" || event.kind === "endpoint.create") {
        const whole = queueKey(event.endpointId, 0);
        for (const queue of lines.keys())
          if (queue === whole || queue.startsWith(`${whole}#`)) lines.delete(queue);
        return null;
      }
      const change = readyChange(event);
      if (change === 0) return null;
      const queue = queueKey(event.endpointId, Number(event.data.pinned ?? 0));
      lineOf(queue).ready += change;
      return change > 0 ? queue : null;
    },
    offer: (waiter, place = "back") => {
      const { waiting } = lineOf(waiter.queue);
      if (place === "front") waiting.unshift(waiter);
      else waiting.push(waiter);
    },
    withdraw: (waiter) => {
      const { waiting } = lineOf(waiter.queue);
      const index = waiting.indexOf(waiter);
      if (index >= 0) waiting.splice(index, 1);
      return index >= 0;
    },
    match: (queue) => {
      const line = lineOf(queue);
      const matches: Match<W>[] = [];
      while (line.waiting.length > 0 && line.ready > line.reserved) {
        const waiter = line.waiting.shift() as W;
        const count = Math.min(waiter.wants, line.ready - line.reserved);
        line.reserved += count;
        matches.push({ waiter, count });
      }
      return matches;
    },
    reserve: (queue, count) => {
      lineOf(queue).reserved += count;
    },
    settle: (queue, count) => {
      const line = lineOf(queue);
      line.reserved = Math.max(0, line.reserved - count);
    },
    unreserved,
    waiters: (queue) => lineOf(queue).waiting,
  };
}

/** By how much an event changes the number of jobs that are ready. A job on backoff is not ready. */
function readyChange({ jobId, data }: JournalEvent): number {
  if (jobId === null) return 0;
  const enters = data.to === "IN_QUEUE" && !data.delayed ? 1 : 0;
  const leaves = data.from === "IN_QUEUE" && !data.fromDelayed ? 1 : 0;
  return enters - leaves;
}
