/** A real daemon whose workers are containers, with what tests ask of its engine and its journal. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { execa } from "execa";
import { expect } from "vitest";
import type { CreateEndpoint, EndpointBody } from "../../src/contract/schemas/endpoint.ts";
import type { EventBody } from "../../src/contract/schemas/job.ts";
import type { ReleaseBody } from "../../src/contract/schemas/release.ts";
import type { WorkerBody } from "../../src/contract/schemas/worker.ts";
import { packFolder } from "../../src/project/pack.ts";
import { createDockerNetwork } from "../../src/runtime/adapters/docker/network.ts";
import { attach, createFolder, type DeployedEndpoint } from "../e2e/endpoint.ts";
import { openEngine } from "./engine/open.ts";
import { eventually, type RealDaemon, type RealDaemonOptions, startRealDaemon } from "./real-daemon.ts";

/** Containers and rows agree this long after whatever happened (ACC-10). */
const AGREE_MS = 10_000;
const DOCKER_LIMIT_MS = 60_000;
const LIVE_MS = 60_000;
const GATE = "/tmp/go";
const HANDLER = readFileSync(path.resolve("test/fixtures/e2e/container/handler.py"), "utf8");
/** Workers of many endpoints at once, whatever machine this is. */
const BUDGET = { cpus: 64, memoryBytes: 2 ** 40, diskBytes: 2 ** 44 };

export type ContainerDaemonOptions = Pick<RealDaemonOptions, "config" | "env" | "command" | "reach"> & {
  /** DOCKER_HOST of an engine that its test ends, with all that is there. Absent: this machine's own, which is tidied up. */
  readonly host?: string;
  /** Owner of the data directory, where the daemon is not run by the user of the tests. */
  readonly chown?: (folder: string) => void;
};

export type ContainerDaemon = {
  /** The one that runs now. */
  daemon(): RealDaemon;
  /** The data directory's id: what all that is ours at the engine carries as `rpx.daemon`. */
  readonly daemonId: string;
  readonly call: RealDaemon["call"];
  /** Starts another on the same data, the one before having ended. */
  startAgain(config?: RealDaemonOptions["config"]): Promise<void>;
  /** `kill -9` of supervisor and daemon at once. */
  killAll(): Promise<void>;
  /** `kill -9` of the daemon child alone; resolves when its successor answers. */
  killChild(): Promise<void>;
  docker(...args: string[]): Promise<string>;
  /** Ids of all containers that carry this daemon's label. */
  containers(): Promise<string[]>;
  /** Sends the handler's folder with more files; what an endpoint's source is then. */
  send(release: string, files?: Readonly<Record<string, string>>): Promise<CreateEndpoint["source"]>;
  create(
    name: string,
    release: string,
    config?: CreateEndpoint["config"],
    more?: object,
  ): Promise<DeployedEndpoint>;
  /** Makes a release of another folder; its version. It is not waited for. */
  roll(name: string, release: string, files?: Readonly<Record<string, string>>): Promise<number>;
  release(name: string, version: number): Promise<ReleaseBody>;
  /** Waits until a release is in that state; the release. */
  releaseIs(name: string, version: number, state: ReleaseBody["state"]): Promise<ReleaseBody>;
  endpoint(name: string): Promise<EndpointBody>;
  worker(id: string): Promise<WorkerBody>;
  /** Once it is known which container it is. */
  settledWorker(id: string): Promise<WorkerBody>;
  /** Submits a job that waits for its gate, and waits until a worker has it. */
  busy(endpoint: DeployedEndpoint): Promise<{ readonly id: string; readonly worker: WorkerBody }>;
  /** Lets the waiting jobs of a worker go on. */
  openGate(container: string): Promise<void>;
  /** The journal as it is now, from its beginning. */
  journal(): Promise<EventBody[]>;
  /** Lines `ran JOB` of an endpoint's workers, by job: how often each was begun. */
  runs(endpoint: DeployedEndpoint): Promise<Map<string, number>>;
  /** Containers are exactly those that the rows of workers name, 10 s from now at the latest; of all endpoints, or of one. */
  agree(name?: string): Promise<void>;
  /** Ends the daemon and removes all that it made. */
  close(): Promise<void>;
};

