/** What the script of 50 jobs runs against: supervisor and daemon from dist/, workers on both of our SDKs, a receiver. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually, type RealDaemon, startRealDaemon } from "../support/real-daemon.ts";
import { KILL_DIR, SYNCHRONOUS } from "./points.ts";
import { type Receiver, startReceiver } from "./receiver.ts";

export type World = {
  readonly daemon: RealDaemon;
  readonly receiver: Receiver;
  /** Where a named point is armed. */
  readonly killDir: string;
  /** Everything that a client was told, by all scripts. */
  readonly ledger: Ledger;
  /** How often each job was handed to its handler. */
  runs(): ReadonlyMap<string, number>;
  close(): Promise<void>;
};

/** Ids and outputs that the client was answered with. More than one of either is one too many. */
export type Ledger = {
  readonly ids: Map<string, Set<string>>;
  readonly outputs: Map<string, Set<string>>;
};

export type WorldOptions = {
  readonly dataDir?: string;
  /** Runs each transaction without a sync. */
  readonly normal?: boolean;
};

export const DAEMON_ENTRY = join(import.meta.dirname, "daemon.ts");
const READY_MS = 30_000;

/** Each appends its job's id to a file as its only effect: who ran twice shows there. */
const PYTHON_HANDLER = `
import os
import runpod

async def handler(job):
    with open(os.environ["RAN_FILE"], "a") as ran:
        ran.write(job["id"] + "\\n")
    n = job["input"]["n"]
    if job["input"]["progress"]:
        runpod.serverless.progress_update(job, {"half": n})
    return {"echo": n}

runpod.serverless.start({"handler": handler, "concurrency_modifier": lambda current: 2})
`;
const NODE_HANDLER = `
import { appendFileSync } from "node:fs";
import { start } from "rpx/worker";

async function* handler(job) {
  appendFileSync(process.env.RAN_FILE, job.id + "\\n");
  for (let part = 0; part < 3; part += 1) yield { echo: job.input.n, part };
}

await start({ handler, returnAggregateStream: true });
`;

/** Endpoints and their workers: two Python processes with two lanes each, one of Node that streams. */
const ENDPOINTS = [
  { name: "python", handler: "handler.py", text: PYTHON_HANDLER, workers: 2 },
  { name: "node", handler: "handler.mjs", text: NODE_HANDLER, workers: 1 },
] as const;

export async function startWorld({ dataDir, normal = false }: WorldOptions = {}): Promise<World> {
  const folder = mkdtempSync(join(tmpdir(), "rpx-kill-"));
  const ranFile = join(folder, "ran");
  writeFileSync(ranFile, "");
  const receiver = await startReceiver();
  const daemon = await startRealDaemon({
    dataDir: dataDir ?? join(folder, "data"),
    daemonEntry: DAEMON_ENTRY,
    env: { [KILL_DIR]: folder, [SYNCHRONOUS]: normal ? "normal" : "full" },
  });
  const close = async () => {
    await daemon.stop();
    receiver.close();
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    for (const endpoint of ENDPOINTS) await deploy(daemon, join(folder, endpoint.name), endpoint, ranFile);
  } catch (error) {
    await close();
    throw error;
  }
  return {
    daemon,
    receiver,
    killDir: folder,
    ledger: { ids: new Map(), outputs: new Map() },
    runs: () => countLines(ranFile),
    close,
  };
}

async function deploy(
  daemon: RealDaemon,
  project: string,
  { name, handler, text, workers }: (typeof ENDPOINTS)[number],
  ranFile: string,
): Promise<void> {
  mkdirSync(project);
  writeFileSync(join(project, handler), text);
  const created = await daemon.call("POST", "/api/endpoints", {
    name,
    config: { workers: { min: workers, max: workers }, env: { RAN_FILE: ranFile } },
    source: { kind: "folder", path: project },
    handler,
  });
  if (created.status !== 200) throw new Error(`endpoint ${name}: ${created.text}`);
  const idle = async () =>
    (await daemon.call("GET", `/v2/${name}/health`)).json<{ workers: { idle: number } }>().workers.idle;
  await eventually(async () => (await idle()) === workers, READY_MS, `the workers of ${name} ready`);
}

function countLines(file: string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const id of readFileSync(file, "utf8").split("\n"))
    if (id !== "") counts.set(id, (counts.get(id) ?? 0) + 1);
  return counts;
}
