import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pino from "pino";
import type { z } from "zod";
import { RpxError } from "../../src/contract/error.ts";
import { createdKeySchema } from "../../src/contract/schemas/daemon.ts";
import { type EndpointConfig, endpointSchema } from "../../src/contract/schemas/endpoint.ts";
import { createInProcessHost } from "../../src/runtime/adapters/process/in-process-host.ts";
import { createSimulatedClock } from "../../src/runtime/adapters/simulated/clock.ts";
import { createSimulatedSecretBox } from "../../src/runtime/adapters/simulated/secret-box.ts";
import { openDatabase } from "../../src/runtime/adapters/sqlite/database.ts";
import { createSqliteStore } from "../../src/runtime/adapters/sqlite/store.ts";
import { createSystemRandom } from "../../src/runtime/adapters/system/random.ts";
import { createWebhookNet } from "../../src/runtime/adapters/webhook/webhook-net.ts";
import { type DaemonConfigInput, daemonConfigSchema } from "../../src/runtime/config.ts";
import { type Adapters, createDaemon, type Daemon } from "../../src/runtime/daemon.ts";
import type { Clock } from "../../src/runtime/ports/clock.ts";
import type { LogStore } from "../../src/runtime/ports/log-store.ts";
import type { Store } from "../../src/runtime/ports/store.ts";
import type { BuiltRelease } from "../../src/runtime/ports/worker-pool.ts";
import { TAKE_HOLD_MS } from "../../src/runtime/service/deliveries.ts";
import { createScriptedPool, type ScriptedPool, type ScriptedWorker } from "./scripted-pool.ts";
import { createTestWorker, type Reply, request, type TestWorker } from "./test-worker.ts";

/** Time of the daemon under test: it stands still unless the test moves it. */
export type TestClock = Clock & {
  /** Moves time on through every sleep that ends on the way. */
  advance(ms: number): Promise<void>;
  /** Time passes and nothing of the daemon runs meanwhile: the machine stood still. */
  jump(ms: number): void;
  /** How many sleeps of just this length are under way: how a test sees that a request is held. */
  sleeps(ms: number): number;
};

export type CallOptions = {
  /** Null sends none; default: the admin key. */
  readonly key?: string | null;
  /** Text goes as it is, anything else as JSON. */
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
  readonly signal?: AbortSignal;
};

/** The whole daemon in this process: real HTTP on loopback, SQLite in memory, simulated time, scripted workers. */
export type TestDaemon = {
  readonly url: string;
  readonly workerUrl: string;
  readonly adminKey: string;
  readonly clock: TestClock;
  readonly store: Store;
  readonly pool: ScriptedPool;
  readonly daemon: Daemon;
  readonly disk: { freeBytes: number };
  readonly builder: ScriptedBuilder;
  call(method: string, path: string, options?: CallOptions): Promise<Reply>;
  /** Creates an endpoint; returns its id. */
  deploy(name: string, config?: EndpointConfig, extra?: { id?: string; key?: string }): Promise<string>;
  /** Makes a key; returns its text. */
  key(name: string, options?: Record<string, unknown>): Promise<string>;
  /** Submits a job to an endpoint; returns its id. */
  submit(endpoint: string, body?: unknown, options?: CallOptions): Promise<string>;
  /** Waits until the daemon has started a worker that no earlier call has returned; acts as it. */
  nextWorker(): Promise<TestWorker>;
  /** An endpoint with one worker that is up and idle. */
  ready(name?: string, config?: EndpointConfig): Promise<{ endpoint: string; worker: TestWorker }>;
  /** Waits, moving time on little by little, until the condition holds. */
  until<T>(what: string, condition: () => T | Promise<T>): Promise<Exclude<NonNullable<T>, false>>;
  /**
   * A successor takes over by SIGHUP, or starts after a SIGTERM: rows, pool, time and ports stay. Only of a daemon that keeps its
   * database.
   */
  restart(how?: "handOver" | "drain"): Promise<TestDaemon>;
  /** Closes; fails when the daemon logged an error that the test did not allow. */
  stop(): Promise<void>;
  /** Errors and fatal messages that the daemon logged. Emptied by the test that expects them. */
  readonly errors: string[];
};

/** A builder that does as the test says. */
export type ScriptedBuilder = {
  /** Builds wait for this promise while it is set, or until they are given up. */
  hold: Promise<unknown> | null;
  /** Builds fail with this while it is set. */
  failure: RpxError | null;
};

/** What outlives a daemon under test. */
type Surroundings = {
  readonly clock: TestClock;
  readonly host: ReturnType<typeof createInProcessHost>;
  readonly pool: ScriptedPool;
  readonly disk: { freeBytes: number };
  readonly builder: ScriptedBuilder;
  readonly errors: string[];
  /** Workers that `nextWorker` has returned. */
  readonly returned: Set<ScriptedWorker>;
  /** Folder of the database; null: it is in memory. */
  readonly folder: string | null;
  readonly config: Partial<DaemonConfigInput>;
  readonly own: OwnAdapters;
};

