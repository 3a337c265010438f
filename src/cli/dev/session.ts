import { basename } from "node:path";
import { type Client, createClient } from "../../client/client.ts";
import { createHttpSend } from "../../client/send-http.ts";
import type { EndpointBody } from "../../contract/schemas/endpoint.ts";
import type { Project } from "../../project/load.ts";
import { endpointNameFrom } from "../../project/name.ts";
import { sanitizeLine } from "../../text/sanitize.ts";
import { inVain } from "../in-vain.ts";
import { talk } from "../output.ts";
import { type DevDaemon, startDevDaemon } from "./daemon.ts";
import { type DevPool, deployFolder } from "./deploy.ts";
import { devDataDir } from "./folder.ts";
import { followLogs, type LogFollower } from "./logs.ts";
import { withPatience } from "./patience.ts";

export type SessionOptions = {
  readonly project: Project;
  readonly port: number;
  readonly python: string | undefined;
  readonly pool: DevPool;
  readonly isWarm: boolean;
  readonly signal: AbortSignal;
};

/** A running daemon with the folder's endpoint on it and its workers' output on stderr. */
export type Session = {
  readonly daemon: DevDaemon;
  readonly client: Client;
  readonly endpoint: EndpointBody;
  readonly pool: DevPool;
  readonly logs: LogFollower;
  /** Fires when the user stops it, and when the daemon dies. */
  readonly signal: AbortSignal;
  /** A client that no Ctrl-C stops, each call at most so long. */
  readonly calm: (limitMs: number) => Client;
};

/** Starts the daemon of a folder, runs `work` on it and stops everything again, whatever happens. */
export async function withSession<Result>(
  options: SessionOptions,
  work: (session: Session) => Promise<Result>,
): Promise<Result> {
  const { project, port, python, pool, signal } = options;
  const dataDir = devDataDir(project.folder, process.env);
  const since = new Date().toISOString();
  const starting = startDevDaemon({ dataDir, port, python, pool, signal });
  const daemon = await withPatience(starting, async () => "the daemon to start");
  const gone = new AbortController();
  void daemon.died.then((error) => gone.abort(error));
  try {
    const running = AbortSignal.any([signal, gone.signal]);
    return await onDaemon(daemon, { ...options, signal: running }, { since, work });
  } catch (error) {
    // What was under way then failed for want of the daemon.
    gone.signal.throwIfAborted();
    throw error;
  } finally {
    await daemon.stop();
  }
}

type Task<Result> = { readonly since: string; readonly work: (session: Session) => Promise<Result> };

async function onDaemon<Result>(
  daemon: DevDaemon,
  { project, pool, isWarm, signal }: SessionOptions,
  { since, work }: Task<Result>,
): Promise<Result> {
  const send = createHttpSend({ url: daemon.url, key: daemon.key });
  const connect = (until: AbortSignal): Client => createClient({ send, signal: until });
  const client = connect(signal);
  const calm = (limitMs: number): Client => connect(AbortSignal.timeout(limitMs));
  const name = project.name ?? endpointNameFrom(basename(project.folder));
  const endpoint = await withPatience(deployFolder(client, project, { name, pool, isWarm }), async () =>
    pool === "docker"
      ? "the folder's image to be built"
      : "the folder to be prepared; missing packages of a requirements.txt are installed",
  );
  const warnings = [...project.warnings, ...endpoint.warnings, ...inVain(pool, project.config)];
  for (const warning of warnings) talk(sanitizeLine(`warning: ${warning}`));
  const logs = followLogs(connect, endpoint.id, since);
  try {
    const result = await work({ daemon, client, calm, endpoint, pool, logs, signal });
    signal.throwIfAborted();
    return result;
  } finally {
    logs.end();
  }
}
