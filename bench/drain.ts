/** How fast a queue that was filled beforehand empties. */
import { performance } from "node:perf_hooks";
import type { RealDaemon } from "../test/support/real-daemon.ts";
import { RUN_BODY } from "./payload.ts";
import { PEER_MODULES } from "./peers.ts";
import { output, pause } from "./processes.ts";
import { health, PROGRAMS } from "./rpx.ts";

const LOOK_EVERY_MS = 5;
const LIMIT_MS = 120_000;

export type Drain = {
  /** Jobs that have completed. */
  readonly completed: () => Promise<number>;
  /** Counting begins when so many have completed, and ends with so many more. */
  readonly warmUp: number;
  readonly jobs: number;
};

/** Jobs a second. */
export async function drainRate({ completed, warmUp, jobs }: Drain): Promise<number> {
  const first = await reach(completed, warmUp);
  const last = await reach(completed, warmUp + jobs);
  return ((last.count - first.count) * 1_000) / (last.atMs - first.atMs);
}

async function reach(
  completed: Drain["completed"],
  wanted: number,
): Promise<{ readonly count: number; readonly atMs: number }> {
  const endMs = performance.now() + LIMIT_MS;
  while (performance.now() < endMs) {
    const count = await completed();
    if (count >= wanted) return { count, atMs: performance.now() };
    await pause(LOOK_EVERY_MS);
  }
  throw new Error(`${wanted} jobs had not completed after ${LIMIT_MS} ms`);
}

/** Fills the queue of an endpoint that has no workers yet. */
export async function fillRpx(daemon: RealDaemon, name: string, jobs: number): Promise<void> {
  const program = `${PROGRAMS}/fill-rpx.mjs`;
  const target = [PEER_MODULES, `${daemon.url}/v2/${name}`, daemon.key];
  await output(process.execPath, [program, ...target, String(jobs), RUN_BODY]);
}

export async function completedOf(daemon: RealDaemon, name: string): Promise<number> {
  return (await health(daemon, name)).jobs.completed;
}
