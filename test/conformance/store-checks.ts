import { expect } from "vitest";
import { createActivity } from "../../src/runtime/core/activity.ts";
import { createDispatch, queueKey } from "../../src/runtime/core/dispatch.ts";
import type { EndpointId, Job, JobCounts, JobState, JournalEvent } from "../../src/runtime/core/model.ts";
import type { Store } from "../../src/runtime/ports/store.ts";
import { E, F } from "./store-records.ts";

/** All that can be read of a store's jobs, as text: equal texts mean that nothing was changed. */
export function everything(store: Store): string {
  const jobs = store.jobs.list({ limit: 1_000_000 });
  return JSON.stringify({
    jobs: jobs.map(({ id, seq }) => ({ seq, ...store.jobs.view(id), unread: store.jobs.hasChunks(id) })),
    counts: [E, F].map((id) => store.jobs.counts(id, null)),
    samples: [E, F].map((id) => [store.jobs.sample(id), store.jobs.delayed(id)]),
    journal: store.journal.read({ limit: 1_000_000 }),
    outbox: store.outbox.due(Number.MAX_SAFE_INTEGER, 1_000_000),
    due: store.jobs.nextDueMs(),
  });
}

const NAME_OF_STATE = {
  IN_QUEUE: "inQueue",
  IN_PROGRESS: "inProgress",
  COMPLETED: "completed",
  FAILED: "failed",
  CANCELLED: "cancelled",
  TIMED_OUT: "timedOut",
} as const satisfies Record<JobState, keyof JobCounts>;

/** INV-7: the counts say what a scan of the jobs says. */
export function checkCounts(store: Store): void {
  const jobs = store.jobs.list({ limit: 1_000_000 });
  const events = store.journal.read({ limit: 1_000_000 });
  for (const endpointId of [E, F]) {
    for (const owner of [null, "ann", "bob"]) {
      const mine = (row: { endpointId: EndpointId | null; owner: string | null }) =>
        row.endpointId === endpointId && (owner === null || row.owner === owner);
      const expected = { inQueue: 0, inProgress: 0, completed: 0, failed: 0, cancelled: 0, timedOut: 0 };
      for (const job of jobs.filter(mine)) expected[NAME_OF_STATE[job.state]] += 1;
      const rows = events.filter(mine);
      const accepted = rows.filter(({ kind }) => kind === "job.submit").length;
      const retried = rows.filter(
        ({ kind, data }) =>
          kind === "job.retry" || ((kind === "job.lose" || kind === "job.fail") && data.to === "IN_QUEUE"),
      ).length;
      expect(store.jobs.counts(endpointId, owner)).toEqual({ ...expected, accepted, retried });
    }
  }
}

/** The journal tells each job's whole story, in order, with one end a generation (INV-2). */
export function checkJournal(store: Store): void {
  const events = store.journal.read({ limit: 1_000_000 });
  for (const [index, { seq }] of events.entries()) {
    const before = events[index - 1];
    if (before) expect(seq).toBeGreaterThan(before.seq);
  }
  // A try of a webhook is about a job, but changes nothing of it.
  const stories = Map.groupBy(
    events.filter(({ kind }) => kind.startsWith("job.")),
    ({ jobId }) => jobId,
  );
  for (const job of store.jobs.list({ limit: 1_000_000 })) {
    checkStory(job, stories.get(job.id) ?? []);
  }
  checkFollowers(store, events);
}

function checkStory(job: Job, story: readonly JournalEvent[]): void {
  expect(story[0]).toMatchObject({ kind: "job.submit", data: { from: null, to: "IN_QUEUE" } });
  const broken: unknown[] = [];
  const ended = new Set<unknown>();
  for (const [index, event] of story.entries()) {
    const { kind, data, owner, endpointId } = event;
    const before = story[index - 1]?.data;
    const follows =
      kind === "job.available"
        ? before?.to === "IN_QUEUE" && before.delayed
        : data.from === (before?.to ?? null);
    const isEnd = data.to !== "IN_QUEUE" && data.to !== "IN_PROGRESS";
    if (!follows || owner !== job.owner || endpointId !== job.endpointId) broken.push(event);
    if (isEnd && ended.has(data.generation)) broken.push(event);
    if (isEnd) ended.add(data.generation);
  }
  expect(broken).toEqual([]);
  const { to, generation, attempts } = story.at(-1)?.data ?? {};
  expect([to, generation, attempts]).toEqual([job.state, job.generation, job.attempts]);
}

/** Those who follow the journal alone know what the store knows: ready jobs (dispatch) and leases (activity). */
function checkFollowers(store: Store, events: readonly JournalEvent[]): void {
  const dispatch = createDispatch();
  const activity = createActivity();
  for (const event of events) {
    dispatch.observe(event);
    activity.observe(event);
  }
  const pins = events.map(({ data }) => Number(data.pinned ?? 0));
  for (const endpointId of [E, F]) {
    const { inQueue } = store.jobs.counts(endpointId, null);
    const ready = store.jobs.ready(endpointId);
    // Those pinned to a release wait in lines of their own.
    const lines = new Set([0, ...ready.keys(), ...pins]);
    const followed = [...lines].map((pinned) => [pinned, dispatch.unreserved(queueKey(endpointId, pinned))]);
    expect(followed).toEqual([...lines].map((pinned) => [pinned, ready.get(pinned) ?? 0]));
    const all = [...ready.values()].reduce((sum, count) => sum + count, 0);
    expect(all).toBe(inQueue - store.jobs.delayed(endpointId));
  }
  for (const { id } of store.fleet.workers()) expect(activity.leases(id)).toBe(store.jobs.leases(id).length);
}
