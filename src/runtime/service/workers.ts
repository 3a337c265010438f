import { timingSafeEqual } from "node:crypto";
import { RpxError } from "../../contract/error.ts";
import { type QueueKey, queueKey } from "../core/dispatch.ts";
import { digestKey } from "../core/key-format.ts";
import type { Endpoint, EndpointId, Worker, WorkerId } from "../core/model.ts";
import type { Clock } from "../ports/clock.ts";
import type { Store } from "../ports/store.ts";
import type { Events } from "./events.ts";

/** A worker that showed its own token. It opens that worker's own routes and nothing else (T-10). */
export type WorkerPrincipal = { readonly workerId: WorkerId; readonly endpointId: EndpointId };

/** Workers as they speak to us: credentials, heartbeat, first take. */
export type Workers = {
  /** Throws `unauthorized` unless the token is this worker's, on this endpoint. Counts as a sign of life. */
  authenticate(token: string | null, endpointId: string, workerId: string): WorkerPrincipal;
  /** A take arrived: the first one makes a starting worker ready. */
  took(workerId: WorkerId): Promise<void>;
  /** Whether the worker may be handed work. */
  mayTake(workerId: WorkerId): boolean;
  /** The queue that the worker takes from; null while it gets nothing. */
  queueOf(workerId: WorkerId): QueueKey | null;
  /** The worker asked to be replaced: it gets no more work. */
  retire(workerId: WorkerId, reason: string): Promise<void>;
  /** A fitness check failed: the worker's last word before it exits. */
  reportUnfit(workerId: WorkerId, reason: string): void;
  /** What the worker said when it reported itself unfit, or null. */
  unfitReason(workerId: WorkerId): string | null;
  /** When the worker last said anything; its creation before that. */
  lastSeenMs(workerId: WorkerId): number;
  /** When the worker last asked for jobs; its creation before that. */
  lastTakeMs(workerId: WorkerId): number;
};

type Known = { readonly worker: Worker; readonly digest: Buffer | null };

export type WorkersOptions = {
  readonly store: Pick<Store, "fleet">;
  readonly clock: Clock;
  readonly events: Events;
  readonly endpoint: (id: EndpointId) => Endpoint | null;
};

export function createWorkers({ store, clock, events, endpoint }: WorkersOptions): Workers {
  const known = new Map<WorkerId, Known>();
  const seenMs = new Map<WorkerId, number>();
  const takenMs = new Map<WorkerId, number>();
  const unfit = new Map<WorkerId, string>();

  events.subscribe((event) => {
    if (event.workerId === null || event.kind !== "worker.move") return;
    known.delete(event.workerId);
    if (event.data.to !== "gone") return;
    seenMs.delete(event.workerId);
    takenMs.delete(event.workerId);
    unfit.delete(event.workerId);
  });

  function lookUp(workerId: WorkerId): Known | null {
    const present = known.get(workerId);
    if (present) return present;
    const credential = store.fleet.credential(workerId);
    if (!credential || credential.worker.state === "gone") return null;
    const { worker, tokenDigest } = credential;
    const entry = { worker, digest: tokenDigest === null ? null : Buffer.from(tokenDigest) };
    known.set(workerId, entry);
    return entry;
  }

  function authenticate(token: string | null, endpointId: string, workerId: string): WorkerPrincipal {
    const entry = lookUp(workerId as WorkerId);
    const digest = Buffer.from(digestKey(token ?? ""));
    const right =
      entry?.digest != null && entry.digest.length === digest.length && timingSafeEqual(entry.digest, digest);
    if (!right || entry.worker.endpointId !== endpointId) {
      throw new RpxError("unauthorized", "this token does not open this worker", {
        why: "the worker was replaced, or the token is another worker's",
      });
    }
    seenMs.set(entry.worker.id, clock.nowMs());
    return { workerId: entry.worker.id, endpointId: entry.worker.endpointId };
  }

  async function took(workerId: WorkerId): Promise<void> {
    takenMs.set(workerId, clock.nowMs());
    const state = lookUp(workerId)?.worker.state;
    if (state !== "starting") return;
    await store.fleet.moveWorker(workerId, { to: "ready", reason: "asking for jobs" }, clock.nowMs());
  }

  /** The endpoint's jobs for a worker of its live release, the tests of a release that proves itself for its own. */
  function queueOf(workerId: WorkerId): QueueKey | null {
    const worker = lookUp(workerId)?.worker;
    const of = worker?.state === "ready" ? endpoint(worker.endpointId) : null;
    if (!worker || !of) return null;
    if (worker.release === of.liveRelease) return of.paused ? null : queueKey(of.id, 0);
    return worker.release === of.candidateRelease ? queueKey(of.id, worker.release) : null;
  }

  function lastMs(times: ReadonlyMap<WorkerId, number>, workerId: WorkerId): number {
    return times.get(workerId) ?? store.fleet.worker(workerId)?.createdAtMs ?? 0;
  }

  return {
    authenticate,
    took,
    queueOf,
    mayTake: (workerId) => lookUp(workerId)?.worker.state === "ready",
    retire: async (workerId, reason) => {
      await store.fleet.moveWorker(workerId, { to: "draining", reason }, clock.nowMs());
    },
    reportUnfit: (workerId, reason) => void unfit.set(workerId, reason),
    unfitReason: (workerId) => unfit.get(workerId) ?? null,
    lastSeenMs: (workerId) => lastMs(seenMs, workerId),
    lastTakeMs: (workerId) => lastMs(takenMs, workerId),
  };
}
