import { readFileSync } from "node:fs";
import { join } from "node:path";
import { completedOf, drainRate, fillRpx } from "../drain.ts";
import type { Figure, Side } from "../figure.ts";
import { needNpmPeers } from "../peers.ts";
import { temporaryFolder } from "../processes.ts";
import { createEndpoint, setWorkers, startRpx } from "../rpx.ts";
import { median } from "../run.ts";

const LANES = 8;
const DEEP = 100_000;
const SHALLOW = 1_000;
/** The first jobs of either queue: takes one by one, then a warm-up, then what the rate is taken of. */
const TAKES = 200;
const WARM_UP = 100;
const JOBS = 600;

/** The price of a backlog: the same daemon and the same worker, with a hundred times the queue. */
export const figure: Figure = {
  id: "p10",
  title: `the first jobs of 100,000 queued: ${LANES} lanes in one Node worker`,
  peer: "rpx with 1,000 queued",
  rows: [
    { name: "drain rate", unit: "jobs/s", better: "higher", gate: 0.85, stretch: 0.95 },
    { name: "take p50", unit: "ms", better: "lower", gate: 1.25, stretch: 1.1 },
  ],
  limit: "a take reads the first entry of an index, whose depth grows with the logarithm of the queue",
  prepare: needNpmPeers,
  measure: (side) => measure(side),
};

async function measure(side: Side): Promise<readonly number[]> {
  const daemon = await startRpx();
  const folder = temporaryFolder();
  try {
    const out = join(folder.path, "takes.json");
    const env = { BENCH_LANES: String(LANES), BENCH_TAKES: String(TAKES), BENCH_OUT: out };
    await createEndpoint(daemon, { name: "bench", handler: "timed-takes.mjs", workers: 0, env });
    await fillRpx(daemon, "bench", side === "rpx" ? DEEP : SHALLOW);
    await setWorkers(daemon, "bench", 1);
    const completed = () => completedOf(daemon, "bench");
    const rate = await drainRate({ completed, warmUp: TAKES + WARM_UP, jobs: JOBS });
    return [rate, median(JSON.parse(readFileSync(out, "utf8")))];
  } finally {
    await daemon.stop();
    folder.remove();
  }
}
