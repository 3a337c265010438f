import { join } from "node:path";
import type { Figure, Side } from "../figure.ts";
import { INPUT, RUN_BODY } from "../payload.ts";
import { needNpmPeers, needPrograms, PEER_MODULES, startRedis } from "../peers.ts";
import { output, start } from "../processes.ts";
import { createEndpoint, PROGRAMS, startRpx } from "../rpx.ts";

const LANES = 8;
const IN_FLIGHT = 32;
const JOBS = 10_000;
const WARM_UP_JOBS = 3_000;

/** One producer and one Node worker process with eight lanes on either side, every accepted job and result synced. */
export const figure: Figure = {
  id: "p4",
  title: `jobs a second, submitted and run: ${LANES} lanes in one Node worker, ${IN_FLIGHT} submits in flight`,
  peer: "BullMQ on Redis, AOF always",
  rows: [{ name: "", unit: "jobs/s", better: "higher", gate: 0.45, stretch: 0.75 }],
  limit: "two HTTP requests a job (submit; result and next job in one) through one Node process",
  prepare: async () => (await needPrograms({ "redis-server": "redis-server" })) ?? (await needNpmPeers()),
  measure: async (side) => [await measure(side)],
};

function measure(side: Side): Promise<number> {
  return side === "rpx" ? measureRpx() : measureBullMq();
}

async function measureRpx(): Promise<number> {
  const daemon = await startRpx();
  try {
    const env = { BENCH_LANES: String(LANES) };
    await createEndpoint(daemon, { name: "bench", handler: "echo.mjs", workers: 1, env });
    const producer = [join(PROGRAMS, "produce-rpx.mjs"), PEER_MODULES, `${daemon.url}/v2/bench`, daemon.key];
    return await rate((jobs) => [...producer, jobs, String(IN_FLIGHT), RUN_BODY]);
  } finally {
    await daemon.stop();
  }
}

async function measureBullMq(): Promise<number> {
  const redis = await startRedis(true);
  const place = [PEER_MODULES, String(redis.port)];
  const worker = await start(process.execPath, [
    join(PROGRAMS, "bullmq-worker.mjs"),
    ...place,
    String(LANES),
  ]);
  try {
    const producer = [join(PROGRAMS, "produce-bullmq.mjs"), ...place];
    return await rate((jobs) => [...producer, jobs, String(IN_FLIGHT), JSON.stringify(INPUT)]);
  } finally {
    await worker.stop();
    await redis.stop();
  }
}

/** Jobs a second that the producer saw complete, after a warm-up. */
async function rate(producer: (jobs: string) => readonly string[]): Promise<number> {
  await output(process.execPath, producer(String(WARM_UP_JOBS)));
  const ms = Number(await output(process.execPath, producer(String(JOBS))));
  return (JOBS * 1_000) / ms;
}
