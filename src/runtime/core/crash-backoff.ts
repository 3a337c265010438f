import type { EndpointId } from "./model.ts";

/** Failed starts in a row, and when the next start may be. Kept in memory: a restart of the daemon tries at once. */
export type CrashState = { readonly failures: number; readonly retryAtMs: number };

export const NO_CRASHES: CrashState = { failures: 0, retryAtMs: 0 };

const FIRST_PAUSE_MS = 10_000;
const LONGEST_PAUSE_MS = 300_000;
/** Workers that worked before they died are replaced at once this many times in a row. */
const FREE_REPLACEMENTS = 3;
/** From this many failures on the endpoint shows as degraded (F-13). */
export const DEGRADED_FAILURES = 5;

/** A worker ended badly: 10 s, doubling to 300 s. One that had taken jobs is given the benefit of the doubt first. */
export function crashed(state: CrashState, hadWorked: boolean, nowMs: number): CrashState {
  const failures = state.failures + 1;
  const steps = failures - (hadWorked ? FREE_REPLACEMENTS : 0);
  const pauseMs = steps <= 0 ? 0 : Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (steps - 1));
  return { failures, retryAtMs: nowMs + pauseMs };
}

/** The crashes of each endpoint's workers, as people are told of them. */
export type Crashes = {
  record(
    endpointId: EndpointId,
    crash: { readonly reason: string; readonly hadWorked: boolean },
    nowMs: number,
  ): void;
  /** Work was done, or the code is another: what failed before says nothing of the next start. */
  forget(endpointId: EndpointId): void;
  of(endpointId: EndpointId): CrashState & { readonly degraded: boolean; readonly lastReason: string | null };
};

export function createCrashes(): Crashes {
  const states = new Map<EndpointId, CrashState & { readonly lastReason: string }>();
  return {
    record: (endpointId, { reason, hadWorked }, nowMs) => {
      const state = crashed(states.get(endpointId) ?? NO_CRASHES, hadWorked, nowMs);
      states.set(endpointId, { ...state, lastReason: reason });
    },
    forget: (endpointId) => void states.delete(endpointId),
    of: (endpointId) => {
      const { failures, retryAtMs, lastReason } = states.get(endpointId) ?? {
        ...NO_CRASHES,
        lastReason: null,
      };
      return { failures, retryAtMs, lastReason, degraded: failures >= DEGRADED_FAILURES };
    },
  };
}
