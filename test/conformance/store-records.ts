import { expect } from "vitest";
import { createActivity } from "../../src/runtime/core/activity.ts";
import { createDispatch } from "../../src/runtime/core/dispatch.ts";
import type {
  Endpoint,
  EndpointId,
  Job,
  JobCounts,
  JobId,
  JobPolicy,
  JobState,
  JournalEvent,
  Key,
  KeyId,
  QueuedJob,
  Release,
  Worker,
  WorkerId,
} from "../../src/runtime/core/model.ts";
import type { Delivery, LeaseRef, Store, Submission } from "../../src/runtime/ports/store.ts";

/** Records that the suite puts into a store, and what must hold of any store whatever was done to it. */

export const T0 = 1_700_000_000_000;
export const E = "endpointaaaaaa" as EndpointId;
export const F = "endpointbbbbbb" as EndpointId;
export const W = "worker-1" as WorkerId;
export const V = "worker-2" as WorkerId;

const POLICY: JobPolicy = {
  executionTimeoutMs: 600_000,
  ttlMs: 86_400_000,
  lowPriority: false,
  handlerRetries: 0,
  retention: { completedMs: 1_800_000, failedMs: 3_600_000 },
};

export type JobOptions = {
  readonly endpointId?: EndpointId;
  readonly owner?: string;
  readonly policy?: Partial<JobPolicy>;
  readonly webhookUrl?: string;
  readonly inputJson?: string;
  readonly atMs?: number;
  readonly idempotency?: Submission["idempotency"];
  readonly maxQueued?: number;
  readonly maxOwnerQueued?: number;
};

export function idOf(name: string): JobId {
  return name as JobId;
}

/** A submission of the job named `name`. */
export function submission(name: string, options: JobOptions = {}): Submission {
  const atMs = options.atMs ?? T0;
  const policy = { ...POLICY, ...options.policy };
  const job: QueuedJob = {
    id: idOf(name),
    endpointId: options.endpointId ?? E,
    owner: options.owner ?? "ann",
    generation: 1,
    attempts: 0,
    deliveries: 0,
    policy,
    createdAtMs: atMs,
    queuedAtMs: atMs,
    expiresAtMs: atMs + policy.ttlMs,
    webhookUrl: options.webhookUrl ?? null,
    state: "IN_QUEUE",
    availableAtMs: atMs,
  };
  return {
    job,
    payload: { inputJson: options.inputJson ?? `{"name":"${name}"}`, extrasJson: "{}" },
    idempotency: options.idempotency ?? null,
    maxQueued: options.maxQueued ?? 0,
    maxOwnerQueued: options.maxOwnerQueued ?? 0,
  };
}

/** Enqueues jobs by name, in order. */
export async function enqueue(
  store: Store,
  names: readonly string[],
  options: JobOptions = {},
): Promise<void> {
  const outcomes = await Promise.all(
    names.map((name) => store.jobs.enqueue(submission(name, options), options.atMs ?? T0)),
  );
  expect(outcomes.every(({ kind }) => kind === "accepted")).toBe(true);
}

export function endpoint(id: EndpointId, fields: Partial<Endpoint> = {}): Endpoint {
  return {
    id,
    name: `name-of-${id}`,
    owner: "ann",
    settings: {
      workers: { min: 0, max: 3, idleTimeoutMs: 5_000, flashboot: true, prefetch: 1 },
      scale: { by: "queue-delay", threshold: 4, maxQueued: 0 },
      limits: { executionTimeoutMs: 600_000, ttlMs: 86_400_000, startTimeoutMs: 600_000, retries: 0 },
      retention: { asyncMs: 1_800_000, syncMs: 60_000, failedMs: 1_800_000 },
      webhookSecret: null,
    },
    liveRelease: 1,
    desired: { workers: 0, reason: "new" },
    createdAtMs: T0,
    ...fields,
  };
}

export function release(endpointId: EndpointId, version = 1): Release {
  return {
    endpointId,
    version,
    spec: {
      pool: "process",
      source: { kind: "folder", path: "/srv/hello" },
      handler: "handler.py",
      python: null,
      hardware: {},
      env: { GREETING: "hé\u2028llo" },
    },
    built: {
      file: "/usr/bin/python3",
      args: ["-u"],
      cwd: "/srv/hello",
      env: {},
      runtime: "python 3.11",
      warnings: [],
    },
    createdAtMs: T0,
  };
}

export function worker(id: WorkerId, fields: Partial<Worker> = {}): Worker {
  return {
    id,
    endpointId: E,
    release: 1,
    pool: "process",
    state: "wanted",
    reason: "wanted by the autoscaler",
    createdAtMs: T0,
    readyAtMs: null,
    endedAtMs: null,
    handle: null,
    ...fields,
  };
}

export function key(name: string, fields: Partial<Key> = {}): Key {
  return {
    id: `key-${name}` as KeyId,
    name,
    owner: "ann",
    scope: "run",
    endpointIds: [],
    prefix: "rpx_abc",
    createdAtMs: T0,
    lastUsedAtMs: null,
    revokedAtMs: null,
    ...fields,
  };
}

/** A worker that may take jobs. */
export async function addReady(store: Store, id: WorkerId, endpointId = E): Promise<void> {
  await store.fleet.addWorker(worker(id, { endpointId }), `digest-of-${id}`, T0);
  await store.fleet.moveWorker(id, { to: "starting", reason: "starts" }, T0);
  await store.fleet.moveWorker(id, { to: "ready", reason: "took its first job" }, T0);
}

export type TakeOptions = {
  readonly workerId?: WorkerId;
  readonly endpointId?: EndpointId;
  readonly max?: number;
  readonly startable?: number;
};

export function take(store: Store, options: TakeOptions = {}, nowMs = T0): Promise<readonly Delivery[]> {
  const max = options.max ?? 1;
  return store.jobs.take(
    {
      endpointId: options.endpointId ?? E,
      workerId: options.workerId ?? W,
      max,
      startable: options.startable ?? max,
    },
    nowMs,
  );
}

export function namesOf(deliveries: readonly Delivery[]): string[] {
  return deliveries.map(({ job }) => job.id);
}

/** The lease of a delivery, with its number: what a first-party worker echoes. */
export function leaseOf({ job }: Delivery): LeaseRef {
  return { jobId: job.id, workerId: job.lease.workerId, delivery: job.deliveries };
}

/** The lease as a stock worker names it. */
export function stockLease(name: string, workerId = W): LeaseRef {
  return { jobId: idOf(name), workerId, delivery: null };
}

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
  for (const endpointId of [E, F]) {
    const { inQueue } = store.jobs.counts(endpointId, null);
    expect(dispatch.unreserved(endpointId)).toBe(inQueue - store.jobs.delayed(endpointId));
  }
  for (const { id } of store.fleet.workers()) expect(activity.leases(id)).toBe(store.jobs.leases(id).length);
}
