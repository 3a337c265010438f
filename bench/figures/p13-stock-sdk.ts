import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createMockJobServer } from "../../test/support/mock-job-server.ts";
import type { RealDaemon } from "../../test/support/real-daemon.ts";
import { findStockSdk, type StockSdk } from "../../test/support/stock-sdk/stock-sdk.ts";
import { completedOf, fillRpx } from "../drain.ts";
import type { Figure, Side } from "../figure.ts";
import { INPUT } from "../payload.ts";
import { needNpmPeers } from "../peers.ts";
import { createEndpoint, PROGRAMS, setWorkers, startRpx } from "../rpx.ts";
import { steadyRate } from "../steady.ts";

const CONCURRENCIES = [1, 8, 64] as const;
/** More than the fastest of the three runs in the time. */
const JOBS = 3_000;

/** The three run side by side: each of them sleeps nearly all the time. */
export const figure: Figure = {
  id: "p13",
  title: "jobs a second of RunPod's own Python SDK as worker, unmodified, with a full queue",
  peer: "the same SDK on a mock job server",
  rows: CONCURRENCIES.map((concurrency) => ({
    name: `concurrency ${concurrency}`,
    unit: "jobs/s",
    better: "higher",
    gate: 0.98,
    stretch: 0.99,
  })),
  limit: "the SDK sleeps a second after each take that fills it: about its concurrency in jobs a second",
  prepare: async () => {
    const sdk = findStockSdk();
    return "missing" in sdk ? sdk.missing : needNpmPeers();
  },
  measure: (side) => measure(side),
};

function measure(side: Side): Promise<readonly number[]> {
  const sdk = findStockSdk();
  if ("missing" in sdk) throw new Error(sdk.missing);
  return side === "rpx" ? measureRpx(sdk) : Promise.all(CONCURRENCIES.map((each) => measureMock(sdk, each)));
}

async function measureRpx(sdk: StockSdk): Promise<readonly number[]> {
  const daemon = await startRpx();
  try {
    return await Promise.all(CONCURRENCIES.map((each) => serveRpx(daemon, sdk, each)));
  } finally {
    await daemon.stop();
  }
}

async function serveRpx(daemon: RealDaemon, sdk: StockSdk, concurrency: number): Promise<number> {
  const name = `lanes-${concurrency}`;
  const env = { ...sdk.env, BENCH_LANES: String(concurrency) };
  await createEndpoint(daemon, { name, handler: "echo.py", workers: 0, env, python: sdk.python });
  await fillRpx(daemon, name, JOBS);
  await setWorkers(daemon, name, 1);
  return steadyRate(() => completedOf(daemon, name));
}

async function measureMock(sdk: StockSdk, concurrency: number): Promise<number> {
  const server = await createMockJobServer();
  server.submit(...Array.from({ length: JOBS }, (_, number) => ({ id: `job-${number}`, input: INPUT })));
  const worker = spawn(sdk.python, [`${PROGRAMS}/echo.py`], {
    // The server's own ping interval is a test's: with it the SDK pings without a pause.
    env: {
      PATH: process.env.PATH ?? "",
      ...sdk.env,
      ...server.env(),
      RUNPOD_PING_INTERVAL: "10000",
      BENCH_LANES: String(concurrency),
    },
    stdio: "ignore",
    // A group of its own: the SDK pings from a child process that outlives it.
    detached: true,
  });
  try {
    return await steadyRate(async () => server.of("job-done").length);
  } finally {
    await endGroup(worker);
    await server.close();
  }
}

async function endGroup(leader: ChildProcess): Promise<void> {
  if (leader.pid === undefined || leader.exitCode !== null) return;
  const ended = once(leader, "exit");
  process.kill(-leader.pid, "SIGKILL");
  await ended;
}
