import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { createSimulatedRandom } from "../../src/runtime/adapters/simulated/random.ts";
import { eventually, type RealDaemon, startRealDaemon } from "../support/real-daemon.ts";
import { findStockSdk } from "../support/stock-sdk/stock-sdk.ts";

/** Jobs of one run, and how often the daemon child is killed or replaced meanwhile. */
const JOBS = 200;
const ROUNDS = 20;
/** Length of a job: with six lanes, work for the whole time of the kills. */
const SECONDS = 0.6;
const SEED = Number(process.env.RPX_SEED ?? 42);

/** Appends its id to a file as its only effect: who ran twice shows there. */
const HANDLER = `
import asyncio, os
import runpod

async def handler(job):
    with open(os.environ["RAN_FILE"], "a") as ran:
        ran.write(job["id"] + "\\n")
    await asyncio.sleep(job["input"]["seconds"])
    return {"echo": job["input"]["n"]}

runpod.serverless.start({"handler": handler, "concurrency_modifier": lambda current: int(os.environ["LANES"])})
`;

type Run = {
  readonly daemon: RealDaemon;
  readonly ranFile: string;
  readonly endpoints: readonly string[];
  close(): Promise<void>;
};
type EchoEndpoint = {
  readonly name: string;
  readonly project: string;
  readonly workers: number;
  readonly env: Record<string, string>;
  readonly python?: string;
};
type Submitted = { readonly id: string; readonly endpoint: string; readonly n: number };
type Outcome = { readonly status: string; readonly output?: unknown };
type Detail = { readonly events: { kind: string; data: { to?: string; reason?: string } }[] };

/** Workers on our own SDK, and on the real one where it is at hand. */
async function prepare(): Promise<Run> {
  const folder = mkdtempSync(join(tmpdir(), "rpx-crash-"));
  const ranFile = join(folder, "ran");
  const project = join(folder, "echo");
  mkdirSync(project);
  writeFileSync(join(project, "handler.py"), HANDLER);
  appendFileSync(ranFile, "");
  const daemon = await startRealDaemon();
  const endpoints = ["own"];
  await createEcho(daemon, { name: "own", project, workers: 3, env: { RAN_FILE: ranFile, LANES: "2" } });
  const stock = findStockSdk();
  if ("missing" in stock) console.log(`without the real RunPod SDK: ${stock.missing}`);
  else {
    const env = { ...stock.env, RAN_FILE: ranFile, LANES: "8" };
    await createEcho(daemon, { name: "stock", project, workers: 1, env, python: stock.python });
    endpoints.push("stock");
  }
  const close = async () => {
    await daemon.stop();
    rmSync(folder, { recursive: true, force: true });
  };
  return { daemon, ranFile, endpoints, close };
}

async function createEcho(daemon: RealDaemon, echo: EchoEndpoint): Promise<void> {
  const created = await daemon.call("POST", "/api/endpoints", {
    name: echo.name,
    config: { workers: { min: echo.workers, max: echo.workers }, env: echo.env },
    source: { kind: "folder", path: echo.project },
    handler: "handler.py",
    ...(echo.python !== undefined && { python: echo.python }),
  });
  expect(created.status, created.text).toBe(200);
  const idle = async () =>
    (await daemon.call("GET", `/v2/${echo.name}/health`)).json<{ workers: { idle: number } }>().workers.idle;
  await eventually(async () => (await idle()) === echo.workers, 30_000, `the workers of ${echo.name} ready`);
}

/** Process ids of all workers. */
async function workerPids(daemon: RealDaemon): Promise<string[]> {
  return (await daemon.call("GET", "/api/workers"))
    .json<{ container: string }[]>()
    .map((worker) => worker.container)
    .sort();
}

/** Submits to the endpoints in turn until all were accepted. */
async function submitAll({ daemon, endpoints }: Run): Promise<Submitted[]> {
  const jobs: Submitted[] = [];
  for (let n = 0; n < JOBS; n += 1) {
    const endpoint = endpoints[n % endpoints.length] ?? "own";
    jobs.push({ id: await submit(daemon, endpoint, n), endpoint, n });
  }
  return jobs;
}

/** A broken connection is repeated with the same key, as a careful client does. */
async function submit(daemon: RealDaemon, endpoint: string, n: number): Promise<string> {
  for (;;) {
    try {
      const reply = await fetch(`${daemon.url}/v2/${endpoint}/run`, {
        method: "POST",
        headers: {
          authorization: `Bearer ${daemon.key}`,
          "idempotency-key": `job-${n}`,
          connection: "close",
        },
        body: JSON.stringify({ input: { n, seconds: SECONDS } }),
      });
      if (reply.status === 200) return ((await reply.json()) as { id: string }).id;
    } catch {
      // Reset by the kill: the key makes the repeat safe.
    }
  }
}

