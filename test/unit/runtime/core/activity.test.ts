import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createActivity } from "../../../../src/runtime/core/activity.ts";
import type {
  EndpointId,
  JobId,
  JournalEvent,
  RunningJob,
  WorkerId,
} from "../../../../src/runtime/core/model.ts";

const E = "e" as EndpointId;
const W = "w" as WorkerId;
const V = "v" as WorkerId;

function event(kind: string, fields: Partial<JournalEvent>): JournalEvent {
  return {
    seq: 1,
    atMs: 0,
    kind,
    endpointId: E,
    owner: null,
    jobId: null,
    workerId: null,
    data: {},
    ...fields,
  };
}

function job(id: string, worker: WorkerId, from: string, to: string, atMs = 0): JournalEvent {
  return event("job.x", { jobId: id as JobId, workerId: worker, data: { from, to }, atMs });
}

describe("activity", () => {
  test("a worker never seen with a job is idle since it is said to be", () => {
    const activity = createActivity();
    expect(activity.idleSinceMs(W, 77)).toBe(77);
    expect(activity.leases(W)).toBe(0);
    expect(activity.peakConcurrency(E)).toBe(1);
  });

  test("follows leases, and idles from the end of the last one", () => {
    const activity = createActivity();
    activity.observe(job("a", W, "IN_QUEUE", "IN_PROGRESS", 10));
    activity.observe(job("b", W, "IN_QUEUE", "IN_PROGRESS", 11));
    activity.observe(job("b", W, "IN_PROGRESS", "IN_PROGRESS", 12));
    expect([activity.leases(W), activity.idleSinceMs(W, 0)]).toEqual([2, null]);
    activity.observe(job("a", W, "IN_PROGRESS", "COMPLETED", 20));
    expect([activity.leases(W), activity.idleSinceMs(W, 0)]).toEqual([1, null]);
    activity.observe(job("b", W, "IN_PROGRESS", "IN_QUEUE", 30));
    expect([activity.leases(W), activity.idleSinceMs(W, 0)]).toEqual([0, 30]);
    expect(activity.peakConcurrency(E)).toBe(2);
  });

  test("starts from the leases in force", () => {
    const activity = createActivity();
    const lease = { workerId: W, takenAtMs: 1, startedAtMs: 1 };
    activity.seed([{ endpointId: E, lease } as RunningJob, { endpointId: E, lease } as RunningJob], 5);
    expect([activity.leases(W), activity.peakConcurrency(E)]).toEqual([2, 2]);
  });

  test("a job that ends in the queue touches no worker", () => {
    const activity = createActivity();
    activity.observe(
      event("job.cancel", { jobId: "a" as JobId, data: { from: "IN_QUEUE", to: "CANCELLED" } }),
    );
    expect(activity.idleSinceMs(W, 3)).toBe(3);
  });

  test("forgets workers that are gone and endpoints that are deleted", () => {
    const activity = createActivity();
    activity.observe(job("a", W, "IN_QUEUE", "IN_PROGRESS"));
    activity.observe(job("b", W, "IN_QUEUE", "IN_PROGRESS"));
    activity.observe(event("worker.move", { workerId: W, data: { from: "ready", to: "gone" } }));
    expect([activity.leases(W), activity.idleSinceMs(W, 9)]).toEqual([0, 9]);
    expect(activity.peakConcurrency(E)).toBe(2);
    activity.observe(event("endpoint.delete", {}));
    expect(activity.peakConcurrency(E)).toBe(1);
  });

  test("never counts below zero, whatever comes twice", () => {
    const activity = createActivity();
    activity.observe(job("a", W, "IN_PROGRESS", "COMPLETED", 4));
    activity.observe(job("a", W, "IN_PROGRESS", "COMPLETED", 5));
    activity.observe(job("b", W, "IN_QUEUE", "IN_PROGRESS", 6));
    expect(activity.leases(W)).toBe(1);
  });

  test("agrees with a plain count over any history", () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(5), fc.boolean()), { maxLength: 60 }), (steps) => {
        const activity = createActivity();
        const held = new Map<string, WorkerId>();
        for (const [index, [number, onFirst]] of steps.entries()) {
          const id = `j${number}`;
          const holder = held.get(id);
          if (holder) {
            held.delete(id);
            activity.observe(job(id, holder, "IN_PROGRESS", "IN_QUEUE", index));
          } else {
            held.set(id, onFirst ? W : V);
            activity.observe(job(id, onFirst ? W : V, "IN_QUEUE", "IN_PROGRESS", index));
          }
          for (const worker of [W, V]) {
            const count = [...held.values()].filter((each) => each === worker).length;
            expect(activity.leases(worker)).toBe(count);
            expect(activity.idleSinceMs(worker, 0) === null).toBe(count > 0);
          }
        }
      }),
    );
  });
});
