import { describe, expect, test } from "vitest";
import { createSimulatedClock } from "../../../../src/runtime/adapters/simulated/clock.ts";
import type { JobId, JournalEvent } from "../../../../src/runtime/core/model.ts";
import { createEvents } from "../../../../src/runtime/service/events.ts";

const a = "a" as JobId;
const b = "b" as JobId;

/** A store that commits what it is told. */
function setUp() {
  const listeners = new Set<(events: readonly JournalEvent[]) => void>();
  const clock = createSimulatedClock(0);
  const onCommit = (listener: (events: readonly JournalEvent[]) => void) => {
    listeners.add(listener);
    return () => void listeners.delete(listener);
  };
  const events = createEvents({ store: { onCommit }, clock });
  let seq = 0;
  const commit = (...jobs: (JobId | null)[]) => {
    const batch = jobs.map((jobId): JournalEvent => {
      seq += 1;
      const nobody = { endpointId: null, owner: null, workerId: null };
      return { seq, atMs: 0, kind: "job.ended", jobId, ...nobody, data: {} };
    });
    for (const listener of listeners) listener(batch);
  };
  return { clock, events, commit };
}

describe("subscribe", () => {
  test("gives every event in order, until unsubscribed", () => {
    const { events, commit } = setUp();
    const seen: number[] = [];
    const stop = events.subscribe(({ seq }) => seen.push(seq));
    commit(a, null);
    commit(b);
    expect(events.listenerCount()).toBe(1);
    stop();
    commit(a);
    expect(seen).toEqual([1, 2, 3]);
    expect(events.listenerCount()).toBe(0);
  });
});

describe("untilJob", () => {
  test("is true at once when it holds already, and leaves nothing behind", async () => {
    const { events, clock } = setUp();
    expect(await events.untilJob(a, () => true, { timeoutMs: 1_000 })).toBe(true);
    expect([events.listenerCount(), clock.sleeping()]).toEqual([0, 0]);
  });

  test("F-27 a job that ends right after the look is not missed", async () => {
    const { events, commit } = setUp();
    let ended = false;
    const waited = events.untilJob(a, () => ended, { timeoutMs: 1_000 });
    ended = true;
    commit(a);
    expect(await waited).toBe(true);
  });

  test("looks again after events of its own job only, and when the job is touched", async () => {
    const { events, commit, clock } = setUp();
    let looks = 0;
    let settled = false;
    const look = () => {
      looks += 1;
      return settled;
    };
    const waited = events.untilJob(a, look, { timeoutMs: 1_000 });
    commit(b, null);
    expect(looks).toBe(1);
    commit(a);
    expect(looks).toBe(2);
    settled = true;
    events.touchJob(b);
    events.touchJob(a);
    expect(await waited).toBe(true);
    expect([looks, events.listenerCount(), clock.sleeping()]).toEqual([3, 0, 0]);
  });

  test("is false when the time is over, after a last look", async () => {
    const { events, clock } = setUp();
    let settled = false;
    const first = events.untilJob(a, () => false, { timeoutMs: 1_000 });
    const second = events.untilJob(a, () => settled, { timeoutMs: 1_000 });
    await clock.advance(999);
    settled = true;
    await clock.advance(1);
    expect(await Promise.all([first, second])).toEqual([false, true]);
    expect([events.listenerCount(), clock.sleeping()]).toEqual([0, 0]);
  });

  test("F-27 10,000 clients that leave leave no listener and no sleeper behind", async () => {
    const { events, clock } = setUp();
    const waits = Array.from({ length: 10_000 }, (_, index) => {
      const client = new AbortController();
      const jobId = `job-${index % 100}` as JobId;
      const wait = events.untilJob(jobId, () => false, { timeoutMs: 60_000, signal: client.signal });
      return { client, wait };
    });
    expect(events.listenerCount()).toBe(10_000);
    for (const { client } of waits) client.abort();
    const settled = await Promise.all(waits.map(({ wait }) => wait));
    expect(settled.some((value) => value)).toBe(false);
    expect([events.listenerCount(), clock.sleeping()]).toEqual([0, 0]);
    const gone = AbortSignal.abort();
    expect(await events.untilJob(a, () => false, { timeoutMs: 1_000, signal: gone })).toBe(false);
    expect([events.listenerCount(), clock.sleeping()]).toEqual([0, 0]);
  });
});
