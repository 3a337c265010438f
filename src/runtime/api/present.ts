import type { EndpointBody } from "../../contract/schemas/endpoint.ts";
import type { EventBody, HealthBody, JobRecord } from "../../contract/schemas/job.ts";
import type { ReleaseBody } from "../../contract/schemas/release.ts";
import type { LogLineBody, WorkerBody } from "../../contract/schemas/worker.ts";
import { jsonString, spliceArray, spliceObject } from "../../text/json-text.ts";
import type { Endpoint, Job, JobCounts, JournalEvent, Release, Worker } from "../core/model.ts";
import { presentConfig } from "../core/settings.ts";
import { countWorkers, shownState, type WorkerCounts } from "../core/worker-view.ts";
import type { ChunkPage, Delivery, JobView } from "../ports/store.ts";
import type { Isolation } from "../ports/worker-pool.ts";
import type { TaggedLine } from "../service/logs.ts";

/** Records to wire shapes. Job payloads are spliced in as raw JSON text, never parsed. */

type Member = readonly [string, string];

/** A job as RunPod's clients read it. */
export function jobBody(
  view: JobView,
  options: { readonly withInput: boolean } = { withInput: false },
): string {
  return spliceObject(jobMembers(view, options.withInput || view.job.state === "IN_PROGRESS"));
}

/** The body of a webhook: the job's, always with its input, and the address it goes to. */
export function webhookBody(view: JobView): string {
  return spliceObject([...jobMembers(view, true), ["webhook", jsonString(view.job.webhookUrl ?? "")]]);
}

function jobMembers({ job, payload }: JobView, withInput: boolean): Member[] {
  const members: Member[] = [...timeMembers(job), ["id", jsonString(job.id)]];
  if (withInput) members.push(["input", payload.inputJson]);
  if (payload.outputJson !== null && job.state !== "IN_QUEUE") members.push(["output", payload.outputJson]);
  if (payload.error !== null && job.state !== "IN_QUEUE") members.push(["error", jsonString(payload.error)]);
  if (job.attempts > 1) members.push(["retries", String(job.attempts - 1)]);
  members.push(["status", jsonString(job.state)]);
  const workerId = workerOf(job);
  if (workerId !== null) members.push(["workerId", jsonString(workerId)]);
  return members;
}

function timeMembers(job: Job): Member[] {
  if (job.state === "IN_QUEUE") return [];
  if (job.state === "IN_PROGRESS") {
    return [["delayTime", String((job.lease.startedAtMs ?? job.lease.takenAtMs) - job.queuedAtMs)]];
  }
  return [
    ["delayTime", String(job.end.delayMs)],
    ["executionTime", String(job.end.executionMs)],
  ];
}

function workerOf(job: Job): string | null {
  if (job.state === "IN_PROGRESS") return job.lease.workerId;
  return "end" in job ? job.end.workerId : null;
}

/** `{id, status}`: the answer of run, cancel and retry. */
export function jobTicket(id: string, status: string): string {
  return `{"id":${jsonString(id)},"status":${jsonString(status)}}`;
}

/** /stream: a final state only in the reply that carries the last chunks. */
export function streamBody(page: ChunkPage): string {
  const chunks = page.chunksJson.map((chunk) => `{"output":${chunk}}`);
  const status = page.more ? "IN_PROGRESS" : page.state;
  return spliceObject([
    ["status", jsonString(status)],
    ["stream", spliceArray(chunks)],
  ]);
}

/** A delivery as the handler gets it: id and input, and what else the client sent. */
export function jobForWorker({ job, payload }: Delivery, extras: ReadonlyMap<string, string>): string {
  return spliceObject([["id", jsonString(job.id)], ["input", payload.inputJson], ...extras]);
}

export function healthBody(counts: JobCounts, workers: Parameters<typeof countWorkers>[0]): HealthBody {
  return {
    jobs: {
      completed: counts.completed,
      failed: counts.failed + counts.timedOut,
      inProgress: counts.inProgress,
      inQueue: counts.inQueue,
      retried: counts.retried,
    },
    workers: countWorkers(workers),
  };
}

const iso = (ms: number) => new Date(ms).toISOString();
const isoOrNull = (ms: number | null) => (ms === null ? null : iso(ms));

/** A job for operators: RunPod's members, then ours. `withPayload` adds input and output as raw text. */
export function jobRecord(
  view: JobView,
  facts: { readonly endpointName: string; readonly reason: string; readonly seq?: number },
  withPayload: boolean,
): string {
  const { job, payload } = view;
  const shown: JobView = withPayload ? view : { job, payload: { ...payload, outputJson: null } };
  return spliceObject([
    ...jobMembers(shown, withPayload),
    ...Object.entries(recordOf(job, facts)).map(toMember),
  ]);
}

function recordOf(
  job: Job,
  facts: { readonly endpointName: string; readonly reason: string; readonly seq?: number },
) {
  return {
    endpoint: facts.endpointName,
    endpointId: job.endpointId,
    owner: job.owner,
    createdAt: iso(job.createdAtMs),
    ...("end" in job && {
      finishedAt: iso(job.end.atMs),
      ...(job.end.failure && { failure: job.end.failure }),
    }),
    attempts: job.attempts,
    reason: facts.reason,
    ...(facts.seq !== undefined && { seq: facts.seq }),
  } satisfies Partial<JobRecord>;
}

