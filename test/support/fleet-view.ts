import { z } from "zod";
import {
  type EndpointBody,
  type EndpointConfig,
  endpointSchema,
} from "../../src/contract/schemas/endpoint.ts";
import { jobBodySchema, jobDetailSchema } from "../../src/contract/schemas/job.ts";
import { type ReleaseBody, releaseSchema } from "../../src/contract/schemas/release.ts";
import { type WorkerBody, workerSchema } from "../../src/contract/schemas/worker.ts";
import type { Worker } from "../../src/runtime/core/model.ts";
import { TAKE_HOLD_MS } from "../../src/runtime/service/deliveries.ts";
import { parsed, type TestDaemon } from "./test-daemon.ts";
import type { Reply, TestWorker } from "./test-worker.ts";

/** What a change of an endpoint may say. */
export type Change = {
  readonly config?: EndpointConfig;
  readonly rollout?: "prove" | "at_once";
  readonly tests?: readonly { name: string; input: unknown; expected?: unknown; timeoutMs?: number }[];
};

/** Releases and workers of a daemon under test as its API shows them, and the few calls that change them. */
export type FleetView = {
  endpoint(id: string): Promise<EndpointBody>;
  /** Newest first. */
  releases(id: string): Promise<ReleaseBody[]>;
  release(id: string, version: number): Promise<ReleaseBody>;
  /** Those that are not gone, newest first. */
  workers(id: string): Promise<WorkerBody[]>;
  worker(id: string): Promise<WorkerBody>;
  status(endpoint: string, jobId: string): Promise<string>;
  /** Why a job is where it is. */
  reason(jobId: string): Promise<string>;
  update(id: string, change: Change): Promise<EndpointBody>;
  /** POST to one of an endpoint's own routes: rollback, pause, resume, warm. */
  post(id: string, what: string, body?: unknown): Promise<Reply>;
  /** The row as it is stored. */
  row(workerId: string): Worker | null;
  /** What the pool was asked of a worker, in order. */
  asked(workerId: string): readonly string[];
  /** Opens a poll that stays open: the worker is up and idle. */
  poll(worker: TestWorker): Promise<void>;
};

export function fleetView(current: () => TestDaemon): FleetView {
  const get = (path: string) => current().call("GET", path);
  const view: FleetView = {
    endpoint: async (id) => parsed(endpointSchema, await get(`/api/endpoints/${id}`)),
    releases: async (id) => parsed(z.array(releaseSchema), await get(`/api/endpoints/${id}/releases`)),
    release: async (id, version) =>
      parsed(releaseSchema, await get(`/api/endpoints/${id}/releases/${version}`)),
    workers: async (id) => parsed(z.array(workerSchema), await get(`/api/workers?endpoint=${id}`)),
    worker: async (id) => parsed(workerSchema, await get(`/api/workers/${id}`)),
    status: async (endpoint, jobId) =>
      parsed(jobBodySchema, await get(`/v2/${endpoint}/status/${jobId}`)).status,
    reason: async (jobId) => parsed(jobDetailSchema, await get(`/api/jobs/${jobId}`)).reason,
    update: async (id, body) =>
      parsed(endpointSchema, await current().call("PATCH", `/api/endpoints/${id}`, { body })),
    post: (id, what, body = {}) => current().call("POST", `/api/endpoints/${id}/${what}`, { body }),
    row: (workerId) => current().store.fleet.worker(workerId as Worker["id"]),
    asked: (workerId) => current().pool.started.find((worker) => worker.workerId === workerId)?.asked ?? [],
    poll: async (worker) => {
      const held = () => current().clock.sleeps(TAKE_HOLD_MS);
      const before = held();
      worker.take().catch(() => null);
      await current().until("the take is held", () => held() > before);
    },
  };
  return view;
}
