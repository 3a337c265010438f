import { causeOf, RpxError } from "../../../contract/error.ts";
import { type Claim, needsOf, type Resources, shortage } from "../../core/budget.ts";
import { mostAwake, roomBeside } from "../../core/fleet-plan.ts";
import { digestKey, KEY_ALPHABET, KEY_BODY_LENGTH, makeKey } from "../../core/key-format.ts";
import type { BuiltVersion, Endpoint, EndpointId, SleepDepth, Worker, WorkerId } from "../../core/model.ts";
import { workerEnvironment } from "../../core/worker-env.ts";
import { workerLimits } from "../../core/worker-limits.ts";
import type { Clock } from "../../ports/clock.ts";
import type { Random } from "../../ports/random.ts";
import type { Store } from "../../ports/store.ts";
import type { StartStep, WorkerPool } from "../../ports/worker-pool.ts";
import type { Fleet } from "./fleet.ts";

export type StartsOptions = {
  readonly store: Pick<Store, "fleet">;
  readonly clock: Clock;
  readonly random: Random;
  readonly fleet: Fleet;
  readonly host: { readonly cpuCount: number; readonly memoryGiB: number };
  /** What this machine gives to workers. */
  readonly budget: Resources;
  /** Origin of the worker listener as workers of a pool reach it; null while it is not open. */
  readonly workerUrl: (pool: WorkerPool["kind"]) => string | null;
  /** An owner's variables with the secrets filled in; throws an RpxError that names what is missing. */
  readonly fillSecrets: (env: Readonly<Record<string, string>>, owner: string) => Record<string, string>;
  /** A text of a worker, or about one, without its secrets. */
  readonly redact: (workerId: WorkerId, text: string) => string;
  /** A start failed, through no fault of the pool's being away. */
  readonly onFailed: (worker: Worker, reason: string) => Promise<void>;
  readonly log: {
    info(fields: object, message: string): void;
    warn(fields: object, message: string): void;
  };
};

/** Starts of workers: a row first, then a part of the machine, then the pool's work, which nobody waits for. */
export type Starts = {
  /** Adds the row of a worker that waits for its part of the machine. */
  order(endpointId: EndpointId, release: number, reason: string): Promise<void>;
  /** Starts the waiting workers that fit, oldest first; says of the others what they wait for. */
  admit(): Promise<void>;
  /**
   * Why a worker cannot have its part of the machine now; null: it can, and it counts as having it from then on. Sleepers of others are
   * asked to make room.
   */
  roomFor(worker: Worker): Promise<string | null>;
  /** Gives a start up; false when none is under way. */
  abort(workerId: WorkerId): boolean;
  isUnderWay(workerId: WorkerId): boolean;
  /** Gives up all starts and waits for their ends. */
  stop(): Promise<void>;
};

const WORKER_ID_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz";
const WORKER_ID_LENGTH = 20;
/** The percentage of a pull is written into the row at most this often. */
const STEP_PAUSE_MS = 500;

type UnderWay = { readonly controller: AbortController; readonly done: Promise<void> };