export async function startContainerDaemon(options: ContainerDaemonOptions = {}): Promise<ContainerDaemon> {
  const home = mkdtempSync(path.join(tmpdir(), "rpx-containers-"));
  options.chown?.(home);
  const dataDir = path.join(home, "data");
  const code = createFolder();
  // The same after each restart: it is in the environment of the containers.
  const workerPort = await freePort();
  const env = { ...options.env, ...(options.host && { DOCKER_HOST: options.host }) };

  async function start(config: RealDaemonOptions["config"] = {}): Promise<RealDaemon> {
    const { config: common, command, reach } = options;
    return startRealDaemon({
      ...{ dataDir, env },
      ...(command && { command }),
      ...(reach && { reach }),
      config: { pool: "docker", workerPort, budget: BUDGET, ...common, ...config },
    });
  }

  let daemon = await start();
  const daemonId = readFileSync(path.join(dataDir, "id"), "utf8").trim();
  const label = `label=rpx.daemon=${daemonId}`;

  const docker = async (...args: string[]): Promise<string> =>
    (await execa("docker", args, { env, timeout: DOCKER_LIMIT_MS })).stdout.trim();
  const ids = async (...args: string[]) => (await docker(...args)).split("\n").filter(Boolean);
  const containers = (...filters: string[]) =>
    ids("ps", "--all", "--quiet", "--no-trunc", ...[label, ...filters].flatMap((each) => ["--filter", each]));

  const call: RealDaemon["call"] = (...args) => daemon.call(...args);
  async function get<T>(address: string): Promise<T> {
    const reply = await call("GET", address);
    expect(reply.status, reply.text).toBe(200);
    return reply.json<T>();
  }

  const endpoint = (name: string): Promise<EndpointBody> => get(`/api/endpoints/${name}`);

  const send: ContainerDaemon["send"] = async (release, files = {}) => {
    const folder = code.write({ "handler.py": HANDLER, "release.txt": release, ...files });
    const packed = await packFolder(folder);
    const body = new Uint8Array(await new Response(packed.open() as never).arrayBuffer());
    const reply = await fetch(`${daemon.url}/api/bundles/${packed.digest}`, {
      method: "PUT",
      headers: { authorization: `Bearer ${daemon.key}`, "content-length": String(packed.bytes) },
      body,
    });
    expect(reply.status, await reply.text()).toBe(200);
    await packed.dispose();
    return { kind: "bundle", digest: packed.digest };
  };

  /** Where a Dockerfile says what runs, no handler is named. */
  const codeOf = async (release: string, files: Readonly<Record<string, string>> = {}) => ({
    source: await send(release, files),
    ...("Dockerfile" in files ? { dockerfile: "Dockerfile" } : { handler: "handler.py" }),
  });

  const create: ContainerDaemon["create"] = async (name, release, config = {}, more = {}) => {
    const body = { name, config, ...(await codeOf(release)), ...more };
    const created = await call("POST", "/api/endpoints", body);
    expect(created.status, created.text).toBe(200);
    return attach({ call }, name);
  };

  const roll: ContainerDaemon["roll"] = async (name, release, files) => {
    const reply = await call("PATCH", `/api/endpoints/${name}`, {
      code: await codeOf(release, files),
      origin: "deploy",
    });
    expect(reply.status, reply.text).toBe(200);
    return reply.json<{ madeRelease: number }>().madeRelease;
  };

  const release: ContainerDaemon["release"] = (name, version) =>
    get(`/api/endpoints/${name}/releases/${version}`);

  const releaseIs: ContainerDaemon["releaseIs"] = async (name, version, state) => {
    let last: ReleaseBody | null = null;
    const isThere = async () => {
      last = await release(name, version).catch(() => last);
      return last?.state === state && last;
    };
    return eventually(isThere, LIVE_MS, `release ${version} of ${name} is ${state}`).catch((error: Error) => {
      throw new Error(`${error.message}; it is ${last?.state}: ${last?.reason}`);
    });
  };

  /** A worker may have a job before it is noted which container it is. */
  const settledWorker: ContainerDaemon["settledWorker"] = (id) =>
    eventually(
      async () => {
        const worker = await get<WorkerBody>(`/api/workers/${id}`);
        return worker.container !== null && worker;
      },
      LIVE_MS,
      `the container of ${id} is known`,
    );

  const busy: ContainerDaemon["busy"] = async (on) => {
    const id = await on.submit({ do: "wait" });
    const { workerId = "" } = await on.until(id, ["IN_PROGRESS"], LIVE_MS);
    return { id, worker: await settledWorker(workerId) };
  };

  async function journal(): Promise<EventBody[]> {
    const { journalSeq } = await get<{ journalSeq: number }>("/api/status");
    const leaving = new AbortController();
    const reply = await fetch(`${daemon.url}/api/events?after=0`, {
      headers: { authorization: `Bearer ${daemon.key}` },
      signal: leaving.signal,
    });
    const events: EventBody[] = [];
    let text = "";
    for await (const part of reply.body?.pipeThrough(new TextDecoderStream()) ?? []) {
      const rows = (text + part).split("\n\n");
      text = rows.pop() ?? "";
      for (const row of rows) {
        const data = /^data: (.*)$/m.exec(row)?.[1];
        if (data !== undefined) events.push(JSON.parse(data) as EventBody);
      }
      if ((events.at(-1)?.seq ?? 0) >= journalSeq) break;
    }
    leaving.abort();
    return events;
  }

  async function runs({ name }: DeployedEndpoint): Promise<Map<string, number>> {
    const { text } = await call("GET", `/api/endpoints/${name}/logs?tail=5000&grep=ran`);
    const jobs = [...text.matchAll(/"line":"ran (\S+) /g)].map(([, job]) => job ?? "");
    return new Map([...Map.groupBy(jobs, (job) => job)].map(([job, all]) => [job, all.length]));
  }

  async function agree(name?: string): Promise<void> {
    let seen: unknown;
    const of = name === undefined ? "" : `?endpoint=${name}`;
    const only = name === undefined ? [] : [`label=rpx.endpoint=${(await endpoint(name)).id}`];
    const same = async () => {
      const workers = (await call("GET", `/api/workers${of}`)).json<WorkerBody[]>();
      const rows = workers.filter(({ state }) => state !== "unhealthy" && state !== "throttled");
      const [named, present] = [
        rows.map(({ container }) => container).sort(),
        (await containers(...only)).sort(),
      ];
      seen = { rows: rows.map(({ id, state, container }) => ({ id, state, container })), present };
      return JSON.stringify(named) === JSON.stringify(present);
    };
    await eventually(same, AGREE_MS, "containers equal rows").catch((error: Error) => {
      throw new Error(`${error.message}: ${JSON.stringify(seen)}`);
    });
  }

  async function killAll(): Promise<void> {
    const child = await daemon.childPid();
    process.kill(daemon.supervisorPid, "SIGKILL");
    process.kill(child, "SIGKILL");
    await daemon.ended;
  }

  async function killChild(): Promise<void> {
    const child = await daemon.childPid();
    process.kill(child, "SIGKILL");
    const isAnother = async () => (await daemon.childPid().catch(() => child)) !== child;
    await eventually(isAnother, LIVE_MS, "another daemon child");
    const answers = async () => (await call("GET", "/healthz").catch(() => null))?.status === 200;
    await eventually(answers, LIVE_MS, "the daemon answers again");
  }

  async function tidyUp(): Promise<void> {
    for (const id of await containers()) {
      await docker("unpause", id).catch(() => {});
      await docker("rm", "--force", "--volumes", id).catch(() => {});
    }
    const engine = await openEngine(`rpx.daemon=${daemonId}`);
    const network = { engine, daemonId, workerPort: () => workerPort, workerUrl: null, openNetworks: [] };
    await createDockerNetwork(network).remove();
    await engine.close();
    const images = new Set(await ids("images", "--quiet", "--no-trunc", "--filter", label));
    if (images.size > 0) await docker("rmi", "--force", ...images);
  }

  return {
    daemon: () => daemon,
    daemonId,
    ...{ send, create, roll, release, releaseIs, settledWorker, busy },
    ...{ endpoint, killAll, killChild, call, docker, journal, runs, agree },
    containers: () => containers(),
    startAgain: async (config) => {
      daemon = await start(config);
    },
    worker: (id) => get(`/api/workers/${id}`),
    openGate: async (container) => void (await docker("exec", container, "touch", GATE)),
    close: async () => {
      daemon.signal("SIGCONT");
      await daemon.stop();
      if (options.host === undefined) await tidyUp();
      code.remove();
      rmSync(home, { recursive: true, force: true });
    },
  };
}

/** A port that nobody uses now, on any address of this machine. */
function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "0.0.0.0", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
}
