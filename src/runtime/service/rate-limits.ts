import type { Route } from "../../contract/routes.ts";
import type { EndpointId, KeyId } from "../core/model.ts";
import { admit, isIdle, leave, NO_REQUESTS, type RateLimit, type RateState } from "../core/rate-limit.ts";
import type { Clock } from "../ports/clock.ts";

/** An operation with a limit of its own: the names that the route table uses. */
export type LimitedOperation = NonNullable<Route["limit"]>;

/** Whether a request may go on. `leave` must be called when it has been answered; `headers` belong on the answer. */
export type Entry =
  | { readonly ok: true; readonly headers: RateHeaders; leave(): void }
  | { readonly ok: false; readonly headers: RateHeaders; readonly retryAfterSeconds: number };

/** As the IETF writes them (draft-ietf-httpapi-ratelimit-headers): policy name, quota, window; remaining, seconds to reset. */
export type RateHeaders = { readonly "RateLimit-Policy"?: string; readonly RateLimit?: string };

export type RateLimits = {
  /** Counts a request of a key on an endpoint. */
  enter(caller: { readonly keyId: KeyId }, endpointId: EndpointId, operation: LimitedOperation): Entry;
  /** How many counters are kept: bounded. */
  size(): number;
};

const WINDOW_MS = 10_000;

/** RunPod's table: requests per 10 s and at once. */
const TABLE = {
  runsync: { requests: 2_000, windowMs: WINDOW_MS, concurrent: 400 },
  run: { requests: 1_000, windowMs: WINDOW_MS, concurrent: 200 },
  status: { requests: 2_000, windowMs: WINDOW_MS, concurrent: 400 },
  stream: { requests: 2_000, windowMs: WINDOW_MS, concurrent: 400 },
  cancel: { requests: 100, windowMs: WINDOW_MS, concurrent: 20 },
  purge: { requests: 2, windowMs: WINDOW_MS, concurrent: 0 },
  requests: { requests: 10, windowMs: WINDOW_MS, concurrent: 2 },
  openai: { requests: 2_000, windowMs: WINDOW_MS, concurrent: 400 },
} as const satisfies Record<LimitedOperation, RateLimit>;

/** Counters kept: (key, endpoint, operation) triples. Beyond, the one used longest ago is forgotten. */
const MAX_COUNTERS = 10_000;
/** Counters looked at for one to forget whose requests have all ended, before any is. */
const MAX_SCANNED = 100;

const OFF: Entry = { ok: true, headers: {}, leave: () => undefined };

/** RunPod's rate limits per key, endpoint and operation: off on loopback. */
export function createRateLimits({
  clock,
  enabled,
  perWorkerRequests = 0,
  runningWorkers = () => 0,
}: {
  readonly clock: Clock;
  readonly enabled: boolean;
  /** Requests per window that each running worker adds; the limit is the larger of this and the table's. */
  readonly perWorkerRequests?: number;
  readonly runningWorkers?: (endpointId: EndpointId) => number;
}): RateLimits {
  const counters = new Map<string, { state: RateState; readonly limit: RateLimit }>();

  function enter(caller: { readonly keyId: KeyId }, endpointId: EndpointId, operation: LimitedOperation) {
    if (!enabled) return OFF;
    const base = TABLE[operation];
    const requests = Math.max(base.requests, runningWorkers(endpointId) * perWorkerRequests);
    const limit = requests === base.requests ? base : { ...base, requests };
    const name = `${caller.keyId} ${endpointId} ${operation}`;
    const step = admit(counters.get(name)?.state ?? NO_REQUESTS, limit, clock.nowMs());
    keep(name, step.state, limit);
    const headers: RateHeaders = {
      "RateLimit-Policy": `"${operation}";q=${limit.requests};w=${limit.windowMs / 1_000}`,
      RateLimit: `"${operation}";r=${step.remaining};t=${step.resetSeconds}`,
    };
    if (!step.admitted) return { ok: false, headers, retryAfterSeconds: step.retryAfterSeconds } as const;
    return { ok: true, headers, leave: leaver(name) } as const;
  }

  /** Leaving twice counts once: an answer can both end and break. */
  function leaver(name: string): () => void {
    let left = false;
    return () => {
      const counter = counters.get(name);
      if (!left && counter !== undefined) counter.state = leave(counter.state);
      left = true;
    };
  }

  function keep(name: string, state: RateState, limit: RateLimit): void {
    // Deleted first, so that the order of the map is the order of last use.
    counters.delete(name);
    if (counters.size >= MAX_COUNTERS) forgetOne();
    counters.set(name, { state, limit });
  }

  function forgetOne(): void {
    const nowMs = clock.nowMs();
    const oldest = counters.entries().take(MAX_SCANNED).toArray();
    const idle = oldest.find(([, { state, limit }]) => isIdle(state, limit, nowMs));
    const chosen = idle ?? oldest.find(([, { state }]) => state.running === 0) ?? oldest[0];
    if (chosen !== undefined) counters.delete(chosen[0]);
  }

  return { enter, size: () => counters.size };
}
