import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { addCounts } from "./coverage.ts";
import type { Outcome } from "./simulate.ts";

export type SeedOutcome = Omit<Outcome, "lines">;

export type SeedRun = {
  readonly outcomes: readonly SeedOutcome[];
  readonly failed: readonly SeedOutcome[];
  readonly counts: ReadonlyMap<string, number>;
  readonly jobs: number;
  readonly seconds: number;
};

export type SeedRunOptions = {
  readonly from: number;
  readonly seeds: number;
  readonly threads?: number;
  /** Ends at the first seed that fails. */
  readonly untilFailure?: boolean;
  onOutcome?(outcome: SeedOutcome, done: number): void;
};

/** Runs a range of seeds on all cores. */
export async function runSeeds(options: SeedRunOptions): Promise<SeedRun> {
  const { from, seeds, threads = availableParallelism(), untilFailure = false, onOutcome } = options;
  const startedMs = performance.now();
  const outcomes: SeedOutcome[] = [];
  let next = from;
  let stopped = false;
  await Promise.all(Array.from({ length: Math.min(threads, seeds) }, thread));
  outcomes.sort((a, b) => a.seed - b.seed);
  const counts = new Map<string, number>();
  for (const outcome of outcomes) addCounts(counts, outcome.counts);
  return {
    outcomes,
    failed: outcomes.filter(({ violations }) => violations.length > 0),
    counts,
    jobs: outcomes.reduce((sum, { jobs }) => sum + jobs, 0),
    seconds: (performance.now() - startedMs) / 1_000,
  };

  async function thread(): Promise<void> {
    const worker = new Worker(new URL("./thread.ts", import.meta.url));
    try {
      while (next < from + seeds && !stopped) {
        const outcome = await run(worker, next++);
        outcomes.push(outcome);
        onOutcome?.(outcome, outcomes.length);
        if (untilFailure && outcome.violations.length > 0) stopped = true;
      }
    } finally {
      await worker.terminate();
    }
  }
}

function run(worker: Worker, seed: number): Promise<SeedOutcome> {
  return new Promise((resolve, reject) => {
    worker.once("message", (outcome: SeedOutcome) => {
      worker.off("error", reject);
      resolve(outcome);
    });
    worker.once("error", reject);
    worker.postMessage(seed);
  });
}
