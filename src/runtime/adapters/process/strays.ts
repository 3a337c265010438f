import { readdirSync, readFileSync } from "node:fs";
import { setImmediate } from "node:timers/promises";
import type { WorkerId } from "../../core/model.ts";

/** Processes looked at before the event loop gets its turn: about 1 ms. */
const BATCH = 32;
const MARK = "RUNPOD_POD_ID=";

/**
 * Ends what a worker left behind outside its process group: a daemon forked twice into a session of its own (T-15). It is known by
 * the worker's id in its environment. Linux only; elsewhere the group is all there is. Sweeps asked for while one runs
 * become one.
 */
export function createStraySweep(): (workerId: WorkerId) => Promise<void> {
  let waiting = new Set<string>();
  let running: Promise<void> | null = null;

  async function run(): Promise<void> {
    while (waiting.size > 0) {
      const workerIds = waiting;
      waiting = new Set();
      await killStrays(workerIds);
    }
    running = null;
  }

  return (workerId) => {
    if (process.platform !== "linux") return Promise.resolve();
    waiting.add(workerId);
    running ??= run();
    return running;
  };
}

async function killStrays(workerIds: ReadonlySet<string>): Promise<void> {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  for (const [index, pid] of pids.entries()) {
    if (index % BATCH === 0) await setImmediate();
    const owner = ownerOf(pid);
    if (owner !== null && workerIds.has(owner)) killQuietly(Number(pid));
  }
}

/** The worker that a process says it belongs to. Null for other people's processes, which we may not ask. */
function ownerOf(pid: string): string | null {
  try {
    const variables = readFileSync(`/proc/${pid}/environ`, "utf8").split("\0");
    return variables.find((variable) => variable.startsWith(MARK))?.slice(MARK.length) ?? null;
  } catch {
    return null;
  }
}

function killQuietly(pid: number): void {
  if (pid <= 1 || pid === process.pid) return;
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It ended in between.
  }
}
