import { RpxError } from "../../contract/error.ts";
import type { JobRouteName } from "../../contract/routes.ts";
import { WAIT_RANGE_MS } from "../../contract/schemas/job.ts";
import { readObject } from "../../text/json-text.ts";
import type { Activity } from "../core/activity.ts";
import { isTerminal } from "../core/job-machine.ts";
import type { Endpoint, EndpointId, JobId, Worker } from "../core/model.ts";
import type { Guard } from "../core/url-guard.ts";
import { shownState } from "../core/worker-view.ts";
import type { Store } from "../ports/store.ts";
import type { Endpoints } from "../service/endpoints.ts";
import type { Jobs, Visible } from "../service/jobs.ts";
import type { Keys, Principal } from "../service/keys.ts";
import { readRunRequest, readWaitMs } from "./job-request.ts";
import { healthBody, jobBody, jobTicket, streamBody } from "./present.ts";
import type { Answer, Sink } from "./reply.ts";
import type { Call } from "./request.ts";
import type { Handler } from "./server.ts";

export type JobRoutesOptions = {
  readonly endpoints: Endpoints;
  readonly jobs: Jobs;
  readonly fleet: Pick<Store["fleet"], "workers">;
  readonly activity: Activity;
  readonly keys: Pick<Keys, "onRevoke">;
  readonly webhookGuard: () => Guard;
  /** Aborts when the daemon hands over or stops: held replies are answered then. */
  readonly closing: AbortSignal;
};

/** How long a /stream without `wait` is held: below the 10 s of the clients that give up first. */
const STREAM_HOLD_MS = 5_000;
/** Jobs in one answer of /requests. */
const MAX_REQUESTS = 100;
/** Comment lines that keep an idle event stream open. */
const KEEP_ALIVE_MS = 5_000;

