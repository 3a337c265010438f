import type { WorkerRouteName } from "../../contract/routes.ts";
import { readObject, spliceArray } from "../../text/json-text.ts";
import type { Endpoint, EndpointId, JobId, WorkerId } from "../core/model.ts";
import type { Delivery, LeaseRef } from "../ports/store.ts";
import type { Deliveries, NextJobs } from "../service/deliveries.ts";
import type { Stops } from "../service/stops.ts";
import type { WorkerPrincipal, Workers } from "../service/workers.ts";
import { jobForWorker } from "./present.ts";
import type { Answer, Headers } from "./reply.ts";
import type { Call } from "./request.ts";
import { type Handler, WORKER_SDK_HEADER } from "./server.ts";

export type WorkerRoutesOptions = {
  readonly workers: Workers;
  readonly deliveries: Deliveries;
  readonly stops: Stops;
  readonly endpoint: (id: EndpointId) => Endpoint | null;
  /** A text of a worker without its secrets. */
  readonly redact: (workerId: WorkerId, text: string) => string;
  readonly log: { warn(fields: object, message: string): void };
};

/** Jobs that one take may ask for. */
const MAX_BATCH = 1_000;
/** Characters of a worker's own reason that are kept. */
const MAX_REASON_LENGTH = 256;
/** Headers of the fast path that first-party workers speak (docs/adr: the fast path). */
const FAST_HEADER = "X-Rpx-Fast";
const ATTEMPTS_HEADER = "X-Rpx-Attempts";
const ATTEMPT_HEADER = "x-rpx-attempt";
const TAKE_HEADER = "x-rpx-take";
const CHUNK_HEADER = "x-rpx-chunk";

export type WorkerRoutes = {
  readonly handlers: Record<WorkerRouteName, Handler<WorkerPrincipal>>;
  /** A post over the size limit, whose body was not read. */
  readonly oversize: Handler<WorkerPrincipal>;
};

/** RunPod's worker protocol. Nothing that a worker posts is refused when it can be kept. */
export function createWorkerRoutes(options: WorkerRoutesOptions): WorkerRoutes {
  const { workers, deliveries, stops, redact, log } = options;

  async function take(call: Call<WorkerPrincipal>, batch: number, asList: boolean): Promise<Answer> {
    const { workerId, endpointId } = call.principal;
    // Only a plain 0 says that the worker holds nothing.
    const busy = call.query.get("job_in_progress") !== "0";
    await workers.took(workerId);
    stops.observeTake(workerId, busy);
    const max = Math.max(batch, prefetchOf(endpointId));
    const taken = await deliveries.take({
      workerId,
      endpointId,
      max,
      startable: batch,
      busy,
      signal: call.signal,
    });
    return jobsAnswer(call, taken, asList || max > 1);
  }

  /** More jobs than asked for are handed out only where the endpoint says so. */
  function prefetchOf(endpointId: EndpointId): number {
    return options.endpoint(endpointId)?.settings.workers.prefetch ?? 1;
  }

  function jobsAnswer(call: Call<WorkerPrincipal>, taken: readonly Delivery[], asList: boolean): Answer {
    const fast = isFirstParty(call) ? { [FAST_HEADER]: "1" } : {};
    if (taken.length === 0) return { kind: "empty", status: 204, headers: fast };
    return { ...deliver(taken, asList, fast), onUnsent: () => void deliveries.giveBack(taken) };
  }

  async function done(call: Call<WorkerPrincipal>): Promise<Answer> {
    const next = wantedNext(call);
    const { applied, taken } = await deliveries.report(leaseOf(call), call.bytes.toString("utf8"), next);
    if (taken.length === 0) return json(applied ? "{}" : '{"ignored":true}');
    return {
      ...deliver(taken, true, { [FAST_HEADER]: "1" }),
      onUnsent: () => void deliveries.giveBack(taken),
    };
  }

  /** The fast path: how many jobs the worker asks for with its post; null where it gets none. */
  function wantedNext(call: Call<WorkerPrincipal>): NextJobs | null {
    const { workerId, endpointId } = call.principal;
    const wanted = Number(call.headers[TAKE_HEADER] ?? 0);
    if (!(wanted > 0) || !isFirstParty(call) || !workers.mayTake(workerId)) return null;
    const max = Math.min(Math.max(wanted, prefetchOf(endpointId)), MAX_BATCH);
    return { workerId, endpointId, max, startable: wanted };
  }

  async function chunk(call: Call<WorkerPrincipal>): Promise<Answer> {
    const { applied } = await deliveries.chunk(
      leaseOf(call),
      call.bytes.toString("utf8"),
      readPart(call.headers[CHUNK_HEADER]),
    );
    return json(applied ? "{}" : '{"ignored":true}');
  }

  async function stop(call: Call<WorkerPrincipal>): Promise<Answer> {
    const { workerId } = call.principal;
    const jobIds = await stops.poll(workerId, call.signal);
    if (jobIds.length === 0) return { kind: "empty", status: 204 };
    return {
      ...json(JSON.stringify({ jobsToStop: jobIds })),
      onUnsent: () => stops.undelivered(workerId, jobIds),
    };
  }

  /** The reply is ignored; an unhealthy ping is the worker's last word before it exits. */
  async function ping(call: Call<WorkerPrincipal>): Promise<Answer> {
    const { workerId } = call.principal;
    if (call.query.get("status") === "unhealthy") {
      const check = redact(workerId, call.query.get("check") ?? "a fitness check");
      const reason = redact(workerId, call.query.get("reason") ?? "no reason given");
      log.warn({ workerId, check }, "worker reports itself unfit");
      workers.reportUnfit(workerId, `unfit: ${check}: ${reason.slice(0, MAX_REASON_LENGTH)}`);
    }
    return json("{}");
  }

  return {
    handlers: {
      jobTake: (call) => take(call, 1, false),
      jobTakeBatch: (call) => take(call, readBatch(call.query.get("batch_size")), true),
      jobDone: done,
      jobStream: chunk,
      jobStop: stop,
      ping,
    },
    oversize: async (call) => {
      const { applied } = await deliveries.reportOversize(leaseOf(call));
      return json(applied ? "{}" : '{"ignored":true}');
    },
  };
}