export function createStarts(options: StartsOptions): Starts {
  const { store, clock, random, fleet, log } = options;
  /** Tokens of workers that wait; a row without one is of a daemon before. */
  const tokens = new Map<WorkerId, string>();
  const underWay = new Map<WorkerId, UnderWay>();
  /** Sleepers that got their part back, and whose rows do not say so yet. */
  const granted = new Set<WorkerId>();
  /** Sleepers that were asked to make room and are still there. */
  const evicted = new Set<WorkerId>();
  let stopped = false;

  async function order(endpointId: EndpointId, release: number, reason: string): Promise<void> {
    const spec = store.fleet.release(endpointId, release)?.spec;
    if (!spec) return;
    const nowMs = clock.nowMs();
    const id = random.text(WORKER_ID_LENGTH, WORKER_ID_ALPHABET) as WorkerId;
    const token = makeKey("worker", random.text(KEY_BODY_LENGTH, KEY_ALPHABET));
    tokens.set(id, token);
    const row: Worker = {
      ...NEW_WORKER,
      ...{ id, endpointId, release, pool: spec.pool, reason, createdAtMs: nowMs },
    };
    try {
      await store.fleet.addWorker(row, digestKey(token), nowMs);
    } catch (error) {
      tokens.delete(id);
      if (!(error instanceof RpxError)) throw error;
      // A full disk: whether a worker is still wanted is for a later pass to see.
      log.warn({ endpointId, err: error }, "worker not started");
    }
  }

  async function admit(): Promise<void> {
    const workers = store.fleet.workers();
    for (const worker of workers) {
      if (worker.state !== "wanted" || underWay.has(worker.id) || stopped) continue;
      const waits = await obstacle(worker);
      if (waits === null) begin(worker);
      else await store.fleet.setWorkerReason(worker.id, waits);
    }
    for (const id of tokens.keys()) if (store.fleet.worker(id)?.state !== "wanted") tokens.delete(id);
  }

  /** What a worker waits for; null: nothing. */
  async function obstacle(worker: Worker): Promise<string | null> {
    const pool = fleet.poolOf(worker);
    const away = pool.away();
    if (away !== null) return `waits for the ${pool.kind} pool: ${away}`;
    pool.prepare();
    if (options.workerUrl(pool.kind) === null) return "waits for the network of its pool";
    return beyondMax(worker) ?? roomFor(worker);
  }

  /** Settings may have changed since it was ordered, and workers that end are still there. */
  function beyondMax({ id, endpointId, release }: Worker): string | null {
    const settings = fleet.endpoint(endpointId)?.settings;
    const present = holders(id).filter(({ worker }) => worker.endpointId === endpointId);
    const max = settings ? mostAwake(settings.workers) : 0;
    const room = roomBeside(
      present.map(({ worker }) => worker),
      { max, release },
    );
    return room > 0
      ? null
      : `waits for another worker to end: ${present.length} are there, and max is ${max}`;
  }

  async function roomFor(worker: Worker): Promise<string | null> {
    const short = shortage(claimOf(worker, null), holders(worker.id), options.budget);
    if (short !== null) await evictFor(worker);
    else if (worker.state === "parked") granted.add(worker.id);
    return short;
  }

  /** Those with a part of the machine: all that exist, but the ones that wait themselves. */
  function holders(except: WorkerId): (Claim & { readonly worker: Worker })[] {
    const workers = store.fleet.workers();
    for (const id of granted)
      if (!workers.some((worker) => worker.id === id && worker.state === "parked")) granted.delete(id);
    return workers.flatMap((worker) => {
      const has = worker.state !== "failed" && (worker.state !== "wanted" || underWay.has(worker.id));
      const asleep = granted.has(worker.id) ? null : worker.asleep;
      return has && worker.id !== except ? [{ ...claimOf(worker, asleep), worker }] : [];
    });
  }

  function claimOf(worker: Worker, asleep: SleepDepth | null): Claim {
    const hardware = store.fleet.release(worker.endpointId, worker.release)?.spec.hardware ?? {};
    const endpoint = fleet.endpoint(worker.endpointId)?.name ?? worker.endpointId;
    return { workerId: worker.id, endpoint, needs: needsOf(workerLimits(hardware), asleep) };
  }

  /** Sleeping workers of other endpoints give up what they hold, longest asleep first, where that makes room. */
  async function evictFor(worker: Worker): Promise<void> {
    const holding = holders(worker.id);
    const present = new Set(holding.map(({ workerId }) => workerId));
    for (const id of evicted) if (!present.has(id)) evicted.delete(id);
    // Who was asked to go before counts as gone, or one look after another asks the next.
    const all = holding.filter(({ workerId }) => !evicted.has(workerId));
    const sleepers = all
      .filter(({ worker: { id, state } }) => state === "parked" && !granted.has(id))
      .filter(({ worker: { endpointId } }) => endpointId !== worker.endpointId)
      .sort((a, b) => (a.worker.parkedAtMs ?? 0) - (b.worker.parkedAtMs ?? 0));
    const claim = claimOf(worker, null);
    for (let count = 0; count <= sleepers.length; count += 1) {
      const leaving = new Set(sleepers.slice(0, count).map(({ workerId }) => workerId));
      const staying = all.filter(({ workerId }) => !leaving.has(workerId));
      if (shortage(claim, staying, options.budget) !== null) continue;
      for (const id of leaving) {
        evicted.add(id);
        await fleet.drain(id, `asleep: gives its place to a worker of ${claim.endpoint}`);
      }
      return;
    }
  }

  function begin(worker: Worker): void {
    const controller = new AbortController();
    const done = run(worker, controller.signal)
      .catch((error: unknown) => log.warn({ workerId: worker.id, err: error }, "start not recorded"))
      .finally(() => {
        underWay.delete(worker.id);
        fleet.nudge();
      });
    underWay.set(worker.id, { controller, done });
  }

  async function run(worker: Worker, signal: AbortSignal): Promise<void> {
    const { id: workerId, endpointId } = worker;
    const token = tokens.get(workerId);
    tokens.delete(workerId);
    const nowMs = clock.nowMs();
    // A worker that is no longer wanted has left this state: then nothing is started.
    const moved = await store.fleet.moveWorker(workerId, { to: "starting", reason: "starting" }, nowMs);
    if (!moved) return;
    let handle: string;
    try {
      if (token === undefined) throw new RpxError("unavailable", "the daemon that ordered it is gone");
      const start = describe(worker, token);
      ({ handle } = await fleet.poolOf(worker).start(start, stepRecorder(workerId), signal));
    } catch (error) {
      return failed(worker, error, signal);
    }
    // It runs: what goes wrong from here on is no failed start, or its process would be left over.
    const reason = "booting the handler";
    await store.fleet.setStartStep(workerId, { phase: "boot", reason, handle }, clock.nowMs());
    log.info({ endpointId, workerId, handle }, "worker started");
  }

  async function failed(worker: Worker, error: unknown, signal: AbortSignal): Promise<void> {
    const { id, state, reason: presentReason } = store.fleet.worker(worker.id) ?? worker;
    const gone = (reason: string) =>
      store.fleet.moveWorker(id, { to: "gone", reason, revoke: true }, clock.nowMs());
    if (stopped) return void (await gone("the daemon ended while it was started"));
    if (signal.aborted || state === "draining") return void (await gone(presentReason));
    const reason = options.redact(id, `it could not be started: ${causeOf(error)}`);
    log.warn({ endpointId: worker.endpointId, workerId: id, reason }, "worker not started");
    if (fleet.poolOf(worker).away() !== null) return void (await gone(reason));
    await options.onFailed(worker, reason);
  }

  function describe(worker: Worker, token: string) {
    const { id: workerId, endpointId } = worker;
    const endpoint = fleet.endpoint(endpointId);
    const release = fleet.built(endpointId, worker.release);
    if (!endpoint || !release) throw new RpxError("not_found", "its release is gone");
    const limits = workerLimits(release.spec.hardware);
    return {
      workerId,
      endpointId,
      release: release.version,
      built: release.built,
      limits,
      env: environmentOf(endpoint, release, workerId, token),
    };
  }

  function environmentOf(endpoint: Endpoint, release: BuiltVersion, workerId: WorkerId, token: string) {
    const { memoryBytes, cpus } = workerLimits(release.spec.hardware);
    return workerEnvironment({
      baseUrl: options.workerUrl(release.spec.pool) ?? "",
      endpointId: endpoint.id,
      workerId,
      workerToken: token,
      gpus: null,
      cpuCount: cpus === null ? options.host.cpuCount : Math.max(1, Math.ceil(cpus)),
      memoryGiB: memoryBytes === null ? options.host.memoryGiB : Math.max(1, Math.floor(memoryBytes / GIB)),
      volume: null,
      startTimeoutMs: endpoint.settings.limits.startTimeoutMs,
      endpointEnv: options.fillSecrets(release.spec.env, endpoint.owner),
    });
  }

  /** Writes how far a start is into its row, as often as somebody could read it. */
  function stepRecorder(workerId: WorkerId): (step: StartStep) => void {
    let phase = "";
    let writtenMs = Number.NEGATIVE_INFINITY;
    return (step) => {
      const nowMs = clock.nowMs();
      if (step.phase === phase && nowMs - writtenMs < STEP_PAUSE_MS) return;
      phase = step.phase;
      writtenMs = nowMs;
      const row = { phase: step.phase, reason: stepReason(step) };
      store.fleet.setStartStep(workerId, row, nowMs).catch(() => undefined);
    };
  }

  return {
    order,
    admit,
    roomFor,
    abort: (workerId) => {
      const start = underWay.get(workerId);
      start?.controller.abort();
      return start !== undefined;
    },
    isUnderWay: (workerId) => underWay.has(workerId),
    stop: async () => {
      stopped = true;
      for (const { controller } of underWay.values()) controller.abort();
      await Promise.all([...underWay.values()].map(({ done }) => done));
    },
  };
}

const GIB = 2 ** 30;
const NEW_WORKER = {
  state: "wanted",
  readyAtMs: null,
  endedAtMs: null,
  handle: null,
  phase: null,
  bootedAtMs: null,
  asleep: null,
  parkedAtMs: null,
  exit: null,
} as const;

function stepReason(step: StartStep): string {
  switch (step.phase) {
    case "pull":
      return step.percent === null ? "pulling the image" : `pulling the image, ${Math.floor(step.percent)} %`;
    case "create":
      return "making the container";
    case "boot":
      return "booting the handler";
  }
}
