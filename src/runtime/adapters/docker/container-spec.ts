import type Dockerode from "dockerode";
import type { BuiltImage, BuiltMount } from "../../core/model.ts";
import type { WorkerStart } from "../../ports/worker-pool.ts";
import { containerEnv } from "./container-env.ts";
import { HOST_ALIAS } from "./network-port.ts";

export const LABELS = {
  daemon: "rpx.daemon",
  role: "rpx.role",
  worker: "rpx.worker",
  endpoint: "rpx.endpoint",
  release: "rpx.release",
  /** Bytes that its own layer may have; absent: no limit, or one that the engine keeps. */
  diskBytes: "rpx.disk-bytes",
} as const;
export const WORKER_ROLE = "worker";

/** All that a container of ours may be given of root's powers (design.md 4.2). */
export const CAPABILITIES = [
  "CHOWN",
  "DAC_OVERRIDE",
  "FOWNER",
  "FSETID",
  "KILL",
  "SETGID",
  "SETUID",
  "NET_BIND_SERVICE",
] as const;

/** Open files of one process. An engine that may not raise its own limit (20,000 on some machines, rootless ones) starts nothing above it. */
const MAX_OPEN_FILES = 16_384;
/** What the engine itself keeps of a container's output; followed into files of ours. */
const LOG_FILE_SIZE = "10m";
const LOG_FILES = "3";
const NANO = 1e9;

export type SpecInput = {
  readonly worker: WorkerStart;
  readonly built: BuiltImage;
  readonly daemonId: string;
  /** A network by name, or a prepared namespace as `container:ID`. */
  readonly networkMode: string;
  /** The containers of an engine that runs elsewhere reach this machine by a name. */
  readonly needsHostAlias: boolean;
  readonly image: {
    readonly env: Readonly<Record<string, string>>;
    readonly labels: Readonly<Record<string, string>>;
  };
  /** With real paths, and allowed: see `resolveMounts`. */
  readonly mounts: readonly BuiltMount[];
  readonly engine: { readonly cpus: number; readonly canLimitDisk: boolean };
};

export type ContainerSpec = {
  readonly options: Dockerode.ContainerCreateOptions;
  readonly warnings: readonly string[];
};

/**
 * What the engine is asked to create for a worker: the only place where a container of ours gets its rights (T-12, T-14). Pure. Nothing in
 * an endpoint's settings reaches the host's namespaces, devices, sockets or capabilities.
 */
export function containerSpec(input: SpecInput): ContainerSpec {
  const { worker, built, image } = input;
  const env = containerEnv(built, worker.env, image.env);
  const cpus = cpuShare(worker.limits.cpus, input.engine.cpus);
  return {
    options: {
      name: containerName(worker.workerId),
      Image: built.image,
      Hostname: worker.workerId,
      Env: [...env.list],
      Labels: labels(input),
      ...(built.entrypoint === null ? {} : { Entrypoint: [...built.entrypoint] }),
      ...(built.command === null ? {} : { Cmd: [...built.command] }),
      Tty: false,
      OpenStdin: false,
      AttachStdin: false,
      AttachStdout: false,
      AttachStderr: false,
      StopSignal: "SIGTERM",
      // A worker's health is what it says over the protocol.
      Healthcheck: { Test: ["NONE"] },
      HostConfig: hostConfig(input, cpus.nanoCpus),
    },
    warnings: [...env.warnings, ...cpus.warnings],
  };
}

export function containerName(workerId: string): string {
  return `rpx-${workerId}`;
}

/** The declared type lacks a field that engines have had since 20.10. */
type HostConfig = Dockerode.HostConfig & { readonly CgroupnsMode: "private" };

function hostConfig(input: SpecInput, nanoCpus: number | null): HostConfig {
  const { limits } = input.worker;
  const limitsDisk = limits.diskBytes !== null && input.engine.canLimitDisk;
  return {
    NetworkMode: input.networkMode,
    // Signals reach the worker's program, and what it leaves behind is collected.
    Init: true,
    Privileged: false,
    SecurityOpt: ["no-new-privileges"],
    CapDrop: ["ALL"],
    CapAdd: [...CAPABILITIES],
    // The engine reads 0 as no limit.
    PidsLimit: Math.max(1, limits.pids),
    // Memory and swap together: equal means no swap.
    ...(limits.memoryBytes === null ? {} : { Memory: limits.memoryBytes, MemorySwap: limits.memoryBytes }),
    ...(nanoCpus === null ? {} : { NanoCpus: nanoCpus }),
    ...(limits.shmBytes === null ? {} : { ShmSize: limits.shmBytes }),
    ...(limitsDisk ? { StorageOpt: { size: String(limits.diskBytes) } } : {}),
    LogConfig: { Type: "json-file", Config: { "max-size": LOG_FILE_SIZE, "max-file": LOG_FILES } },
    // A worker id is used once, ever: an ended container is never started again by the engine.
    RestartPolicy: { Name: "no" },
    AutoRemove: false,
    Ulimits: [
      { Name: "nofile", Soft: MAX_OPEN_FILES, Hard: MAX_OPEN_FILES },
      // A core file holds the worker's memory, keys included (T-24).
      { Name: "core", Soft: 0, Hard: 0 },
    ],
    IpcMode: "private",
    CgroupnsMode: "private",
    PublishAllPorts: false,
    ...(input.needsHostAlias ? { ExtraHosts: [`${HOST_ALIAS}:host-gateway`] } : {}),
    Mounts: input.mounts.map(({ source, target, readOnly }) => ({
      Type: "bind" as const,
      Source: source,
      Target: target,
      ReadOnly: readOnly,
      BindOptions: { Propagation: "rprivate" as const },
    })),
  };
}

/** Ours win over the image's, which cannot add one that looks like ours. */
function labels({ worker, daemonId, image, engine }: SpecInput): Record<string, string> {
  const { diskBytes } = worker.limits;
  const foreign = Object.keys(image.labels).filter((name) => name.startsWith("rpx."));
  return {
    ...Object.fromEntries(foreign.map((name) => [name, ""])),
    [LABELS.daemon]: daemonId,
    [LABELS.role]: WORKER_ROLE,
    [LABELS.worker]: worker.workerId,
    [LABELS.endpoint]: worker.endpointId,
    [LABELS.release]: String(worker.release),
    ...(diskBytes === null || engine.canLimitDisk ? {} : { [LABELS.diskBytes]: String(diskBytes) }),
  };
}

/** The engine refuses more CPUs than there are. */
function cpuShare(
  wanted: number | null,
  available: number,
): { readonly nanoCpus: number | null; readonly warnings: readonly string[] } {
  if (wanted === null) return { nanoCpus: null, warnings: [] };
  const isTooMany = available > 0 && wanted > available;
  return {
    nanoCpus: Math.round((isTooMany ? available : wanted) * NANO),
    warnings: isTooMany ? [`a limit of ${wanted} CPUs is more than the ${available} there are`] : [],
  };
}