/** One job as an object, several as a list: each SDK reads either where it asked for it. */
function deliver(taken: readonly Delivery[], asList: boolean, headers: Headers): Answer & { kind: "json" } {
  const texts = taken.map((delivery) => jobForWorker(delivery, extrasOf(delivery)));
  const attempts = taken.map(({ job }) => job.deliveries).join(",");
  const text = asList || texts.length > 1 ? spliceArray(texts) : (texts[0] ?? "{}");
  return { kind: "json", text, headers: { ...headers, [ATTEMPTS_HEADER]: attempts } };
}

function extrasOf({ payload }: Delivery): ReadonlyMap<string, string> {
  if (payload.extrasJson === "{}") return new Map();
  const read = readObject(payload.extrasJson, { maxDepth: Number.POSITIVE_INFINITY });
  return read.ok ? read.members : new Map();
}

/** Whose write it is: the path's ids alone; the SDK's X-Request-ID names other jobs. */
function leaseOf(call: Call<WorkerPrincipal>): LeaseRef {
  const attempt = Number(call.headers[ATTEMPT_HEADER]);
  return {
    jobId: (call.params.job ?? "") as JobId,
    workerId: call.principal.workerId,
    delivery: Number.isInteger(attempt) && attempt > 0 ? attempt : null,
  };
}

function isFirstParty(call: Call<WorkerPrincipal>): boolean {
  return call.headers[WORKER_SDK_HEADER] !== undefined;
}

/** The number of a chunk in its delivery, from 0 on; only our own SDKs give one. */
function readPart(header: string | string[] | undefined): number | null {
  const part = header === undefined ? Number.NaN : Number(header);
  return Number.isInteger(part) && part >= 0 ? part : null;
}

function readBatch(text: string | null): number {
  const size = Math.trunc(Number(text ?? 1));
  return Number.isFinite(size) ? Math.min(MAX_BATCH, Math.max(1, size)) : 1;
}

function json(text: string): Answer & { kind: "json" } {
  return { kind: "json", text };
}
