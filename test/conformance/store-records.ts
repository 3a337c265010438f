import type {
  BuiltRelease,
  Endpoint,
  EndpointId,
  JobId,
  JobPolicy,
  Key,
  KeyId,
  QueuedJob,
  Release,
  Worker,
  WorkerId,
} from "../../src/runtime/core/model.ts";
import type { Delivery, LeaseRef, ReleaseDraft, Store, Submission } from "../../src/runtime/ports/store.ts";

/** Records that the store tests put into a store. Nothing here needs a test runner: load.ts uses them in a process of its own. */

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
  if (outcomes.some(({ kind }) => kind !== "accepted")) throw new Error("a job was not accepted");
}

export function endpoint(id: EndpointId, fields: Partial<Endpoint> = {}): Endpoint {
  return {
    id,
    name: `name-of-${id}`,
    owner: "ann",
    settings: {
      workers: {
        min: 0,
        max: 3,
        idleTimeoutMs: 5_000,
        flashboot: true,
        prefetch: 1,
        extra: 0,
        prewarm: false,
      },
      scale: { by: "queue-delay", threshold: 4, maxQueued: 0 },
      limits: { executionTimeoutMs: 600_000, ttlMs: 86_400_000, startTimeoutMs: 600_000, retries: 0 },
      retention: { asyncMs: 1_800_000, syncMs: 60_000, failedMs: 1_800_000 },
      webhookSecret: null,
    },
    liveRelease: 1,
    candidateRelease: null,
    paused: false,
    desired: { workers: 0, reason: "new" },
    createdAtMs: T0,
    ...fields,
  };
}

export const BUILT: BuiltRelease = {
  kind: "process",
  file: "/usr/bin/python3",
  args: ["-u"],
  cwd: "/srv/hello",
  env: {},
  runtime: "python 3.11",
  warnings: [],
};

/** A release that serves, as an endpoint is made with it. */
export function release(endpointId: EndpointId, fields: Partial<Release> = {}): Release {
  return {
    endpointId,
    version: 1,
    state: "live",
    reason: "serves",
    spec: {
      pool: "process",
      source: { kind: "folder", path: "/srv/hello" },
      handler: "handler.py",
      python: null,
      dockerfile: null,
      image: {},
      hardware: {},
      env: { GREETING: "hé\u2028llo" },
    },
    built: BUILT,
    diff: [],
    origin: "create",
    tests: [],
    createdAtMs: T0,
    liveAtMs: T0,
    ...fields,
  };
}

/** What a new release is to be, when nothing but its message matters. */
export function draft(fields: Partial<ReleaseDraft> = {}): ReleaseDraft {
  const { spec } = release(E);
  return { spec, diff: [], origin: "update", tests: [], reason: "being built", ...fields };
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
    phase: null,
    bootedAtMs: null,
    asleep: null,
    parkedAtMs: null,
    exit: null,
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

/** A worker that may take jobs: of the live release of its endpoint, which is made where it is not there, unless `version` says another. */
export async function addReady(store: Store, id: WorkerId, endpointId = E, version = 1): Promise<void> {
  if (!store.fleet.endpoints().some((each) => each.id === endpointId))
    await store.fleet.createEndpoint(endpoint(endpointId), release(endpointId), T0);
  await store.fleet.addWorker(worker(id, { endpointId, release: version }), `digest-of-${id}`, T0);
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
