import { needCelery, startCelery } from "../celery.ts";
import { completedOf, drainRate, fillRpx } from "../drain.ts";
import type { Figure, Side } from "../figure.ts";
import { INPUT } from "../payload.ts";
import { needNpmPeers } from "../peers.ts";
import { countResults } from "../redis.ts";
import { createEndpoint, PROGRAMS, setWorkers, startRpx } from "../rpx.ts";

const LANES = 8;
const WARM_UP = 1_000;
const JOBS = 5_000;
/** Left in the queue at the end, so that no lane runs dry while it is measured. */
const REST = 500;

/** Eight lanes as a user has them: eight processes under Celery's prefork, one process with eight lanes under rpx. */
export const figure: Figure = {
  id: "p5",
  title: `jobs a second from a queue filled beforehand, ${LANES} lanes, Python`,
  peer: `Celery on Redis, prefork, concurrency ${LANES}`,
  rows: [{ name: "", unit: "jobs/s", better: "higher", gate: 1.5, stretch: 2.2 }],
  limit: "one HTTP exchange a job (result and next job in one), a synced commit for what waits together",
  prepare: async () => (await needCelery()) ?? (await needNpmPeers()),
  measure: async (side) => [await measure(side)],
};

function measure(side: Side): Promise<number> {
  return side === "rpx" ? measureRpx() : measureCelery();
}

async function measureRpx(): Promise<number> {
  const daemon = await startRpx();
  try {
    const env = { BENCH_LANES: String(LANES) };
    await createEndpoint(daemon, { name: "bench", handler: "echo.py", workers: 0, env });
    await fillRpx(daemon, "bench", WARM_UP + JOBS + REST);
    await setWorkers(daemon, "bench", 1);
    return await drainRate({ completed: () => completedOf(daemon, "bench"), warmUp: WARM_UP, jobs: JOBS });
  } finally {
    await daemon.stop();
  }
}

async function measureCelery(): Promise<number> {
  const celery = await startCelery();
  try {
    const jobs = WARM_UP + JOBS + REST;
    await celery.run(`${PROGRAMS}/celery_fill.py`, String(jobs), JSON.stringify(INPUT));
    const results = await countResults(celery.redis);
    const rate = drainRate({ completed: results.count, warmUp: WARM_UP, jobs: JOBS });
    await celery.startWorker(LANES);
    return await rate.finally(results.close);
  } finally {
    await celery.stop();
  }
}
