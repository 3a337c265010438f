/** What a supervisor that was killed left running: written down while it lives, ended when the next one starts. */
import { readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { isRunning, readBootId, readStartTime, readStat, signalGroup } from "./process-identity.ts";
import type { LiveWorker } from "./workers.ts";

/** How long the kernel may take to end what was killed, and how often we look. */
const GONE_WAIT_MS = 2000;
const GONE_POLL_MS = 20;

type Record = { readonly bootId: string; readonly processes: readonly LiveWorker[] };

/** Writes who runs, in one step: the file is whole or the one before. */
export function recordProcesses(path: string, processes: readonly LiveWorker[]): void {
  const part = `${path}.part`;
  writeFileSync(part, JSON.stringify({ bootId: readBootId(), processes } satisfies Record), { mode: 0o600 });
  renameSync(part, path);
}

/**
 * Kills the groups of what the file names and still runs, waits until they are gone, empties the file; returns the ids
 * of what was killed. A pid that belongs to another process by now (start time, boot) is left alone.
 */
export async function endLeftovers(path: string): Promise<readonly string[]> {
  const record = readRecord(path);
  const groups: LiveWorker[] = [];
  if (record.bootId === readBootId()) {
    for (const worker of record.processes) if (await isStillThere(worker)) groups.push(worker);
  }
  for (const { pid } of groups) signalGroup(pid, "SIGKILL");
  await untilGone(groups);
  recordProcesses(path, []);
  return groups.map((worker) => worker.id);
}

function readRecord(path: string): Record {
  try {
    const value = JSON.parse(readFileSync(path, "utf8")) as Partial<Record>;
    return { bootId: value.bootId ?? "", processes: (value.processes ?? []).filter(isLiveWorker) };
  } catch {
    return { bootId: "", processes: [] };
  }
}

/** A pid of 1 or less would address everybody. */
function isLiveWorker(value: LiveWorker): boolean {
  return (
    typeof value?.id === "string" &&
    typeof value.startTime === "string" &&
    Number.isSafeInteger(value.pid) &&
    value.pid > 1
  );
}

async function isStillThere(worker: LiveWorker): Promise<boolean> {
  const startTime = await readStartTime(worker.pid);
  if (startTime !== null && startTime !== worker.startTime) return false;
  return (startTime !== null && isRunning(worker.pid)) || hasOrphansOf(worker);
}

/**
 * The leader is gone, its group is not: a ping process of the SDK. It is ours when its session is the leader's and its
 * environment names the worker; another session with that number belongs to a later owner of the pid.
 */
function hasOrphansOf(worker: LiveWorker): boolean {
  if (process.platform !== "linux" || !signalGroup(worker.pid, 0)) return false;
  return readdirSync("/proc").some((entry) => /^\d+$/.test(entry) && isOrphanOf(worker, entry));
}

function isOrphanOf(worker: LiveWorker, pid: string): boolean {
  const [, , group, session] = readStat(pid) ?? [];
  if (Number(group) !== worker.pid || Number(session) !== worker.pid) return false;
  try {
    return readFileSync(`/proc/${pid}/environ`, "utf8").includes(`=${worker.id}\0`);
  } catch {
    return false;
  }
}

async function untilGone(groups: readonly LiveWorker[]): Promise<void> {
  const deadlineMs = performance.now() + GONE_WAIT_MS;
  while (performance.now() < deadlineMs && groups.some(({ pid }) => isRunning(pid)))
    await sleep(GONE_POLL_MS);
}
