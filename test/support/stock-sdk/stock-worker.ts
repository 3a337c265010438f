/** Runs a handler of test/fixtures/stock-sdk/handlers under the real RunPod SDK, as a platform would. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import type { StockSdk } from "./stock-sdk.ts";

export const HANDLERS = join(import.meta.dirname, "../../fixtures/stock-sdk/handlers");

export interface StockWorkerOptions {
  readonly sdk: StockSdk;
  /** A file name in `HANDLERS` without its ending. */
  readonly handler: string;
  readonly origin: string;
  readonly endpointId: string;
  readonly workerId: string;
  readonly key: string;
  /** Default 10 000, as the SDK's. Below 1 000 the SDK pings without a pause. */
  readonly pingIntervalMs?: number;
}

export interface StockWorker {
  readonly process: ChildProcess;
  /** Both streams, as far as written. */
  readonly output: () => string;
  /** Exit code, or the signal that ended it. */
  readonly exited: Promise<number | NodeJS.Signals>;
  /** Kills it, if it still runs, and waits for its end. */
  kill(): Promise<void>;
}

export function startStockWorker(options: StockWorkerOptions): StockWorker {
  const child = spawn(options.sdk.python, [join(HANDLERS, `${options.handler}.py`)], {
    env: { PATH: process.env.PATH ?? "", ...options.sdk.env, ...workerEnvironment(options) },
    stdio: ["ignore", "pipe", "pipe"],
    // A group of its own: the SDK pings from a child process, which outlives a SIGKILL of its parent and goes on pinging.
    detached: true,
  });
  let text = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (part: string) => {
      text += part;
    });
  }
  const exited = once(child, "exit").then(([code, signal]) => (code ?? signal) as number | NodeJS.Signals);
  return {
    process: child,
    output: () => text,
    exited,
    kill: async () => {
      killGroup(child.pid);
      await exited;
    },
  };
}

/** Kills the group that `leader` led. It is gone already where the worker ended by itself. */
function killGroup(leader: number | undefined): void {
  if (leader === undefined) {
    return;
  }
  try {
    process.kill(-leader, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") {
      throw error;
    }
  }
}

/** The environment a platform sets, as templates that the SDK fills in itself. */
export function workerEnvironment(
  options: Omit<StockWorkerOptions, "sdk" | "handler">,
): Record<string, string> {
  const base = `${options.origin}/v2/${options.endpointId}`;
  const query = "gpu=NVIDIA+L4";
  return {
    RUNPOD_WEBHOOK_GET_JOB: `${base}/job-take/$ID?${query}`,
    RUNPOD_WEBHOOK_POST_OUTPUT: `${base}/job-done/$RUNPOD_POD_ID/$ID?${query}`,
    RUNPOD_WEBHOOK_POST_STREAM: `${base}/job-stream/$RUNPOD_POD_ID/$ID?${query}`,
    RUNPOD_WEBHOOK_PING: `${base}/ping/$RUNPOD_POD_ID?${query}`,
    RUNPOD_AI_API_KEY: options.key,
    RUNPOD_POD_ID: options.workerId,
    RUNPOD_POD_HOSTNAME: `${options.workerId}-host`,
    RUNPOD_ENDPOINT_ID: options.endpointId,
    RUNPOD_PING_INTERVAL: String(options.pingIntervalMs ?? 10_000),
  };
}