/** RunPod's job operations: /v2/{endpoint}/... */
export function createJobRoutes(options: JobRoutesOptions): Record<JobRouteName, Handler<Principal>> {
  const { endpoints, jobs, fleet, activity, keys } = options;

  const visible = (call: Call<Principal>): Visible => {
    const found = endpoints.find(call.principal, call.params.endpoint ?? "");
    return { endpoint: found.endpoint, owner: found.owner };
  };
  const waiting = <T>(call: Call<Principal>, work: (signal: AbortSignal) => Promise<T>) =>
    whileValid(call.principal, (revoked) => work(AbortSignal.any([call.signal, options.closing, revoked])));
  const jobIdOf = (call: Call<Principal>) => (call.params.job ?? "") as JobId;

  /** What is held for a caller ends with its key (F-47). */
  async function whileValid<T>({ keyId }: Principal, work: (revoked: AbortSignal) => Promise<T>): Promise<T> {
    const revoked = new AbortController();
    const unsubscribe = keys.onRevoke((id) => {
      if (id === keyId) revoked.abort();
    });
    try {
      return await work(revoked.signal);
    } finally {
      unsubscribe();
    }
  }

  async function run(call: Call<Principal>): Promise<Answer> {
    const view = visible(call);
    const request = readRunRequest(call, "run", options.webhookGuard());
    // A repeat of an idempotency key answers with the state that its job is in.
    const { jobId, state } = await jobs.submit(view, call.principal.owner, request);
    return json(jobTicket(jobId, state));
  }

  async function runSync(call: Call<Principal>): Promise<Answer> {
    const view = visible(call);
    const waitMs = readWaitMs(call.query, WAIT_RANGE_MS.default);
    const request = readRunRequest(call, "runsync", options.webhookGuard());
    const { jobId, state, isReadable } = await jobs.submit(view, call.principal.owner, request);
    if (!isReadable) return json(jobTicket(jobId, state));
    return json(jobBody(await waiting(call, (signal) => jobs.waitForEnd(view, jobId, waitMs, signal))));
  }

  async function status(call: Call<Principal>): Promise<Answer> {
    const view = visible(call);
    const ttl = call.query.get("ttl");
    const retainMs = ttl === null ? null : readTtlMs(ttl);
    // Read first: kept for no time at all, the job is shown this once.
    const body = jobBody(jobs.view(view, jobIdOf(call)));
    if (retainMs !== null) await jobs.setRetention(view, jobIdOf(call), retainMs);
    return json(body);
  }

  async function statusSync(call: Call<Principal>): Promise<Answer> {
    const waitMs = readWaitMs(call.query, WAIT_RANGE_MS.default);
    const view = visible(call);
    return json(
      jobBody(await waiting(call, (signal) => jobs.waitForEnd(view, jobIdOf(call), waitMs, signal))),
    );
  }

  async function stream(call: Call<Principal>): Promise<Answer> {
    const view = visible(call);
    const jobId = jobIdOf(call);
    if (call.headers.accept?.includes("text/event-stream")) return streamEvents(call, view, jobId);
    const waitMs = readWaitMs(call.query, STREAM_HOLD_MS);
    const page = await waiting(call, (signal) => jobs.readStream(view, jobId, waitMs, signal));
    return {
      ...json(streamBody(page)),
      onUnsent: () => {
        if (page.chunksJson.length > 0) void jobs.rewindStream(jobId, page.cursor);
      },
    };
  }

  /** The same chunks as server-sent events, to the end of the job or of the caller's key. */
  function streamEvents({ principal }: Call<Principal>, view: Visible, jobId: JobId): Answer {
    jobs.view(view, jobId);
    return {
      kind: "stream",
      contentType: "text/event-stream",
      write: (sink) =>
        whileValid(principal, (revoked) =>
          writeEvents(sink, view, jobId, AbortSignal.any([sink.closed, options.closing, revoked])),
        ),
    };
  }

  async function writeEvents(sink: Sink, view: Visible, jobId: JobId, ended: AbortSignal): Promise<void> {
    while (!ended.aborted) {
      const page = await jobs.readStream(view, jobId, KEEP_ALIVE_MS, ended);
      if (ended.aborted || !(await writeChunks(sink, page.chunksJson)))
        return jobs.rewindStream(jobId, page.cursor);
      if (page.chunksJson.length === 0 && isTerminal(page.state)) {
        await sink.write(`event: end\ndata: ${jobBody(jobs.view(view, jobId))}\n\n`);
        return;
      }
      if (page.chunksJson.length === 0 && !(await sink.write(": waiting\n\n"))) return;
    }
  }

  async function cancel(call: Call<Principal>): Promise<Answer> {
    const job = await jobs.cancel(visible(call), jobIdOf(call));
    return json(jobTicket(job.id, job.state));
  }

  async function retry(call: Call<Principal>): Promise<Answer> {
    const job = await jobs.retry(visible(call), jobIdOf(call));
    return json(jobTicket(job.id, job.state));
  }

  async function health(call: Call<Principal>): Promise<Answer> {
    const view = visible(call);
    return json(JSON.stringify(healthBody(jobs.counts(view), workersOf(view.endpoint))));
  }

  async function requests(call: Call<Principal>): Promise<Answer> {
    const view = visible(call);
    const newest = jobs.newest(view, MAX_REQUESTS).filter(({ id }) => isReadable(view, id));
    const bodies = newest.map(({ id }) => withoutPayload(jobBody(jobs.view(view, id))));
    return json(`{"requests":[${bodies.join(",")}]}`);
  }

  function isReadable(view: Visible, jobId: JobId): boolean {
    try {
      return jobs.view(view, jobId) !== null;
    } catch (error) {
      if (error instanceof RpxError && error.code === "not_found") return false;
      throw error;
    }
  }

  async function endpointMetrics(call: Call<Principal>): Promise<Answer> {
    const { endpoint } = visible(call);
    const workers = workersOf(endpoint);
    const { workers: counts } = healthBody(NO_COUNTS, workers);
    const readyWorkers = workers.flatMap(({ worker, leases }) =>
      shownState(worker, leases, endpoint.liveRelease) === "idle" ? [worker.id] : [],
    );
    return json(JSON.stringify({ readyWorkers, workers: counts }));
  }

  function workersOf(endpoint: Endpoint): { worker: Worker; leases: number }[] {
    return present(endpoint.id).map((worker) => ({ worker, leases: activity.leases(worker.id) }));
  }

  const present = (endpointId: EndpointId) =>
    fleet.workers().filter((worker) => worker.endpointId === endpointId);

  return {
    run,
    runSync,
    jobStatus: status,
    jobStatusSync: statusSync,
    jobStreamRead: stream,
    jobCancel: cancel,
    jobRetry: retry,
    purgeQueue: async (call) => json(`{"removed":${await jobs.purge(visible(call))},"status":"completed"}`),
    health,
    requests,
    endpointMetrics,
  };
}

const NO_COUNTS = {
  inQueue: 0,
  inProgress: 0,
  completed: 0,
  failed: 0,
  cancelled: 0,
  timedOut: 0,
  retried: 0,
  accepted: 0,
};

function json(text: string): Answer {
  return { kind: "json", text };
}

async function writeChunks(sink: Sink, chunksJson: readonly string[]): Promise<boolean> {
  for (const chunk of chunksJson) {
    // JSON text holds no raw newline inside strings; one between tokens would end the event's line.
    if (!(await sink.write(`data: {"output":${chunk.replace(/[\r\n]+/g, " ")}}\n\n`))) return false;
  }
  return !sink.closed.aborted;
}

/** Lists show the state of a job, not what went in and came out. */
function withoutPayload(body: string): string {
  const read = readObject(body, { maxDepth: Number.POSITIVE_INFINITY });
  if (!read.ok) return body;
  const kept = [...read.members].filter(([name]) => name !== "input" && name !== "output");
  return `{${kept.map(([name, value]) => `${JSON.stringify(name)}:${value}`).join(",")}}`;
}

const MAX_TTL_MS = 7 * 24 * 3_600_000;

function readTtlMs(text: string): number {
  const ttlMs = Number(text);
  if (text.trim() === "" || !Number.isFinite(ttlMs) || ttlMs < 0) {
    throw new RpxError("bad_request", `ttl must be a number of milliseconds, not "${text}"`);
  }
  return Math.min(Math.trunc(ttlMs), MAX_TTL_MS);
}
