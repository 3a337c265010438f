import type {
  Endpoint,
  EndpointId,
  FailureKind,
  Job,
  JobId,
  JobPolicy,
  JobState,
  JournalEvent,
  Key,
  Release,
  ReleaseFailure,
  Secret,
  TerminalState,
  Worker,
  WorkerId,
} from "../../core/model.ts";
import type { Registry } from "../../ports/registry-store.ts";

/** A row as node:sqlite returns it. */
export type Row = Record<string, unknown>;

/**
 * The columns of `jobs` that make a record, and no more: a row of all 30 becomes a slow object of V8's and takes 15 µs to read,
 * one of these 22 takes 4 (measured).
 */
export const JOB_ROW = `seq, id, endpoint_id, owner, state, generation, attempts, deliveries, policy, created_at_ms, queued_at_ms,
  expires_at_ms, webhook_url, available_at_ms, worker_id, taken_at_ms, started_at_ms, ended_at_ms, delay_ms, execution_ms,
  failure, retain_until_ms`;

/** The job of a row of {@link JOB_ROW}. The columns of other states are null and stay out of the record. */
export function jobOf(row: Row): Job {
  const base = {
    id: row.id as JobId,
    endpointId: row.endpoint_id as EndpointId,
    owner: row.owner as string,
    generation: row.generation as number,
    attempts: row.attempts as number,
    deliveries: row.deliveries as number,
    policy: JSON.parse(row.policy as string) as JobPolicy,
    createdAtMs: row.created_at_ms as number,
    queuedAtMs: row.queued_at_ms as number,
    expiresAtMs: row.expires_at_ms as number,
    webhookUrl: row.webhook_url as string | null,
  };
  const state = row.state as JobState;
  if (state === "IN_QUEUE") return { ...base, state, availableAtMs: row.available_at_ms as number };
  if (state === "IN_PROGRESS") {
    const lease = {
      workerId: row.worker_id as WorkerId,
      takenAtMs: row.taken_at_ms as number,
      startedAtMs: row.started_at_ms as number | null,
    };
    return { ...base, state, lease };
  }
  const end = {
    atMs: row.ended_at_ms as number,
    workerId: row.worker_id as WorkerId | null,
    delayMs: row.delay_ms as number,
    executionMs: row.execution_ms as number,
    failure: row.failure as FailureKind | null,
    retainUntilMs: row.retain_until_ms as number,
  };
  return { ...base, state: state as TerminalState, end };
}

/** The columns of `jobs` that a transition can change, by name. */
export function jobColumns(job: Job): Record<string, string | number | null> {
  const lease = job.state === "IN_PROGRESS" ? job.lease : null;
  const end = "end" in job ? job.end : null;
  const startedAtMs = lease?.startedAtMs ?? null;
  return {
    state: job.state,
    generation: job.generation,
    attempts: job.attempts,
    deliveries: job.deliveries,
    queued_at_ms: job.queuedAtMs,
    expires_at_ms: job.expiresAtMs,
    delayed: job.state === "IN_QUEUE" && job.availableAtMs > job.queuedAtMs ? 1 : 0,
    available_at_ms: job.state === "IN_QUEUE" ? job.availableAtMs : null,
    worker_id: lease?.workerId ?? end?.workerId ?? null,
    taken_at_ms: lease?.takenAtMs ?? null,
    started_at_ms: startedAtMs,
    deadline_ms: startedAtMs === null ? null : startedAtMs + job.policy.executionTimeoutMs,
    ended_at_ms: end?.atMs ?? null,
    delay_ms: end?.delayMs ?? null,
    execution_ms: end?.executionMs ?? null,
    failure: end?.failure ?? null,
    retain_until_ms: end?.retainUntilMs ?? null,
  };
}

export function eventOf(row: Row): JournalEvent {
  return {
    seq: row.seq as number,
    atMs: row.at_ms as number,
    kind: row.kind as string,
    endpointId: row.endpoint_id as EndpointId | null,
    owner: row.owner as string | null,
    jobId: row.job_id as JobId | null,
    workerId: row.worker_id as WorkerId | null,
    data: JSON.parse(row.data as string) as JournalEvent["data"],
  };
}

