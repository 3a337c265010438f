import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { createSimulatedRandom } from "../../src/runtime/adapters/simulated/random.ts";
import { eventually, type RealDaemon, startRealDaemon } from "../support/real-daemon.ts";

/** Jobs of one run, and how often the daemon child is killed or replaced meanwhile. */
const JOBS = 200;
const ROUNDS = 20;
/** Length of a job: with six lanes, work for the whole time of the kills. */
const SECONDS = 0.6;
const SEED = Number(process.env.RPX_SEED ?? 42);

/** Appends its id to a file as its only effect: who ran twice shows there. */
const HANDLER = `
import os, time
import runpod

def handler(job):
    with open(os.environ["RAN_FILE"], "a") as ran:
        ran.write(job["id"] + "\\n")
    time.sleep(job["input"]["seconds"])
    return {"echo": job["input"]["n"]}

runpod.serverless.start({"handler": handler, "concurrency_modifier": lambda current: 2})
`;

type Worker = { id: string; container: string };

type Run = { daemon: RealDaemon; ranFile: string; close(): Promise<void> };

async function prepare(env: Record<string, string> = {}): Promise<Run> {
  const folder = mkdtempSync(join(tmpdir(), "rpx-crash-"));
  const ranFile = join(folder, "ran");
  const project = join(folder, "echo");
  mkdirSync(project);
  writeFileSync(join(project, "handler.py"), HANDLER);
  appendFileSync(ranFile, "");
  const daemon = await startRealDaemon();
  const created = await daemon.call("POST", "/api/endpoints", {
    name: "echo",
    config: { workers: { min: 3, max: 3 }, env: { RAN_FILE: ranFile, ...env } },
    source: { kind: "folder", path: project },
    handler: "handler.py",
  });
  expect(created.status, created.text).toBe(200);
  await eventually(
    async () => (await workers(daemon)).length === 3 && (await idle(daemon)) === 3,
    20_000,
    "three workers ready",
  );
  return {
    daemon,
    ranFile,
    close: async () => {
      await daemon.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

async function workers(daemon: RealDaemon): Promise<Worker[]> {
  return (await daemon.call("GET", "/api/workers")).json<Worker[]>();
}

async function idle(daemon: RealDaemon): Promise<number> {
  return (await daemon.call("GET", "/v2/echo/health")).json<{ workers: { idle: number } }>().workers.idle;
}

/** Submits until all were accepted; a broken connection is repeated with the same key, as a careful client does. */
async function submitAll(daemon: RealDaemon, seconds: number): Promise<string[]> {
  const ids: string[] = [];
  for (let n = 0; n < JOBS; n += 1) ids.push(await submit(daemon, n, seconds));
  return ids;
}

async function submit(daemon: RealDaemon, n: number, seconds: number): Promise<string> {
  for (;;) {
    try {
      const reply = await fetch(`${daemon.url}/v2/echo/run`, {
        method: "POST",
        headers: {
          authorization: `Bearer ${daemon.key}`,
          "idempotency-key": `job-${n}`,
          connection: "close",
        },
        body: JSON.stringify({ input: { n, seconds } }),
      });
      if (reply.status === 200) return ((await reply.json()) as { id: string }).id;
    } catch {
      // Reset by the kill: the key makes the repeat safe.
    }
  }
}

/** Looks at every job until all have ended; connections broken by a kill are tried again. */
async function outcomes(
  daemon: RealDaemon,
  ids: readonly string[],
): Promise<Map<string, { status: string; output?: unknown }>> {
  const ended = new Map<string, { status: string; output?: unknown }>();
  await eventually(
    async () => {
      for (const id of ids) {
        if (ended.has(id)) continue;
        const reply = await daemon.call("GET", `/v2/echo/status/${id}`).catch(() => null);
        const body = reply?.status === 200 ? reply.json<{ status: string; output?: unknown }>() : null;
        if (body && body.status !== "IN_QUEUE" && body.status !== "IN_PROGRESS") ended.set(id, body);
      }
      return ended.size === ids.length;
    },
    90_000,
    "every accepted job ends",
  );
  return ended;
}

async function terminalRows(daemon: RealDaemon, id: string): Promise<number> {
  const detail = (await daemon.call("GET", `/api/jobs/${id}`)).json<{
    events: { data: { to?: string } }[];
  }>();
  return detail.events.filter(({ data }) =>
    ["COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"].includes(data.to ?? ""),
  ).length;
}

/** How often each id was handed to the handler. */
function runs(ranFile: string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const id of readFileSync(ranFile, "utf8").trim().split("\n"))
    counts.set(id, (counts.get(id) ?? 0) + 1);
  return counts;
}

describe("the daemon child dies and comes back", () => {
  test("F-01 to F-05: 20 kills under load lose no job, record no result twice, keep the workers", {
    timeout: 240_000,
  }, async () => {
    const { daemon, ranFile, close } = await prepare();
    const random = createSimulatedRandom(SEED);
    try {
      const before = (await workers(daemon)).map(({ container }) => container).sort();
      const submitting = submitAll(daemon, SECONDS);
      for (let round = 0; round < ROUNDS; round += 1) {
        await new Promise((resolve) => setTimeout(resolve, 100 + random.fraction() * 700));
        process.kill(
          await eventually(async () => daemon.childPid().catch(() => undefined), 10_000, "a child to kill"),
          "SIGKILL",
        );
      }
      const ids = await submitting;
      const ended = await outcomes(daemon, ids);
      expect(new Set(ids).size).toBe(JOBS);
      for (const [n, id] of ids.entries()) {
        expect(ended.get(id), `job ${n} ${id}`).toMatchObject({ status: "COMPLETED", output: { echo: n } });
        expect(await terminalRows(daemon, id)).toBe(1);
      }
      expect((await workers(daemon)).map(({ container }) => container).sort()).toEqual(before);
      const twice = [...runs(ranFile)].filter(([, count]) => count > 1);
      console.log(`kills ${ROUNDS}, jobs ${JOBS}, ran more than once: ${twice.length}`);
      for (const [id, count] of twice) {
        const { events } = (await daemon.call("GET", `/api/jobs/${id}`)).json<{
          events: { kind: string; data: { reason?: string } }[];
        }>();
        const why = events
          .filter(({ kind }) => kind === "job.return" || kind === "job.lose")
          .map(({ kind, data }) => `${kind}: ${data.reason}`);
        console.log(`  ${id} ran ${count} times: ${why.join("; ")}`);
        expect(why.length, `${id} ran ${count} times without a cause in the journal`).toBeGreaterThanOrEqual(
          count - 1,
        );
      }
      for (const id of ids) expect(runs(ranFile).has(id), `${id} never ran`).toBe(true);
    } finally {
      await close();
    }
  });

  test("F-40: 20 hand-overs by SIGHUP under load run no job twice", { timeout: 240_000 }, async () => {
    const { daemon, ranFile, close } = await prepare();
    const random = createSimulatedRandom(SEED);
    try {
      const before = (await workers(daemon)).map(({ container }) => container).sort();
      const submitting = submitAll(daemon, SECONDS);
      for (let round = 0; round < ROUNDS; round += 1) {
        await new Promise((resolve) => setTimeout(resolve, 300 + random.fraction() * 700));
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
      const ids = await submitting;
      const ended = await outcomes(daemon, ids);
      for (const [n, id] of ids.entries())
        expect(ended.get(id)).toMatchObject({ status: "COMPLETED", output: { echo: n } });
      expect((await workers(daemon)).map(({ container }) => container).sort()).toEqual(before);
      expect([...runs(ranFile)].filter(([, count]) => count > 1)).toEqual([]);
      expect(runs(ranFile).size).toBe(JOBS);
    } finally {
      await close();
    }
  });
});
