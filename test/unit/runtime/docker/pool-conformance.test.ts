import { describe } from "vitest";
import { type PoolUnderTest, processesWhere, workerPoolSuite } from "../../../conformance/worker-pool.ts";
import { ensureImages, findEngine, NODE_IMAGE, skipAloud } from "../../../support/engine/engine.ts";
import { createTestPool, fixtureImage } from "../../../support/engine/pool.ts";

const isMissing = skipAloud(findEngine());
if (!isMissing) ensureImages([NODE_IMAGE]);

/** Built here and gone: nothing to pull it from. */
const GONE = `sha256:${"0".repeat(64)}`;

async function makePool(): Promise<PoolUnderTest> {
  const first = await createTestPool();
  let current = first;
  return {
    pool: first.pool,
    release: fixtureImage,
    broken: { ...fixtureImage("wait"), image: GONE },
    depths: ["frozen", "stopped"],
    lines: (endpointId, workerId) => first.logs.read({ endpointId, workerId, tail: 10_000 }),
    restarted: async () => {
      current = await current.restarted();
      return current.pool;
    },
    // Theirs is root's environment, which a user of the docker group may not read.
    processesOf: async (workerId) => {
      const handle = (await current.pool.list()).find((each) => each.workerId === workerId)?.handle;
      return processesWhere("cgroup", (text) => handle !== undefined && text.includes(handle));
    },
    close: () => current.close(),
  };
}

describe.skipIf(isMissing)("the Docker pool", { timeout: 60_000 }, () => workerPoolSuite(makePool));
