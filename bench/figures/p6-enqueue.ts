import { join } from "node:path";
import type { Figure, Side } from "../figure.ts";
import { RUN_BODY } from "../payload.ts";
import { needPrograms } from "../peers.ts";
import { start } from "../processes.ts";
import { createEndpoint, PROGRAMS, startRpx } from "../rpx.ts";
import { postsPerSecond } from "../wrk.ts";

const CONNECTIONS = 32;
const WARM_UP_S = 2;
const SECONDS = 5;

export const figure: Figure = {
  id: "p6",
  title: `POST /run a second, ${CONNECTIONS} connections`,
  peer: "bare node:http that parses the same body",
  rows: [{ name: "", unit: "requests/s", better: "higher", gate: 0.22, stretch: 0.33 }],
  limit:
    "the bare server is the limit of one Node process; rpx adds key, checks, a synced commit of four rows",
  prepare: () => needPrograms({ wrk: "wrk" }),
  measure: async (side) => [await measure(side)],
};

function measure(side: Side): Promise<number> {
  return side === "rpx" ? measureRpx() : measureBare();
}

/** Nobody takes the jobs: what is measured is their acceptance. */
async function measureRpx(): Promise<number> {
  const daemon = await startRpx();
  try {
    await createEndpoint(daemon, { name: "bench", handler: "echo.py", workers: 0 });
    return await load(`${daemon.url}/v2/bench/run`, { Authorization: `Bearer ${daemon.key}` });
  } finally {
    await daemon.stop();
  }
}

async function measureBare(): Promise<number> {
  const server = await start(process.execPath, [join(PROGRAMS, "bare-server.mjs")]);
  try {
    return await load(`${server.readyLine}/run`, {});
  } finally {
    await server.stop();
  }
}

async function load(url: string, headers: Record<string, string>): Promise<number> {
  const options = { url, body: RUN_BODY, headers, connections: CONNECTIONS };
  await postsPerSecond({ ...options, seconds: WARM_UP_S });
  return postsPerSecond({ ...options, seconds: SECONDS });
}
