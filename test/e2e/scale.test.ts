import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually, type RealDaemon, startRealDaemon } from "../support/real-daemon.ts";
import { createFolder, deploy, FIXTURES, type JobBody } from "./endpoint.ts";

const WORKERS = 100;
/** What a hundred workers that came and went may leave behind in the supervisor and the daemon. */
const MAX_LEFT_FDS = 10;
const MAX_GROWTH_MIB = 150;

let daemon: RealDaemon;
const folder = createFolder();

beforeAll(async () => {
  daemon = await startRealDaemon();
});

afterAll(async () => {
  folder.remove();
  expect(await daemon.stop()).toBe(0);
});

function residentMiB(pid: number): number {
  const [, kiB = "0"] = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8")) ?? [];
  return Number(kiB) / 1024;
}

const openFiles = (pid: number) => readdirSync(`/proc/${pid}/fd`).length;

function childrenOf(pid: number): number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim();
  return text === "" ? [] : text.split(" ").map(Number);
}

test("0 to 100 workers and back: each runs a job, and nothing stays", { timeout: 120_000 }, async () => {
  const gate = join(folder.path, "gate");
  const endpoint = await deploy(
    daemon,
    "asleep",
    { folder: FIXTURES, handler: "asleep.py" },
    {
      workers: { min: 0, max: WORKERS, idle_timeout: "1s", flashboot: false },
      scale: { by: "request-count", threshold: 1 },
    },
  );
  const childPid = await daemon.childPid();
  const pids = [daemon.supervisorPid, childPid];
  const before = pids.map((pid) => ({ files: openFiles(pid), memory: residentMiB(pid) }));
  const startedMs = performance.now();
  // One after the other: a hundred connections kept alive by this test would count as files of the daemon.
  const ids: string[] = [];
  for (let n = 0; n < WORKERS; n += 1) ids.push(await endpoint.submit({ path: gate }));
  await eventually(
    async () => {
      const { jobs } = (await daemon.call("GET", "/v2/asleep/health")).json<{
        jobs: { inProgress: number };
      }>();
      return jobs.inProgress === WORKERS;
    },
    50_000,
    `${WORKERS} workers run a job each`,
  );
  const upMs = performance.now() - startedMs;
  expect(childrenOf(daemon.supervisorPid)).toHaveLength(WORKERS + 1);
  const top = pids.map((pid) => ({ files: openFiles(pid), memory: residentMiB(pid) }));
  writeFileSync(gate, "");
  const ended: JobBody[] = [];
  for (const id of ids) ended.push(await endpoint.end(id, 50_000));
  expect(ended.map(({ status }) => status)).toEqual(ids.map(() => "COMPLETED"));
  expect(new Set(ended.map(({ output }) => output)).size, "a job per process").toBe(WORKERS);
  expect(new Set(ended.map(({ workerId }) => workerId)).size).toBe(WORKERS);
  const doneMs = performance.now();
  await eventually(
    async () => (await endpoint.workers()).length === 0 && childrenOf(daemon.supervisorPid).length === 1,
    50_000,
    "no worker is left",
  );
  expect(childrenOf(daemon.supervisorPid)).toEqual([childPid]);
  console.log(
    `up in ${Math.round(upMs)} ms, down in ${Math.round(performance.now() - doneMs)} ms; ` +
      ["supervisor", "daemon"]
        .map((name, at) => `${name} ${fmt(before[at])} -> ${fmt(top[at])} -> ${fmt(look(pids[at]))}`)
        .join("; "),
  );
  for (const [at, pid] of pids.entries()) {
    await eventually(
      async () => openFiles(pid) <= (before[at]?.files ?? 0) + MAX_LEFT_FDS,
      20_000,
      `files of process ${pid} are closed again`,
    );
    expect(residentMiB(pid)).toBeLessThan((before[at]?.memory ?? 0) + MAX_GROWTH_MIB);
  }
});

type Look = { readonly files: number; readonly memory: number };

const look = (pid = 0): Look => ({ files: openFiles(pid), memory: residentMiB(pid) });

function fmt(seen: Look | undefined): string {
  return seen ? `${seen.files} files ${Math.round(seen.memory)} MiB` : "";
}
