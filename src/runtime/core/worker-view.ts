import type { Worker } from "./model.ts";

/** RunPod's worker states, and `gone` for the history. */
export type ShownWorkerState =
  | "initializing"
  | "idle"
  | "running"
  | "throttled"
  | "outdated"
  | "unhealthy"
  | "gone";

/** The state that people and clients see: derived from the stored one, the leases held and the live release. */
export function shownState(worker: Worker, leases: number, liveRelease: number | null): ShownWorkerState {
  switch (worker.state) {
    case "wanted":
      return "throttled";
    case "starting":
      return "initializing";
    case "failed":
      return "unhealthy";
    case "gone":
      return "gone";
    case "parked":
      return "idle";
    case "ready":
    case "draining":
      if (liveRelease !== null && worker.release !== liveRelease) return "outdated";
      return leases > 0 ? "running" : "idle";
  }
}

export type WorkerCounts = Record<
  "idle" | "initializing" | "ready" | "running" | "throttled" | "unhealthy",
  number
>;

/** Counts as /health gives them: `ready` follows `idle`, and an outdated worker counts by what it does. */
export function countWorkers(
  workers: readonly { readonly worker: Worker; readonly leases: number }[],
): WorkerCounts {
  const counts = { idle: 0, initializing: 0, ready: 0, running: 0, throttled: 0, unhealthy: 0 };
  for (const { worker, leases } of workers) {
    const state = shownState(worker, leases, null);
    if (state !== "gone" && state !== "outdated") counts[state] += 1;
  }
  return { ...counts, ready: counts.idle };
}