export function endpointOf(row: Row): Endpoint {
  return {
    id: row.id as EndpointId,
    name: row.name as string,
    owner: row.owner as string,
    settings: settingsOf(row.settings as string),
    liveRelease: row.live_release as number,
    candidateRelease: row.candidate_release as number | null,
    paused: row.paused === 1,
    desired: { workers: row.desired_workers as number, reason: row.desired_reason as string },
    createdAtMs: row.created_at_ms as number,
  };
}

export function releaseOf(row: Row): Release {
  return {
    endpointId: row.endpoint_id as EndpointId,
    version: row.version as number,
    state: row.state as Release["state"],
    reason: row.reason as string,
    ...(row.failure !== null && { failure: row.failure as ReleaseFailure }),
    spec: specOf(row.spec as string),
    built: builtOf(row.built as string),
    diff: JSON.parse(row.diff as string) as Release["diff"],
    origin: row.origin as string,
    tests: JSON.parse(row.tests as string) as Release["tests"],
    createdAtMs: row.created_at_ms as number,
    liveAtMs: row.live_at_ms as number | null,
  };
}

/** Settings from before extra workers and prewarming say nothing of them. */
function settingsOf(text: string): Endpoint["settings"] {
  const settings = JSON.parse(text) as Endpoint["settings"];
  return { ...settings, workers: { ...SETTINGS_BEFORE, ...settings.workers } };
}

const SETTINGS_BEFORE = { extra: 0, prewarm: false };

/** What stands for `built` while a release is being built. */
export const NOT_BUILT = "null";

/** Releases from before containers say nothing of images. */
function specOf(text: string): Release["spec"] {
  return { dockerfile: null, image: {}, ...JSON.parse(text) };
}

function builtOf(text: string): Release["built"] {
  return text === NOT_BUILT ? null : { kind: "process", ...JSON.parse(text) };
}

export function workerOf(row: Row): Worker {
  return {
    id: row.id as WorkerId,
    endpointId: row.endpoint_id as EndpointId,
    release: row.release as number,
    pool: row.pool as Worker["pool"],
    state: row.state as Worker["state"],
    reason: row.reason as string,
    createdAtMs: row.created_at_ms as number,
    readyAtMs: row.ready_at_ms as number | null,
    endedAtMs: row.ended_at_ms as number | null,
    handle: row.handle as string | null,
    phase: row.phase as Worker["phase"],
    bootedAtMs: row.booted_at_ms as number | null,
    asleep: row.asleep as Worker["asleep"],
    parkedAtMs: row.parked_at_ms as number | null,
    exit: row.exit === null ? null : (JSON.parse(row.exit as string) as Worker["exit"]),
  };
}

export function keyOf(row: Row): Key & { digest: string } {
  return {
    id: row.id as Key["id"],
    name: row.name as string,
    owner: row.owner as string,
    scope: row.scope as Key["scope"],
    endpointIds: JSON.parse(row.endpoint_ids as string) as Key["endpointIds"],
    prefix: row.prefix as string,
    createdAtMs: row.created_at_ms as number,
    lastUsedAtMs: row.last_used_at_ms as number | null,
    revokedAtMs: row.revoked_at_ms as number | null,
    digest: row.digest as string,
  };
}

/** A secret's row without its value. */
export function secretOf(row: Row): Secret {
  return {
    owner: row.owner as string,
    name: row.name as string,
    createdAtMs: row.created_at_ms as number,
    updatedAtMs: row.updated_at_ms as number,
  };
}

/** A registry's login without its password. */
export function registryOf(row: Row): Registry {
  return {
    name: row.name as string,
    server: row.server as string,
    username: row.username as string,
    createdAtMs: row.created_at_ms as number,
    updatedAtMs: row.updated_at_ms as number,
  };
}
