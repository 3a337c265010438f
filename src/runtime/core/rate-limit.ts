/** How often and how many at once. `concurrent` 0: no bound. */
export type RateLimit = { readonly requests: number; readonly windowMs: number; readonly concurrent: number };

/** What has happened under one limit, counted in slots of time: the newest slot's number, and the counts up to it. */
export type RateState = {
  readonly slot: number;
  /** Oldest first; the last is `slot`'s. */
  readonly counts: readonly number[];
  readonly running: number;
};

export type RateStep = {
  readonly admitted: boolean;
  readonly state: RateState;
  /** Requests that could follow at once. */
  readonly remaining: number;
  /** Whole seconds until a request is admitted (0 when it was), as far as time alone decides. */
  readonly retryAfterSeconds: number;
  /** Whole seconds until the oldest requests no longer count. */
  readonly resetSeconds: number;
};

/** Parts a window is counted in. More are more exact and cost memory: 20 of 10 s is half a second. */
const SLOTS = 20;
/** A place that frees up tells nobody when: a second is the shortest wait that HTTP can name. */
const BUSY_RETRY_SECONDS = 1;

export const NO_REQUESTS: RateState = { slot: 0, counts: [], running: 0 };

/**
 * Whether one more request may begin. The window slides in slots and counts the slot it has half left, so that no stretch of
 * `windowMs` ever holds more than `requests`; it errs on the strict side by one slot.
 */
export function admit(state: RateState, limit: RateLimit, nowMs: number): RateStep {
  const slotMs = limit.windowMs / SLOTS;
  const now = slide(state, Math.floor(nowMs / slotMs));
  const used = now.counts.reduce((sum, count) => sum + count, 0);
  const full = used >= limit.requests;
  const busy = limit.concurrent > 0 && now.running >= limit.concurrent;
  const admitted = !full && !busy;
  const waitSeconds = Math.max(1, Math.ceil((oldestLeavesMs(now, slotMs) - nowMs) / 1_000));
  return {
    admitted,
    state: admitted ? begin(now) : now,
    remaining: Math.max(0, limit.requests - used - (admitted ? 1 : 0)),
    retryAfterSeconds: admitted ? 0 : full ? waitSeconds : BUSY_RETRY_SECONDS,
    resetSeconds: used === 0 ? Math.ceil(limit.windowMs / 1_000) : waitSeconds,
  };
}

/** A request ended. */
export function leave(state: RateState): RateState {
  return { ...state, running: Math.max(0, state.running - 1) };
}

/** Whether a state says no more than {@link NO_REQUESTS}: it can be forgotten. */
export function isIdle(state: RateState, limit: RateLimit, nowMs: number): boolean {
  const now = slide(state, Math.floor((nowMs * SLOTS) / limit.windowMs));
  return now.running === 0 && now.counts.every((count) => count === 0);
}

/** Moves on to a slot: counts that the window has left behind are dropped. */
function slide(state: RateState, slot: number): RateState {
  const passed = slot - state.slot;
  if (passed <= 0 && state.counts.length > 0) return state;
  const kept = passed > SLOTS ? [] : state.counts;
  const missing = kept.length === 0 ? 1 : passed;
  const counts = [...kept, ...new Array<number>(missing).fill(0)].slice(-(SLOTS + 1));
  return { ...state, slot, counts };
}

function begin(state: RateState): RateState {
  const counts = [...state.counts];
  counts.push((counts.pop() ?? 0) + 1);
  return { ...state, counts, running: state.running + 1 };
}

/** When the oldest slot with requests leaves the window, in ms. */
function oldestLeavesMs(state: RateState, slotMs: number): number {
  const first = state.counts.findIndex((count) => count > 0);
  const age = first < 0 ? 0 : state.counts.length - 1 - first;
  return (state.slot - age + SLOTS + 1) * slotMs;
}
