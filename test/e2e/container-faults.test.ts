/**
 * What happens to jobs when their workers' containers are hurt. How long it takes is read off the engine's events and the daemon's
 * journal, which have the same clock. What this machine itself costs is no fault of rpx: as late as this process hears of the same event.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { EventBody, JobDetail } from "../../src/contract/schemas/job.ts";
import type { WorkerBody } from "../../src/contract/schemas/worker.ts";
import { type ContainerDaemon, startContainerDaemon } from "../support/container-daemon.ts";
import { ensureImages, findEngine, PYTHON_IMAGE, skipAloud } from "../support/engine/engine.ts";
import { type EngineWatch, watchEngine } from "../support/engine/watch.ts";
import { eventually } from "../support/real-daemon.ts";
import type { DeployedEndpoint } from "./endpoint.ts";

const LIMIT_MS = 180_000;
const WAIT_MS = 90_000;
/** From the end of a process by the kernel to the requeue of its job (F-14). */
const OOM_MS = 2_000;
/** One period of the looks at the engine (F-17). */
const PERIOD_MS = 5_000;
const MIB = 2 ** 20;

describe.skipIf(skipAloud(findEngine())).concurrent("containers that are hurt", { timeout: LIMIT_MS }, () => {
  let on: ContainerDaemon;
  let engine: EngineWatch;

  beforeAll(async () => {
    ensureImages([PYTHON_IMAGE]);
    on = await startContainerDaemon();
    engine = watchEngine(`rpx.daemon=${on.daemonId}`);
  }, 600_000);
  afterAll(async () => {
    engine?.close();
    await on?.close();
  });

  /** How long each lost delivery of a job took to be requeued, from when the engine's event could be heard, in ms. */
  async function noticedMs(detail: JobDetail, actions: readonly string[]): Promise<number[]> {
    const took = await Promise.all(
      lostOf(detail).map(async ({ workerId, ts }) => {
        const { container } = await on.worker(workerId ?? "");
        const seen = await eventually(
          async () => engine.first(container ?? "", actions),
          WAIT_MS,
          `the engine says ${actions.join(" or ")}`,
        );
        return Date.parse(ts) - seen.atMs - seen.lagMs;
      }),
    );
    console.log(`${detail.endpoint}: requeued ${took.join(", ")} ms after the engine was heard`);
    return took;
  }

  /** Lets a job that was requeued end on its next worker, whichever that is. */
  async function finishElsewhere(
    endpoint: DeployedEndpoint,
    id: string,
    before: string,
  ): Promise<WorkerBody> {
    const next = await eventually(
      async () => {
        const { status, workerId = "" } = await endpoint.status(id);
        return status === "IN_PROGRESS" && workerId !== before && on.settledWorker(workerId);
      },
      WAIT_MS,
      "another worker has the job",
    );
    await on.openGate(next.container ?? "");
    return next;
  }

  describe("F-17: by hand, while it has a job", () => {
    test.each([
      ["removed", ["rm", "--force"], ["die", "destroy"], "stopped or removed"],
      ["stopped", ["stop", "--time", "1"], ["die"], "stopped or removed"],
      ["killed", ["kill"], ["die"], "stopped or removed"],
      ["paused", ["pause"], ["pause"], "paused"],
      ["restarted", ["restart", "--time", "0"], ["die"], "stopped or removed"],
    ])("%s", async (name, command, actions, reason) => {
      const endpoint = await on.create(`hand-${name}`, "1", { workers: { max: 2 } });
      const { id, worker } = await on.busy(endpoint);
      // On a busy machine the engine may answer a pause with "unable to freeze".
      const isDone = async () => (await on.docker(...command, worker.container ?? "").catch(() => "")) !== "";
      await eventually(isDone, WAIT_MS, `docker ${command.join(" ")}`);
      const next = await finishElsewhere(endpoint, id, worker.id);
      expect(await endpoint.end(id)).toMatchObject({
        status: "COMPLETED",
        retries: 1,
        output: { worker: next.id },
      });
      const detail = await endpoint.detail(id);
      expect(detail).toMatchObject({ attempts: 2 });
      expect(Math.max(...(await noticedMs(detail, actions)))).toBeLessThanOrEqual(PERIOD_MS);
      expect(await on.worker(worker.id)).toMatchObject({
        state: "gone",
        reason: `its container was ${reason} by hand`,
        exit: { cause: "removed" },
      });
      await on.agree(endpoint.name);
    });
  });

  describe("F-14: memory", () => {
    test.each([
      ["the worker itself", "hog", "96MiB"],
      ["a process that it started, while its own heartbeat goes on", "child-hog", "97MiB"],
    ])("%s outgrows it: FAILED after three attempts", async (_, what, memory) => {
      const endpoint = await on.create(what, "1", { limits: { memory } });
      const id = await endpoint.submit({ do: what });
      expect(await endpoint.end(id, WAIT_MS)).toMatchObject({ status: "FAILED", retries: 2 });
      const detail = await endpoint.detail(id);
      expect(detail).toMatchObject({ attempts: 3, failure: "worker_lost" });
      const took = await noticedMs(detail, ["oom", "die"]);
      expect(took).toHaveLength(3);
      expect(Math.max(...took)).toBeLessThanOrEqual(OOM_MS);
      const said = `ran out of memory: its limit is ${memory.replace("MiB", " MiB")}`;
      expect(detail.error).toBe(`worker_lost: 3 deliveries ended without a result; the last: ${said}`);
      for (const { workerId } of lostOf(detail))
        expect(await on.worker(workerId ?? "")).toMatchObject({
          state: "gone",
          reason: said,
          exit: { signal: "SIGKILL", cause: "oom" },
        });
      await on.agree(endpoint.name);
    });
  });

  test("a worker that outgrows its disk is ended, with the size that it had; its job waits again", async () => {
    const endpoint = await on.create("disk", "1", { limits: { disk: "32MiB" }, workers: { max: 1 } });
    const id = await endpoint.submit({ do: "fill", bytes: 64 * MIB });
    const lost = await eventually(
      async () => lostOf(await endpoint.detail(id))[0],
      WAIT_MS,
      "the delivery is lost",
    );
    expect((await on.call("POST", `/v2/disk/cancel/${id}`)).status).toBe(200);
    expect(await on.worker(lost.workerId ?? "")).toMatchObject({
      reason: expect.stringMatching(/^wrote more than its disk limit: \d+(\.\d+)? MiB, the limit is 32 MiB$/),
      exit: { cause: "disk" },
    });
    expect(await endpoint.end(id)).toMatchObject({ status: "CANCELLED" });
    await on.agree(endpoint.name);
  });

  test("F-13: an image that exits at once: its job waits, says why, and is run by the release that mends it", async () => {
    const endpoint = await on.create("exits", "exits at once", { workers: { max: 1 } });
    const id = await endpoint.submit({ do: "nothing" });
    const failed = await eventually(
      async () => (await endpoint.workers()).find(({ state }) => state === "unhealthy"),
      WAIT_MS,
      "a worker is unhealthy",
    );
    const said = 'exited with code 1: no model named "exits at once"';
    const { reason, exit, lastLines } = await on.worker(failed.id);
    expect(reason).toMatch(new RegExp(`^${said}; next try in \\d+ s$`));
    expect({ exit, lastLines }).toEqual({
      exit: { code: 1, signal: null, cause: null },
      lastLines: ['no model named "exits at once"'],
    });
    expect(await endpoint.detail(id)).toMatchObject({
      status: "IN_QUEUE",
      attempts: 0,
      reason: expect.stringContaining('no model named "exits at once"'),
    });
    expect((await on.endpoint("exits")).reason).toContain(said);
    await on.agree(endpoint.name);
    const version = await on.roll("exits", "mended");
    await on.releaseIs("exits", version, "live");
    expect(await endpoint.end(id, WAIT_MS)).toMatchObject({
      status: "COMPLETED",
      output: { release: "mended" },
    });
    await on.agree(endpoint.name);
  });
});

function lostOf({ events }: JobDetail): EventBody[] {
  return events.filter(({ kind }) => kind === "job.lose");
}