type OwnAdapters = Partial<
  Pick<Adapters, "logStore" | "secretBox" | "images" | "bundles" | "artifacts" | "diskShares">
>;

/** Start of simulated time: some day in 2030. */
const START_MS = 1_900_000_000_000;
/** Simulated time that passes in one look of `until`, and how long a look may fail before the test does. */
const LOOK_STEP_MS = 5;
const DEADLINE_MS = 5_000;
const ERROR_LEVEL = 50;

const BUILT: BuiltRelease = {
  kind: "process",
  file: "worker",
  args: [],
  cwd: "/",
  env: {},
  runtime: "scripted",
  warnings: [],
};

/** `keep`: the database outlives the daemon, so that it can be restarted; the others: adapters of the test's instead of the usual ones. */
export async function startTestDaemon(
  config: Partial<DaemonConfigInput> = {},
  { keep = false, ...own }: OwnAdapters & { readonly keep?: boolean } = {},
): Promise<TestDaemon> {
  const surroundings: Surroundings = {
    clock: createTestClock(),
    host: createInProcessHost(),
    pool: createScriptedPool(),
    disk: { freeBytes: 10_000_000_000 },
    builder: { hold: null, failure: null },
    errors: [],
    returned: new Set(),
    folder: keep ? mkdtempSync(join(tmpdir(), "rpx-daemon-")) : null,
    config: { dataDir: "/nowhere", port: 0, workerPort: 0, ...config },
    own,
  };
  return launch(surroundings, null);
}

