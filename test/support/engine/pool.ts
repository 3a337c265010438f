/** A Docker pool on a real engine with what tests need around it. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { RpxError } from "../../../src/contract/error.ts";
import { LABELS } from "../../../src/runtime/adapters/docker/container-spec.ts";
import { createEngine, type Engine } from "../../../src/runtime/adapters/docker/engine.ts";
import { connectEngine } from "../../../src/runtime/adapters/docker/engine-connection.ts";
import { freeBytesOf } from "../../../src/runtime/adapters/docker/engine-disk.ts";
import type { WorkerNetwork } from "../../../src/runtime/adapters/docker/network-port.ts";
import { createStartImages } from "../../../src/runtime/adapters/docker/start-image.ts";
import { createDockerPool, type DockerPool } from "../../../src/runtime/adapters/docker/worker-pool.ts";
import { createLogStore, type FileLogStore } from "../../../src/runtime/adapters/files/log-store.ts";
import { createSystemClock } from "../../../src/runtime/adapters/system/clock.ts";
import type { BuiltImage, EndpointId, WorkerId, WorkerLimits } from "../../../src/runtime/core/model.ts";
import type { RegistryLogin } from "../../../src/runtime/ports/images.ts";
import type { WorkerExit, WorkerStart } from "../../../src/runtime/ports/worker-pool.ts";
import { NODE_IMAGE } from "./engine.ts";

const FIXTURES = path.resolve(import.meta.dirname, "../../fixtures/handlers");
const NO_LIMITS: WorkerLimits = { memoryBytes: null, cpus: null, pids: 512, shmBytes: null, diskBytes: null };
const QUIET = { info() {}, warn() {}, error() {} };

export type TestPool = {
  readonly pool: DockerPool;
  readonly engine: Engine;
  readonly logs: FileLogStore;
  readonly daemonId: string;
  /** Ends that the pool has told, by worker. */
  readonly exits: Map<WorkerId, WorkerExit>;
  /** The pool of a daemon that has just started, after this one's has ended. */
  restarted(): Promise<TestPool>;
  /** A worker of the fixture in a mode, with an id of its own. */
  worker(mode: string, options?: WorkerOptions): WorkerStart;
  start(worker: WorkerStart): Promise<string>;
  /** Removes every container of it. */
  close(): Promise<void>;
};

export type WorkerOptions = {
  readonly built?: Partial<BuiltImage>;
  readonly env?: Readonly<Record<string, string>>;
  readonly limits?: Partial<WorkerLimits>;
};

let made = 0;

export type TestPoolOptions = {
  /** The engine's DOCKER_HOST; the one of this environment unless told. */
  readonly host?: string;
  /** As where this daemon may not use the kernel's freezer. */
  readonly withoutFreezer?: boolean;
  /** In place of what the engine's own network does. */
  readonly network?: Partial<WorkerNetwork>;
  /** Stored registry logins by their name. */
  readonly logins?: Readonly<Record<string, RegistryLogin>>;
};

export async function createTestPool(options: TestPoolOptions = {}): Promise<TestPool> {
  made += 1;
  const dataDir = mkdtempSync(path.join(tmpdir(), "rpx-docker-pool-"));
  return open({ ...options, dataDir, daemonId: `test-${process.pid}-${made}` });
}

type Home = TestPoolOptions & { readonly dataDir: string; readonly daemonId: string };

async function open(home: Home): Promise<TestPool> {
  const { dataDir, daemonId } = home;
  const clock = createSystemClock({ newestStoredMs: 0 });
  const logs = createLogStore({ dataDir, clock });
  const connection = connectEngine(home.host === undefined ? process.env : { DOCKER_HOST: home.host });
  const engine = createEngine({ connection, label: `${LABELS.daemon}=${daemonId}`, clock, log: QUIET });
  const pool = createDockerPool({
    ...{ engine, logs, clock, daemonId, dataDir },
    log: QUIET,
    network: { ...DEFAULT_BRIDGE, ...home.network },
    images: createStartImages({
      engine,
      freeBytes: () => freeBytesOf(engine),
      login: (name) => home.logins?.[name] ?? noLogin(name),
    }),
    mountable: [],
    ...(home.withoutFreezer && { findFreezer: async () => null }),
  });
  const exits = new Map<WorkerId, WorkerExit>();
  pool.onExit((exit) => exits.set(exit.workerId, exit));
  await engine.open();
  await pool.open();
  const end = async (): Promise<void> => {
    await pool.close();
    await engine.close();
  };
  return {
    ...{ pool, engine, logs, daemonId, exits },
    worker,
    start: async (start) => (await pool.start(start, () => {}, new AbortController().signal)).handle,
    restarted: async () => {
      await end();
      return open(home);
    },
    close: async () => {
      const filters = { label: [`${LABELS.daemon}=${daemonId}`] };
      for (const { Id } of await engine.docker.listContainers({ all: true, filters })) {
        const container = engine.docker.getContainer(Id);
        await container.unpause().catch(() => {});
        await container.remove({ force: true, v: true }).catch(() => {});
      }
      await end();
      rmSync(dataDir, { recursive: true, force: true });
    },
  };
}

function noLogin(name: string): never {
  throw new RpxError("not_found", `no registry login "${name}" in this test`);
}

/** The engine's own network: who reaches whom is another test's. */
const DEFAULT_BRIDGE: WorkerNetwork = {
  name: "bridge",
  ensure: async () => {},
  address: () => ({ listenHost: "172.17.0.1", urlHost: "172.17.0.1" }),
  isolation: () => ({ level: "partial", reason: "the engine's default network" }),
  onContainerStarted: async () => {},
  onChange: () => () => {},
};

let workers = 0;

function worker(mode: string, { built = {}, env = {}, limits = {} }: WorkerOptions = {}): WorkerStart {
  workers += 1;
  const workerId = `w-${process.pid}-d${workers}` as WorkerId;
  return {
    workerId,
    endpointId: "ep1" as EndpointId,
    release: 1,
    built: { ...fixtureImage(mode), ...built },
    env: { RUNPOD_POD_ID: workerId, ...env },
    limits: { ...NO_LIMITS, ...limits },
  };
}

/** test/fixtures/handlers/worker.mjs in a mode. */
export function fixtureImage(mode: string): BuiltImage {
  return {
    kind: "image",
    image: NODE_IMAGE,
    reference: NODE_IMAGE,
    registry: null,
    entrypoint: null,
    command: ["node", "/handlers/worker.mjs", mode],
    mounts: [{ source: FIXTURES, target: "/handlers", readOnly: true }],
    env: {},
    runtime: "node",
    warnings: [],
  };
}