function toMember([name, value]: [string, unknown]): Member {
  return [name, JSON.stringify(value)];
}

export function eventBody(event: JournalEvent): EventBody {
  const { seq, atMs, kind, endpointId, jobId, workerId, data } = event;
  return { seq, ts: iso(atMs), kind, endpointId, jobId, workerId, data };
}

export function workerBody(
  worker: Worker,
  facts: {
    readonly endpoint: Endpoint | null;
    readonly jobIds: readonly string[];
    readonly isolation: Isolation;
    readonly retryAtMs: number | null;
    readonly lastLines?: readonly string[];
  },
): WorkerBody {
  return {
    id: worker.id,
    endpoint: facts.endpoint?.name ?? worker.endpointId,
    endpointId: worker.endpointId,
    state: shownState(worker, facts.jobIds.length, facts.endpoint?.liveRelease ?? null),
    reason: worker.reason,
    release: worker.release,
    pool: worker.pool,
    isolation: facts.isolation.level,
    isolationReason: facts.isolation.reason,
    gpus: [],
    container: worker.handle,
    jobIds: [...facts.jobIds],
    startedAt: iso(worker.createdAtMs),
    endedAt: isoOrNull(worker.endedAtMs),
    phase: worker.phase,
    asleep: worker.asleep,
    exit: worker.exit,
    retryAt: isoOrNull(facts.retryAtMs),
    ...(facts.lastLines && { lastLines: [...facts.lastLines] }),
  };
}

export function releaseBody(release: Release): ReleaseBody {
  const { version, state, reason, spec, built, origin, diff, tests, createdAtMs, liveAtMs } = release;
  return {
    version,
    state,
    reason,
    failure: release.failure ?? null,
    pool: spec.pool,
    image: built === null ? "" : built.kind === "image" ? built.reference : built.runtime,
    source: origin,
    diff: diff.map((change) => ({ ...change })),
    tests: tests.map(({ name }) => name),
    warnings: [...(built?.warnings ?? [])],
    createdAt: iso(createdAtMs),
    liveAt: isoOrNull(liveAtMs),
  };
}

export function logLineBody(line: TaggedLine): LogLineBody {
  const { tsMs, source, level, workerId, jobId, line: text } = line;
  return { ts: iso(tsMs), source, level, workerId, jobId, line: text };
}

export type EndpointFacts = {
  readonly url: string;
  readonly release: Release;
  readonly counts: JobCounts;
  readonly workers: WorkerCounts;
  readonly isolation: Isolation;
  /** The last failure while workers fail in a row; `degraded` from a number of them on (F-13). */
  /** What the first of the waiting workers waits for; null: none waits. */
  readonly throttled: string | null;
  readonly failing: { readonly degraded: boolean; readonly reason: string } | null;
};

export function endpointBody(endpoint: Endpoint, facts: EndpointFacts): EndpointBody {
  const { release, counts, workers } = facts;
  const { ready: _, ...workerCounts } = workers;
  return {
    id: endpoint.id,
    name: endpoint.name,
    url: facts.url,
    owner: endpoint.owner,
    ...endpointState(endpoint, facts),
    release: endpoint.liveRelease,
    candidateRelease: endpoint.candidateRelease,
    paused: endpoint.paused,
    pool: release.spec.pool,
    isolation: facts.isolation.level,
    isolationReason: facts.isolation.reason,
    handler: release.spec.handler,
    runtime: release.built?.runtime ?? "",
    warnings: [...(release.built?.warnings ?? [])],
    desiredWorkers: endpoint.desired.workers,
    jobs: {
      inQueue: counts.inQueue,
      inProgress: counts.inProgress,
      completed: counts.completed,
      failed: counts.failed + counts.timedOut,
    },
    workerCounts,
    createdAt: iso(endpoint.createdAtMs),
    config: withHardware(presentConfig(endpoint.settings, release.spec.env), release),
  };
}

function withHardware(
  config: EndpointBody["config"],
  { spec: { hardware } }: Release,
): EndpointBody["config"] {
  const { gpu, volumes, limits } = hardware;
  return {
    ...config,
    ...(gpu && { gpu }),
    ...(volumes && { volumes }),
    ...(limits && { limits: { ...config.limits, ...limits } }),
  };
}

/** Endpoint states are derived, each with a reason. */
function endpointState(endpoint: Endpoint, facts: EndpointFacts): Pick<EndpointBody, "state" | "reason"> {
  const { workers, counts } = facts;
  const up = workers.idle + workers.running + workers.initializing;
  const { desired } = endpoint;
  if (endpoint.paused) return { state: "paused", reason: "paused: jobs are accepted and wait" };
  if (endpoint.settings.workers.max === 0) return { state: "paused", reason: "workers.max is 0: jobs wait" };
  const { failing } = facts;
  if (failing && (failing.degraded || up === 0))
    return { state: failing.degraded ? "degraded" : "scaling", reason: failing.reason };
  if (workers.throttled > 0)
    return { state: "throttled", reason: facts.throttled ?? "workers wait for resources" };
  if (workers.initializing > 0 || desired.workers > up) return { state: "scaling", reason: desired.reason };
  if (counts.inQueue + counts.inProgress === 0) return { state: "idle", reason: "no jobs" };
  return { state: "ok", reason: `${counts.inProgress} running, ${counts.inQueue} waiting` };
}
