import { needCelery, startCelery } from "../celery.ts";
import type { Figure, Side } from "../figure.ts";
import { INPUT, RUN_BODY } from "../payload.ts";
import { PYTHON } from "../peers.ts";
import { output } from "../processes.ts";
import { createEndpoint, PROGRAMS, startRpx } from "../rpx.ts";
import { median } from "../run.ts";

const WARM_UP_CALLS = 200;
const CALLS = 600;

export const figure: Figure = {
  id: "p1",
  title: "one call after another until its result is there, p50: Python client, one warm Python worker",
  peer: "Celery on Redis, apply_async().get()",
  rows: [{ name: "", unit: "ms", better: "lower", gate: 0.9, stretch: 0.65 }],
  limit: "two HTTP exchanges on loopback and two synced commits (submit, result)",
  prepare: needCelery,
  measure: async (side) => [median(await measure(side))],
};

function measure(side: Side): Promise<number[]> {
  return side === "rpx" ? measureRpx() : measureCelery();
}

async function measureRpx(): Promise<number[]> {
  const daemon = await startRpx();
  try {
    await createEndpoint(daemon, { name: "bench", handler: "echo.py", workers: 1 });
    const args = [
      `${daemon.url}/v2/bench/runsync`,
      daemon.key,
      String(WARM_UP_CALLS),
      String(CALLS),
      RUN_BODY,
    ];
    return JSON.parse(await output(PYTHON, [`${PROGRAMS}/rpx_latency.py`, ...args]));
  } finally {
    await daemon.stop();
  }
}

async function measureCelery(): Promise<number[]> {
  const celery = await startCelery();
  try {
    await celery.startWorker(1);
    const args = [String(WARM_UP_CALLS), String(CALLS), JSON.stringify(INPUT)];
    return JSON.parse(await celery.run(`${PROGRAMS}/celery_latency.py`, ...args));
  } finally {
    await celery.stop();
  }
}
