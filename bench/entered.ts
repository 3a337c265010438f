/** The product's side of figures that end where a handler is entered. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { WorkerBody } from "../src/contract/schemas/worker.ts";
import type { PoolKind } from "../src/runtime/core/model.ts";
import { eventually, type RealDaemon, type RealDaemonOptions } from "../test/support/real-daemon.ts";
import { type Bell, createBell } from "./bell.ts";
import { clearDaemon } from "./engine.ts";
import { type Entered, timeEntries } from "./entries.ts";
import { call, type Reply } from "./http.ts";
import { INPUT } from "./payload.ts";
import { PYTHON } from "./peers.ts";
import { frozenBy, type Means } from "./resume.ts";
import { startRpx } from "./rpx.ts";

const NAME = "bench";
const REST_MS = 60_000;
const LOOK_EVERY_MS = 100;
const SAID_CHARACTERS = 2_000;

export type Measured = {
  readonly pool: PoolKind;
  /** Where a worker is when its job is submitted: not there yet, or frozen by one of the means. */
  readonly from: "nothing" | Means;
  readonly daemon?: Pick<RealDaemonOptions, "command">;
};

/** Times from a submit to its handler, each from a worker that sleeps or from none. */
export async function measureEntered(measured: Measured): Promise<number[]> {
  const { pool } = measured;
  const bell = await createBell();
  try {
    const daemon = await startRpx({ ...measured.daemon, config: { pool, stopWorkers: true } });
    const daemonId = readFileSync(join(daemon.dataDir, "id"), "utf8").trim();
    try {
      await createEndpoint(daemon, bell, measured);
      return await timeEntries(bell, entered(daemon, measured));
    } catch (error) {
      throw new Error(`not measured; the daemon said:\n${daemon.stderr().slice(-SAID_CHARACTERS)}`, {
        cause: error,
      });
    } finally {
      await daemon.stop();
      if (pool === "docker") await clearDaemon(daemonId);
    }
  } finally {
    bell.close();
  }
}

async function createEndpoint(daemon: RealDaemon, bell: Bell, { pool, from }: Measured): Promise<void> {
  const created = await daemon.call("POST", "/api/endpoints", {
    name: NAME,
    pool,
    // The least that there is: what is measured begins when the worker has gone to rest.
    config: { workers: { min: 0, max: 1, idle_timeout: "1s", flashboot: from !== "nothing" } },
    source: { kind: "folder", path: bell.folder },
    handler: "handler.py",
    ...(pool === "process" && { python: PYTHON }),
  });
  if (created.status !== 200) throw new Error(`endpoint not created: ${created.text}`);
}

function entered(daemon: RealDaemon, { from }: Measured): Entered {
  let isFirst = true;
  return {
    async rest() {
      const isResting = isFirst || from === "nothing" ? isEmpty : isFrozen(from);
      await eventually(() => isResting(daemon), REST_MS, "a worker at rest", LOOK_EVERY_MS);
      isFirst = false;
    },
    trigger: () => submit(daemon),
  };
}

async function isEmpty(daemon: RealDaemon): Promise<boolean> {
  return (await workersOf(daemon)).length === 0;
}

function isFrozen(means: Means): (daemon: RealDaemon) => Promise<boolean> {
  return async (daemon) => {
    const sleeper = (await workersOf(daemon)).find(({ asleep }) => asleep === "frozen");
    return sleeper !== undefined && (await frozenBy(sleeper.container ?? "")) === means;
  };
}

async function workersOf(daemon: RealDaemon): Promise<WorkerBody[]> {
  return (await daemon.call("GET", `/api/workers?endpoint=${NAME}`)).json<WorkerBody[]>();
}

async function submit({ url, key }: RealDaemon): Promise<Reply> {
  const { hostname, port } = new URL(url);
  const headers = { Authorization: `Bearer ${key}` };
  const reply = await call(
    { hostname, port, method: "POST", path: `/v2/${NAME}/run`, headers },
    { input: INPUT },
  );
  if (reply.status !== 200) throw new Error(`job not submitted: ${reply.text}`);
  return reply;
}
