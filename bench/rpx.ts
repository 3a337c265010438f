/** The product's side: a real supervisor and daemon from dist/ with its defaults, workers started by itself. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import {
  eventually,
  type RealDaemon,
  type RealDaemonOptions,
  startRealDaemon,
} from "../test/support/real-daemon.ts";

export const PROGRAMS = join(import.meta.dirname, "programs");
const READY_MS = 60_000;

/** Where CPU profiles of supervisor and daemon are written; none when unset. A profiled run is slower. */
const PROFILE_VARIABLE = "RPX_BENCH_PROFILE";

/** A daemon as `rpx serve` starts it, but for free ports and a folder of its own. */
export function startRpx(options: Pick<RealDaemonOptions, "config" | "command"> = {}): Promise<RealDaemon> {
  if (!existsSync(join(import.meta.dirname, "../dist"))) throw new Error("rpx is not built");
  const profiles = process.env[PROFILE_VARIABLE];
  const env = profiles === undefined ? {} : { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${profiles}` };
  const config = { logLevel: "info" as const, minFreeBytes: 1_000_000_000, ...options.config };
  return startRealDaemon({ ...options, config, env });
}

export type EndpointOptions = {
  readonly name: string;
  /** A file of bench/programs, or a path. */
  readonly handler: string;
  readonly folder?: string;
  readonly workers: number;
  readonly env?: Readonly<Record<string, string>>;
  readonly python?: string;
};

/** Creates an endpoint with a fixed number of workers, which are processes; resolves when they are idle. */
export async function createEndpoint(daemon: RealDaemon, options: EndpointOptions): Promise<void> {
  const { name, handler, folder = PROGRAMS, workers, env = {}, python } = options;
  const created = await daemon.call("POST", "/api/endpoints", {
    name,
    pool: "process",
    config: { workers: { min: workers, max: workers }, env },
    source: { kind: "folder", path: folder },
    handler,
    ...(python !== undefined && { python }),
  });
  if (created.status !== 200) throw new Error(`endpoint not created: ${created.text}`);
  await workersReady(daemon, name, workers);
}

export async function workersReady(daemon: RealDaemon, name: string, workers: number): Promise<void> {
  const idle = async () => {
    const { idle, running } = (await health(daemon, name)).workers;
    return idle + running >= workers;
  };
  await eventually(idle, READY_MS, `${workers} workers of ${name}`);
}

/** Sets how many workers an endpoint has, without waiting for them. */
export async function setWorkers(daemon: RealDaemon, name: string, workers: number): Promise<void> {
  const body = { config: { workers: { min: workers, max: workers } } };
  const reply = await daemon.call("PATCH", `/api/endpoints/${name}`, body);
  if (reply.status !== 200) throw new Error(`endpoint not changed: ${reply.text}`);
}

type Health = {
  readonly jobs: { readonly completed: number; readonly inQueue: number };
  readonly workers: { readonly idle: number; readonly running: number };
};

export async function health(daemon: RealDaemon, name: string): Promise<Health> {
  return (await daemon.call("GET", `/v2/${name}/health`)).json<Health>();
}
