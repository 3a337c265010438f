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
  return process.platform === "linux" ? startTicks(pid) : await startDate(pid);
}

/** This boot of the machine: start ticks mean nothing after the next. Empty where start times are dates. */
export function readBootId(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return "";
  }
}

function startTicks(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[START_TIME_FIELD] ?? null;
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
