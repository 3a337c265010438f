/** The Docker engine without rpx: the peers of containers, and what a measured daemon leaves behind on purpose. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { createFirewall } from "../src/runtime/adapters/docker/firewall.ts";
import { ensureImages, findEngine, PYTHON_IMAGE } from "../test/support/engine/engine.ts";
import { call, type Reply } from "./http.ts";

const START = join(import.meta.dirname, "../test/support/engine/start.sh");
const SOCKET = (process.env.DOCKER_HOST || "unix:///var/run/docker.sock").replace(/^unix:\/\//, "");
/** Where the peers' containers see the folder of programs. */
const PLACE = "/bench";

/** Starts an engine where none answers and makes the base image. Null, or why containers cannot be measured here. */
export async function needEngine(): Promise<string | null> {
  if (!SOCKET.startsWith("/")) return "DOCKER_HOST names no socket of this machine";
  if ("missing" in findEngine() && process.getuid?.() === 0) spawnSync("bash", [START], { stdio: "inherit" });
  const found = findEngine();
  if ("missing" in found) return `no Docker engine: ${found.missing}`;
  ensureImages([PYTHON_IMAGE]);
  return null;
}

/** Asks the engine; throws with what it said when it refuses. */
export async function ask(method: string, path: string, body?: unknown): Promise<Reply> {
  const reply = await call({ socketPath: SOCKET, method, path }, body);
  if (reply.status >= 400) throw new Error(`${method} ${path}: ${reply.text}`);
  return reply;
}

/** A bare container of one of the programs, on the engine's own bridge; its id. */
export async function createBare(folder: string, program: string): Promise<string> {
  const { text } = await ask("POST", "/containers/create", {
    Image: PYTHON_IMAGE,
    Cmd: ["python", "-u", `${PLACE}/${program}`],
    Labels: { "rpx.bench": "1" },
    HostConfig: { Binds: [`${folder}:${PLACE}:ro`] },
  });
  return (JSON.parse(text) as { Id: string }).Id;
}

export async function removeContainer(id: string): Promise<void> {
  await ask("DELETE", `/containers/${id}?force=1&v=1`);
}

export type Inspected = { readonly State: { readonly Status: string; readonly Pid: number } };

export async function inspect(id: string): Promise<Inspected> {
  return JSON.parse((await ask("GET", `/containers/${id}/json`)).text);
}

/** Ids of a daemon's containers. */
export async function containersOf(daemonId: string): Promise<string[]> {
  return idsOf(`/containers/json?all=1&${labelled(daemonId)}`);
}

/** Containers, images, network and rules of a daemon whose data is given up. */
export async function clearDaemon(daemonId: string): Promise<void> {
  for (const id of await containersOf(daemonId)) await removeContainer(id);
  for (const id of await idsOf(`/images/json?${labelled(daemonId)}`))
    await ask("DELETE", `/images/${id}?force=1`);
  for (const id of await idsOf(`/networks?${labelled(daemonId)}`)) await ask("DELETE", `/networks/${id}`);
  if (process.getuid?.() === 0) await createFirewall({ daemonId }).remove();
}

function labelled(daemonId: string): string {
  return `filters=${encodeURIComponent(JSON.stringify({ label: [`rpx.daemon=${daemonId}`] }))}`;
}

async function idsOf(path: string): Promise<string[]> {
  const found = JSON.parse((await ask("GET", path)).text) as { readonly Id: string }[];
  return found.map(({ Id }) => Id);
}
