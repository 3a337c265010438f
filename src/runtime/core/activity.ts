import type { EndpointId, JournalEvent, RunningJob, WorkerId } from "./model.ts";

/** What workers are doing, followed from the journal: leases held, idle time, jobs taken at once. */
export type Activity = {
  /** Leases in force when the daemon starts. */
  seed(jobs: readonly RunningJob[], nowMs: number): void;
  observe(event: JournalEvent): void;
  leases(workerId: WorkerId): number;
  /** Since when a worker has held no job; null while it holds one. `sinceMs` counts for one never seen with a job. */
  idleSinceMs(workerId: WorkerId, sinceMs: number): number | null;
  /** Most jobs that one worker of an endpoint has held at once: at least 1. */
  peakConcurrency(endpointId: EndpointId): number;
};

type Entry = { leases: number; idleSinceMs: number | null };

export function createActivity(): Activity {
  const workers = new Map<WorkerId, Entry>();
  const peaks = new Map<EndpointId, number>();

  function change(workerId: WorkerId, endpointId: EndpointId | null, by: number, nowMs: number): void {
    const entry = workers.get(workerId) ?? { leases: 0, idleSinceMs: null };
    const leases = Math.max(0, entry.leases + by);
    workers.set(workerId, { leases, idleSinceMs: leases === 0 ? nowMs : null });
    if (endpointId) peaks.set(endpointId, Math.max(peaks.get(endpointId) ?? 1, leases));
  }

  return {
    seed: (jobs, nowMs) => {
      for (const job of jobs) change(job.lease.workerId, job.endpointId, 1, nowMs);
    },
    observe: ({ kind, workerId, endpointId, jobId, data, atMs }) => {
      if (kind === "endpoint.delete" && endpointId) peaks.delete(endpointId);
      if (workerId === null) return;
      if (kind === "worker.move" && data.to === "gone") workers.delete(workerId);
      if (jobId === null) return;
      if (data.to === "IN_PROGRESS" && data.from === "IN_QUEUE") change(workerId, endpointId, 1, atMs);
      if (data.from === "IN_PROGRESS" && data.to !== "IN_PROGRESS") change(workerId, endpointId, -1, atMs);
    },
    leases: (workerId) => workers.get(workerId)?.leases ?? 0,
    idleSinceMs: (workerId, sinceMs) => {
      const entry = workers.get(workerId);
      return entry ? entry.idleSinceMs : sinceMs;
    },
    peakConcurrency: (endpointId) => peaks.get(endpointId) ?? 1,
  };
}