async function launch(surroundings: Surroundings, knownKey: string | null): Promise<TestDaemon> {
  const { clock, host, pool, disk, builder, errors, returned, folder, config, own } = surroundings;
  const store = createSqliteStore({
    db: openDatabase(folder === null ? ":memory:" : join(folder, "rpx.db")),
    clock,
    fatal: (error) => errors.push(`fatal: ${String(error)}`),
    makeRoom: () => false,
  });
  const daemon: Daemon = createDaemon(daemonConfigSchema.parse(config), {
    store,
    clock,
    random: createSystemRandom(),
    pools: { process: pool },
    builders: { process: { build: (_request, _onStep, signal) => build(builder, signal) } },
    logStore: NO_LOGS,
    secretBox: createSimulatedSecretBox(),
    webhookNet: createWebhookNet({
      ownListeners: () => {
        const bound = daemon.bound();
        return bound ? [bound.client, bound.worker] : [];
      },
    }),
    sockets: host.socketHost,
    bundles: { has: () => false, receive: async () => {} },
    images: null,
    artifacts: [],
    diskShares: [],
    disk: {
      freeBytes: async () => disk.freeBytes,
      databaseBytes: () => 0,
      holdBallast: async () => {},
    },
    host: { cpuCount: 2, memoryGiB: 4, diskBytes: 100_000_000_000 },
    log: pino({ level: "warn" }, { write: (line: string) => keepError(line, errors) }),
    version: "0.0.0-test",
    pid: process.pid,
    ...own,
  });
  const adminKey = (await daemon.ensureAdmin()) ?? knownKey ?? "";
  const { url, workerUrl } = await daemon.start();

  async function until<T>(what: string, condition: () => T | Promise<T>) {
    const deadline = performance.now() + DEADLINE_MS;
    for (;;) {
      const answer = await condition();
      if (answer) return answer as Exclude<NonNullable<T>, false>;
      if (performance.now() > deadline) throw new Error(`${what}: not within ${DEADLINE_MS} ms`);
      await clock.advance(LOOK_STEP_MS);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  const call: TestDaemon["call"] = (method, path, { key = adminKey, body, headers, signal } = {}) =>
    request(`${url}${path}`, {
      method,
      headers: { ...(key !== null && { authorization: `Bearer ${key}` }), ...headers },
      ...(body !== undefined && { body: bodyOf(body) }),
      ...(signal && { signal }),
    });

  const deploy: TestDaemon["deploy"] = async (name, endpointConfig = {}, { id, key } = {}) => {
    const source = key ? { kind: "bundle", digest: "0".repeat(64) } : { kind: "folder", path: "/handlers" };
    const body = { name, ...(id && { id }), config: endpointConfig, source, handler: "handler.py" };
    const reply = await call("POST", "/api/endpoints", { body, ...(key && { key }) });
    return parsed(endpointSchema, reply).id;
  };

  async function submit(endpoint: string, body: unknown = { input: {} }, options: CallOptions = {}) {
    const reply = await call("POST", `/v2/${endpoint}/run`, { body, ...options });
    if (reply.status !== 200) throw new Error(`not accepted: ${reply.status} ${reply.text}`);
    return String(reply.json().id);
  }

  async function nextWorker(): Promise<TestWorker> {
    const fresh = await until("a worker is started", () =>
      pool.running().find((worker) => !returned.has(worker) && store.fleet.worker(worker.workerId)?.handle),
    );
    returned.add(fresh);
    return createTestWorker(fresh.env);
  }

  return {
    url,
    workerUrl,
    adminKey,
    clock,
    store,
    pool,
    daemon,
    disk,
    builder,
    call,
    deploy,
    submit,
    nextWorker,
    until,
    errors,
    key: async (name, options = {}) => {
      const reply = await call("POST", "/api/keys", { body: { name, ...options } });
      return parsed(createdKeySchema, reply).key;
    },
    ready: async (name = "hello", endpointConfig = {}) => {
      const endpoint = await deploy(name, {
        ...endpointConfig,
        workers: { min: 1, max: 1, ...endpointConfig.workers },
      });
      const worker = await nextWorker();
      // The first take makes a worker ready; its socket closes again at once.
      const aborted = new AbortController();
      const first = worker.take({ signal: aborted.signal }).catch(() => null);
      await until("the worker is ready", () => isReady(store, worker.id) && clock.sleeps(TAKE_HOLD_MS) > 0);
      const heldBefore = clock.sleeps(TAKE_HOLD_MS);
      aborted.abort();
      await first;
      await until("its take is over", () => clock.sleeps(TAKE_HOLD_MS) < heldBefore);
      return { endpoint, worker };
    },
    restart: async (how = "handOver") => {
      if (folder === null) throw new Error("a daemon that is restarted keeps its database");
      await close(how);
      const ports = { port: Number(new URL(url).port), workerPort: Number(new URL(workerUrl).port) };
      return launch({ ...surroundings, config: { ...config, ...ports } }, adminKey);
    },
    stop: async () => {
      await close("handOver");
      if (folder !== null) rmSync(folder, { recursive: true });
      if (errors.length > 0) throw new Error(`the daemon logged errors:\n${errors.join("")}`);
    },
  };

  async function close(how: "handOver" | "drain"): Promise<void> {
    let closed = false;
    const closing = daemon[how]().then(() => {
      closed = true;
    });
    // Sockets of requests that the test left behind would be waited for.
    await host.close();
    await until("the daemon has closed", () => closed);
    await closing;
    pool.deafen();
  }
}

async function build({ hold, failure }: ScriptedBuilder, signal: AbortSignal): Promise<BuiltRelease> {
  if (hold !== null) await Promise.race([hold, givenUp(signal)]);
  if (failure !== null) throw failure;
  return BUILT;
}

function givenUp(signal: AbortSignal): Promise<never> {
  const error = new RpxError("unavailable", "the build was given up");
  return new Promise((_, reject) => signal.addEventListener("abort", () => reject(error), { once: true }));
}

function isReady(store: Store, workerId: string): boolean {
  return store.fleet.workers().some(({ id, state }) => id === workerId && state === "ready");
}

/** A successful answer by its contract schema; fails on any other status than 200. */
export function parsed<S extends z.ZodType>(schema: S, reply: Reply): z.infer<S> {
  if (reply.status !== 200) throw new Error(`status ${reply.status}: ${reply.text}`);
  return schema.parse(reply.json());
}

function createTestClock(): TestClock {
  const base = createSimulatedClock(START_MS);
  const lengths = new Map<number, number>();
  let offsetMs = 0;
  const count = (ms: number, by: number) => lengths.set(ms, (lengths.get(ms) ?? 0) + by);
  return {
    nowMs: () => base.nowMs() + offsetMs,
    sleep: (ms, signal) => {
      count(ms, 1);
      return base.sleep(ms, signal).finally(() => count(ms, -1));
    },
    endOfTurn: base.endOfTurn,
    advance: base.advance,
    jump: (ms) => {
      offsetMs += ms;
    },
    sleeps: (ms) => lengths.get(ms) ?? 0,
  };
}

function bodyOf(body: unknown): string | Uint8Array<ArrayBuffer> {
  if (typeof body === "string") return body;
  return body instanceof Uint8Array ? new Uint8Array(body) : JSON.stringify(body);
}

function keepError(line: string, errors: string[]): void {
  if ((JSON.parse(line) as { level: number }).level >= ERROR_LEVEL) errors.push(line);
}

const NO_LOGS: LogStore = {
  pathOf: () => "/nowhere",
  read: async () => [],
  follow: async (_query, _onLines, signal) => {
    if (!signal.aborted) {
      await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    }
  },
  lastLines: () => [],
  prune: async () => 0,
};
