/**
 * The daemon child: composition root, and the only file that names adapters. It runs under the supervisor, which owns
 * the sockets and the worker processes.
 */
import {
  closeSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import type { Socket } from "node:net";
import { availableParallelism, totalmem } from "node:os";
import { dirname, join } from "node:path";
import pino, { type Logger } from "pino";
import { exitCode, RpxError } from "../contract/error.ts";
import { createDocker, type Docker } from "./adapters/docker/docker.ts";
import { BALLAST_BYTES, createBallast, freeBytes, totalBytes } from "./adapters/files/ballast.ts";
import { createBundles } from "./adapters/files/bundles.ts";
import { openDataDir } from "./adapters/files/data-dir.ts";
import { dataDirId } from "./adapters/files/data-dir-id.ts";
import { createLogsShare } from "./adapters/files/log-share.ts";
import { createLogStore } from "./adapters/files/log-store.ts";
import { createSecretBox } from "./adapters/files/secret-box.ts";
import { createProcessBuilder } from "./adapters/process/builder.ts";
import { createEnvironmentArtifacts } from "./adapters/process/environments.ts";
import { connectSupervisor, type SupervisorChannel } from "./adapters/process/supervisor-channel.ts";
import { createProcessPool } from "./adapters/process/worker-pool.ts";
import { openDatabase } from "./adapters/sqlite/database.ts";
import { createSqliteStore, newestTimeMs } from "./adapters/sqlite/store.ts";
import { createSystemClock } from "./adapters/system/clock.ts";
import { createSystemRandom } from "./adapters/system/random.ts";
import { createWebhookNet } from "./adapters/webhook/webhook-net.ts";
import { type DaemonConfig, daemonConfigSchema } from "./config.ts";
import { createDaemon, type Daemon } from "./daemon.ts";
import type { LogStore } from "./ports/log-store.ts";
import type { SocketHost } from "./ports/socket-host.ts";
import { createRegistries } from "./service/registries.ts";

const PACKAGE_DIR = join(import.meta.dirname, "../..");
/** A start waits this long for an engine that does not answer. */
const ENGINE_LOOK_MS = 2_000;
/** A COMMIT failed: the supervisor starts a fresh child, which reads what is really there. */
const EXIT_FAILED_COMMIT = 70;

const version = (JSON.parse(readFileSync(join(PACKAGE_DIR, "package.json"), "utf8")) as { version: string })
  .version;

async function main(): Promise<void> {
  const channel = await connectSupervisor();
  const config = daemonConfigSchema.parse(channel.config);
  const log = pino({ level: config.logLevel }, pino.destination({ fd: 2, sync: true }));
  const sockets = await openListeners(config, channel.socketHost);
  const { daemon, makeRoom, docker } = compose(config, { ...channel, socketHost: sockets }, log);
  await docker?.lookAtEngine();
  await daemon.ensureAdmin((key) => writePrivately(join(config.dataDir, "admin-key"), `${key}\n`));
  const { url, workerUrl } = await daemon.start();
  await docker?.pool.open();
  tellWhere(join(config.dataDir, "daemon.json"), describe(url, workerUrl), makeRoom, log);
  channel.onDrain(() => end(daemon.drain(), config, log));
  channel.onHandover(() => end(daemon.handOver(), null, log));
  channel.ready();
  announce(config, url, workerUrl);
}

/** Both ports are taken before any data is touched (F-36). Connections come only once the daemon is ready. */
async function openListeners(config: DaemonConfig, host: SocketHost): Promise<SocketHost> {
  const accepts = new Map<string, (socket: Socket) => void>();
  const open = async (name: string, address: { host: string; port: number }) => {
    try {
      return await host.listen({ name, ...address }, (socket) => accepts.get(name)?.(socket));
    } catch (error) {
      throw asListenError(error as NodeJS.ErrnoException, address);
    }
  };
  const bound = new Map([
    ["client", await open("client", { host: config.host, port: config.port })],
    ["worker", await open("worker", { host: config.workerHost, port: config.workerPort })],
  ]);
  return {
    listen: async (options, accept) => {
      accepts.set(options.name, accept);
      return bound.get(options.name) ?? host.listen(options, accept);
    },
    close: host.close,
  };
}

/** `makeRoom` frees space on a full disk; false when there is nothing left to free. */
type Composed = {
  readonly daemon: Daemon;
  readonly makeRoom: () => boolean;
  readonly docker: OpenDocker | null;
};
/** Resolves when it is known whether an engine answers, or after a while. */
type OpenDocker = Docker & { lookAtEngine(): Promise<void> };

function compose(config: DaemonConfig, channel: SupervisorChannel, log: Logger): Composed {
  openDataDir(config.dataDir);
  const databasePath = join(config.dataDir, "rpx.db");
  const ballast = createBallast({ dataDir: config.dataDir, bytes: BALLAST_BYTES });
  const db = openDatabase(databasePath);
  const clock = createSystemClock({ newestStoredMs: newestTimeMs(db) });
  const makeRoom = () => ballast.release() > 0;
  const store = createSqliteStore({
    db,
    clock,
    makeRoom,
    fatal: (error) => {
      log.fatal({ err: error }, "a commit failed: its outcome is unknown, restarting");
      process.exit(EXIT_FAILED_COMMIT);
    },
  });
  const bundles = createBundles({ dataDir: config.dataDir });
  const logStore = createLogStore({ dataDir: config.dataDir, clock });
  // What pools make reasons of, and cut: a secret goes while it is whole.
  const lastWords: LogStore = {
    ...logStore,
    lastLines: (endpointId, workerId, count) =>
      logStore.lastLines(endpointId, workerId, count).map((line) => daemon.redact(workerId, line)),
  };
  const { processHost, socketHost } = channel;
  const secretBox = createSecretBox({ dataDir: config.dataDir });
  const docker = openDocker(config, {
    daemonId: dataDirId(config.dataDir),
    pathOfBundle: bundles.pathOf,
    login: createRegistries({ store, clock, box: secretBox }).open,
    clock,
    log,
    logs: lastWords,
    dataDir: config.dataDir,
    workerPort: () => daemon.bound()?.worker.port ?? config.workerPort,
    workerUrl: config.workerUrl === undefined ? null : new URL(config.workerUrl),
  });
  const daemon = createDaemon(config, {
    store,
    clock,
    random: createSystemRandom(),
    pools: {
      process: createProcessPool({
        host: processHost,
        logs: lastWords,
        endpointOf: (workerId) => store.fleet.worker(workerId)?.endpointId ?? null,
      }),
      ...(docker && { docker: docker.pool }),
    },
    images: docker?.images ?? null,
    artifacts: [
      bundles.artifacts,
      createEnvironmentArtifacts({ dataDir: config.dataDir }),
      ...(docker?.artifacts ?? []),
    ],
    diskShares: [createLogsShare({ dataDir: config.dataDir }), ...(docker?.diskShares ?? [])],
    builders: {
      ...(docker && { docker: docker.builder }),
      process: createProcessBuilder({
        dataDir: config.dataDir,
        sdkDir: join(PACKAGE_DIR, "sdk"),
        environment: process.env,
        pathOfBundle: bundles.pathOf,
        python: config.python ?? null,
      }),
    },
    logStore,
    secretBox,
    webhookNet: createWebhookNet({ ownListeners: () => ownListeners(daemon) }),
    sockets: socketHost,
    bundles,
    disk: {
      freeBytes: () => freeBytes(config.dataDir),
      databaseBytes: () => sizeOf(databasePath) + sizeOf(`${databasePath}-wal`),
      holdBallast: ballast.hold,
    },
    host: {
      cpuCount: availableParallelism(),
      memoryGiB: Math.floor(totalmem() / 2 ** 30),
      diskBytes: totalBytes(config.dataDir),
    },
    log,
    ...(config.tls && {
      tls: { cert: readFileSync(config.tls.certPath), key: readFileSync(config.tls.keyPath) },
    }),
    version,
    pid: process.ppid,
  });
  return { daemon, makeRoom, docker };
}

/** None where only processes are wanted. */
function openDocker(
  config: DaemonConfig,
  deps: Omit<Parameters<typeof createDocker>[0], "environment" | "sdkDir">,
): OpenDocker | null {
  if (config.pool === "process") return null;
  const docker = createDocker({ ...deps, environment: process.env, sdkDir: join(PACKAGE_DIR, "sdk") });
  return {
    ...docker,
    lookAtEngine: () =>
      Promise.race([
        docker.engine
          .open()
          .catch((error: unknown) => deps.log.error({ err: error }, "looking for an engine failed")),
        deps.clock.sleep(ENGINE_LOOK_MS),
      ]),
  };
}

/** Where webhooks never go, whatever the guard. */
function ownListeners(daemon: Daemon) {
  const bound = daemon.bound();
  return bound ? [bound.client, bound.worker] : [];
}

function sizeOf(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

/** Whole or not at all, synced, and for this user alone. */
function writePrivately(path: string, text: string): void {
  writeFileSync(`${path}.new`, text, { mode: 0o600, flush: true });
  renameSync(`${path}.new`, path);
  const folder = openSync(dirname(path), "r");
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

/** A full disk does not keep the daemon away: a child started again by the same supervisor is where the file says already. */
function tellWhere(path: string, text: string, makeRoom: () => boolean, log: Logger): void {
  try {
    writePrivately(path, text);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
    if (makeRoom()) tellWhere(path, text, makeRoom, log);
    else log.warn({ path }, "the disk is full: where this daemon listens could not be written");
  }
}

function describe(url: string, workerUrl: string): string {
  return `${JSON.stringify({ pid: process.ppid, url, workerUrl, version, startedAt: new Date().toISOString() })}\n`;
}

function announce(config: DaemonConfig, url: string, workerUrl: string): void {
  if (config.announce === "json") process.stdout.write(`${JSON.stringify({ ready: { url, workerUrl } })}\n`);
  else
    process.stderr.write(
      `rpx ${version} ready at ${url} (workers at ${workerUrl}, data in ${config.dataDir})\n`,
    );
}

/** `drained`: nobody follows, so the file that leads the CLI here goes too. */
function end(closed: Promise<void>, drained: DaemonConfig | null, log: Logger): void {
  closed.then(
    () => {
      if (drained) rmSync(join(drained.dataDir, "daemon.json"), { force: true });
      process.exit(0);
    },
    (error: unknown) => {
      log.fatal({ err: error }, "closing failed");
      process.exit(1);
    },
  );
}

/** What happened, why, what next; then the exit code that the supervisor passes on. */
function fail(error: unknown): never {
  const known = error instanceof RpxError ? error : null;
  const lines = known
    ? [`Error: ${known.message}`, known.why && `why: ${known.why}`, known.hint && `try: ${known.hint}`]
    : [
        `Error: the daemon could not start`,
        `why: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
      ];
  process.stderr.write(`${lines.filter(Boolean).join("\n")}\n`);
  process.exit(known ? exitCode(known.code) : 1);
}

function asListenError(
  error: NodeJS.ErrnoException,
  { host, port }: { host: string; port: number },
): unknown {
  if (error.code === "EADDRINUSE") {
    return new RpxError("conflict", `port ${port} on ${host} is in use`, {
      why: "another program listens there",
      hint: "choose another with --port or --worker-port (0 takes a free one)",
    });
  }
  if (error.code === "EACCES" || error.code === "EADDRNOTAVAIL") {
    return new RpxError("forbidden", `cannot listen on ${host}:${port}`, {
      why: error.message,
      hint: "choose another --host or --port",
    });
  }
  return error;
}

main().catch(fail);
