/** Tells a process from a later owner of its pid. */
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { promisify } from "node:util";

/** Field 22 of /proc/<pid>/stat, counted behind the closing bracket of the program's name (field 2). */
const START_TIME_FIELD = 22 - 3;

const run = promisify(execFile);

/**
 * When the process started, as the kernel says it: clock ticks since boot on Linux, a date elsewhere. Null when there
 * is no such process.
 */
export async function readStartTime(pid: number): Promise<string | null> {
  return process.platform === "linux" ? (readStat(pid)?.[START_TIME_FIELD] ?? null) : await startDate(pid);
}

/** Whether it still runs: one that ended and waits for its parent to look has a pid, but nothing else. */
export function isRunning(pid: number): boolean {
  if (process.platform === "linux") return !["Z", "X", undefined].includes(readStat(pid)?.[0]);
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** This boot of the machine: start ticks mean nothing after the next. Empty where start times are dates. */
export function readBootId(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return "";
  }
}

/** The fields of /proc/<pid>/stat behind the program's name, which may hold brackets and spaces: state, parent, group, session ... */
export function readStat(pid: number | string): readonly string[] | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  } catch {
    return null;
  }
}

async function startDate(pid: number): Promise<string | null> {
  try {
    const { stdout } = await run("ps", ["-o", "lstart=", "-p", String(pid)]);
    return stdout.trim() || null;
  } catch {
    return null;
  }
}

/** Signals a whole process group; false when no process is left in it. */
export function signalGroup(leaderPid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(-leaderPid, signal);
    return true;
  } catch {
    return false;
  }
}