/** Looks at every job until all have ended; connections broken by a kill are tried again. */
async function outcomes(daemon: RealDaemon, jobs: readonly Submitted[]): Promise<Map<string, Outcome>> {
  const ended = new Map<string, Outcome>();
  const look = async () => {
    for (const { id, endpoint } of jobs) {
      if (ended.has(id)) continue;
      const reply = await daemon.call("GET", `/v2/${endpoint}/status/${id}`).catch(() => null);
      const body = reply?.status === 200 ? reply.json<Outcome>() : null;
      if (body && body.status !== "IN_QUEUE" && body.status !== "IN_PROGRESS") ended.set(id, body);
    }
    return ended.size === jobs.length;
  };
  await eventually(look, 90_000, "every accepted job ends");
  return ended;
}

/** Each job completed with its own output, has one terminal row in the journal, and ran. */
async function expectAllDone({ daemon, ranFile }: Run, jobs: readonly Submitted[]): Promise<void> {
  const ended = await outcomes(daemon, jobs);
  expect(new Set(jobs.map(({ id }) => id)).size).toBe(JOBS);
  const ran = runs(ranFile);
  for (const { id, n } of jobs) {
    expect(ended.get(id), `job ${n} ${id}`).toMatchObject({ status: "COMPLETED", output: { echo: n } });
    expect(await terminalRows(daemon, id)).toBe(1);
    expect(ran.has(id), `${id} never ran`).toBe(true);
  }
}

async function terminalRows(daemon: RealDaemon, id: string): Promise<number> {
  const { events } = (await daemon.call("GET", `/api/jobs/${id}`)).json<Detail>();
  const terminal = ["COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"];
  return events.filter(({ data }) => terminal.includes(data.to ?? "")).length;
}

/** How often each id was handed to the handler. */
function runs(ranFile: string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const id of readFileSync(ranFile, "utf8").trim().split("\n"))
    counts.set(id, (counts.get(id) ?? 0) + 1);
  return counts;
}

/** A job that ran twice must have its cause in the journal: the post of its first result was reset by a kill. */
async function explainRepeats(daemon: RealDaemon, ranFile: string): Promise<void> {
  const twice = [...runs(ranFile)].filter(([, count]) => count > 1);
  console.log(`kills ${ROUNDS}, jobs ${JOBS}, ran more than once: ${twice.length}`);
  for (const [id, count] of twice) {
    const { events } = (await daemon.call("GET", `/api/jobs/${id}`)).json<Detail>();
    const causes = events.filter(({ kind }) => kind === "job.return" || kind === "job.lose");
    console.log(
      `  ${id} ran ${count} times: ${causes.map(({ kind, data }) => `${kind}, ${data.reason}`).join("; ")}`,
    );
    expect(causes.length, `${id} ran ${count} times without a cause in the journal`).toBeGreaterThanOrEqual(
      count - 1,
    );
  }
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe("the daemon child dies and comes back", () => {
  test("F-01 to F-05: 20 kills under load lose no job, record no result twice, keep the workers", {
    timeout: 240_000,
  }, async () => {
    const run = await prepare();
    const { daemon, ranFile } = run;
    const random = createSimulatedRandom(SEED);
    try {
      const before = await workerPids(daemon);
      const submitting = submitAll(run);
      for (let round = 0; round < ROUNDS; round += 1) {
        await pause(100 + random.fraction() * 700);
        const pid = await eventually(
          () => daemon.childPid().catch(() => undefined),
          10_000,
          "a child to kill",
        );
        process.kill(pid, "SIGKILL");
      }
      await expectAllDone(run, await submitting);
      expect(await workerPids(daemon)).toEqual(before);
      await explainRepeats(daemon, ranFile);
    } finally {
      await run.close();
    }
  });

  test("F-40: 20 hand-overs by SIGHUP under load run no job twice", { timeout: 240_000 }, async () => {
    const run = await prepare();
    const { daemon, ranFile } = run;
    const random = createSimulatedRandom(SEED);
    try {
      const before = await workerPids(daemon);
      const submitting = submitAll(run);
      for (let round = 0; round < ROUNDS; round += 1) {
        await pause(300 + random.fraction() * 700);
        const old = await daemon.childPid();
        daemon.signal("SIGHUP");
        await eventually(
          async () => (await daemon.childPid().catch(() => old)) !== old,
          20_000,
          "a successor",
        );
        // Answered by the successor: one that is still starting is not replaced.
        expect((await daemon.call("GET", "/healthz")).status).toBe(200);
      }
      await expectAllDone(run, await submitting);
      expect(await workerPids(daemon)).toEqual(before);
      expect([...runs(ranFile)].filter(([, count]) => count > 1)).toEqual([]);
    } finally {
      await run.close();
    }
  });
});
