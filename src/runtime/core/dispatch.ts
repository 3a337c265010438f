import type { EndpointId, JournalEvent } from "./model.ts";

/** A worker's open take: how many jobs it wants. */
export type Waiter = { readonly endpointId: EndpointId; readonly wants: number };

/** Jobs reserved for a waiter: the claim in the store follows. */
export type Match<W extends Waiter> = { readonly waiter: W; readonly count: number };

/**
 * Matches waiting workers with waiting jobs, synchronously. It knows exactly how many jobs are ready on
 * each endpoint, from the journal, and how many of those are promised to claims under way. So no job is promised twice
 * and no wake-up is lost between a reservation and its claim.
 */
export type Dispatch<W extends Waiter> = {
  /** How many jobs are ready at start. */
  seed(endpointId: EndpointId, ready: number): void;
  /** Follows one journal row; returns the endpoint whose matches may have changed. */
  observe(event: JournalEvent): EndpointId | null;
  /** Adds a waiter, at the front when it comes back from an empty claim. */
  offer(waiter: W, place?: "front" | "back"): void;
  /** Removes a waiter that has not been matched; false when it was. */
  withdraw(waiter: W): boolean;
  /** Takes waiters off the line and reserves jobs for them. */
  match(endpointId: EndpointId): Match<W>[];
  /** Promises jobs to a claim that has no waiter. */
  reserve(endpointId: EndpointId, count: number): void;
  /** A claim has ended: its reservation is over. */
  settle(endpointId: EndpointId, count: number): void;
  /** Ready jobs that nobody is promised. */
  unreserved(endpointId: EndpointId): number;
  /** Waiters of one endpoint, longest wait first. */
  waiters(endpointId: EndpointId): readonly W[];
};

type Line<W> = { ready: number; reserved: number; waiting: W[] };

export function createDispatch<W extends Waiter>(): Dispatch<W> {
  const lines = new Map<EndpointId, Line<W>>();

  const lineOf = (endpointId: EndpointId): Line<W> => {
    let line = lines.get(endpointId);
    if (!line) {
      line = { ready: 0, reserved: 0, waiting: [] };
      lines.set(endpointId, line);
    }
    return line;
  };

  const unreserved = (endpointId: EndpointId) => {
    const { ready, reserved } = lineOf(endpointId);
    return ready - reserved;
  };

  return {
    seed: (endpointId, ready) => {
      lineOf(endpointId).ready = ready;
    },
    observe: (event) => {
      if (event.endpointId === null) return null;
      // Also at its creation: the jobs of a former endpoint of that id were cancelled after it was gone.
      if (event.kind === "endpoint.delete" || event.kind === "endpoint.create") {
        lines.delete(event.endpointId);
        return null;
      }
      const change = readyChange(event);
      lineOf(event.endpointId).ready += change;
      return change > 0 ? event.endpointId : null;
    },
    offer: (waiter, place = "back") => {
      const { waiting } = lineOf(waiter.endpointId);
      if (place === "front") waiting.unshift(waiter);
      else waiting.push(waiter);
    },
    withdraw: (waiter) => {
      const { waiting } = lineOf(waiter.endpointId);
      const index = waiting.indexOf(waiter);
      if (index >= 0) waiting.splice(index, 1);
      return index >= 0;
    },
    match: (endpointId) => {
      const line = lineOf(endpointId);
      const matches: Match<W>[] = [];
      while (line.waiting.length > 0 && line.ready > line.reserved) {
        const waiter = line.waiting.shift() as W;
        const count = Math.min(waiter.wants, line.ready - line.reserved);
        line.reserved += count;
        matches.push({ waiter, count });
      }
      return matches;
    },
    reserve: (endpointId, count) => {
      lineOf(endpointId).reserved += count;
    },
    settle: (endpointId, count) => {
      const line = lineOf(endpointId);
      line.reserved = Math.max(0, line.reserved - count);
    },
    unreserved,
    waiters: (endpointId) => lineOf(endpointId).waiting,
  };
}

/** By how much an event changes the number of jobs that are ready. A job on backoff is not ready. */
function readyChange({ jobId, data }: JournalEvent): number {
  if (jobId === null) return 0;
  const enters = data.to === "IN_QUEUE" && !data.delayed ? 1 : 0;
  const leaves = data.from === "IN_QUEUE" && !data.fromDelayed ? 1 : 0;
  return enters - leaves;
}
