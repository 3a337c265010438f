/** Workers in containers, from a folder that is deployed to its endpoint's deletion: `rpx serve` on this machine's own engine. */
import { createServer } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { EventBody, JobDetail } from "../../src/contract/schemas/job.ts";
import type { WorkerBody } from "../../src/contract/schemas/worker.ts";
import { CAPABILITIES } from "../../src/runtime/adapters/docker/container-spec.ts";
import { type ContainerDaemon, startContainerDaemon } from "../support/container-daemon.ts";
import { ensureImages, findEngine, PYTHON_IMAGE, skipAloud } from "../support/engine/engine.ts";
import { ADDRESSES, createOutside, holdTheWorld, outsideMissing } from "../support/network/outside.ts";
import { eventually } from "../support/real-daemon.ts";
import type { DeployedEndpoint } from "./endpoint.ts";

const LIMIT_MS = 180_000;
/** With the wait for another test that holds the world. */
const WORLD_LIMIT_MS = 700_000;
const WAIT_MS = 60_000;
const MIB = 2 ** 20;
const OUTSIDE_PORT = 17_985;

const noWorld = outsideMissing();
if (noWorld !== null && process.env.CI === "true") throw new Error(`CI lacks ${noWorld}`);
if (noWorld !== null) console.warn(`skipped, what a job reaches: this needs ${noWorld}`);

describe.skipIf(skipAloud(findEngine()))("workers in containers", { timeout: LIMIT_MS }, () => {
  let on: ContainerDaemon;

  beforeAll(async () => {
    ensureImages([PYTHON_IMAGE]);
    on = await startContainerDaemon();
  }, 600_000);
  afterAll(() => on?.close());

  const awake = async (endpoint: DeployedEndpoint) =>
    (await endpoint.workers()).filter(({ asleep, state }) => asleep === null && state !== "unhealthy");

  test("a folder that is deployed: image, container, job, logs", async () => {
    const endpoint = await on.create("hello", "1");
    expect(await on.endpoint("hello")).toMatchObject({
      pool: "docker",
      runtime: expect.stringMatching(/^image rpx\/\S+:v1 \(from python:3\.11-slim\)$/),
    });
    expect(await on.containers()).toEqual([]);
    const job = await endpoint.run({ do: "nothing" });
    expect(job).toMatchObject({
      status: "COMPLETED",
      output: { release: "1", worker: job.workerId },
      workerId: expect.any(String),
    });
    const worker = await on.settledWorker(job.workerId ?? "");
    expect(worker).toMatchObject({
      pool: "docker",
      release: 1,
      container: expect.stringMatching(/^[0-9a-f]{64}$/),
    });
    expect(await on.containers()).toEqual([worker.container]);
    expect(await on.runs(endpoint)).toEqual(new Map([[job.id, 1]]));
    await on.agree();
  });

  test("from none to three under load, and to none again", async () => {
    const endpoint = await on.create("scaling", "1", {
      workers: { max: 3, idle_timeout: "1s", flashboot: false },
      scale: { by: "request-count", threshold: 1 },
    });
    expect(await endpoint.workers()).toEqual([]);
    const jobs = await Promise.all(
      Array.from({ length: 45 }, () => endpoint.submit({ do: "sleep", seconds: 0.3 })),
    );
    const isFull = async () =>
      (await awake(endpoint)).filter(({ state }) => state === "running").length === 3;
    await eventually(isFull, WAIT_MS, "three workers run");
    const ended = await Promise.all(jobs.map((id) => endpoint.end(id, WAIT_MS)));
    expect(ended.map(({ status }) => status)).toEqual(jobs.map(() => "COMPLETED"));
    expect(new Set(ended.map(({ workerId }) => workerId)).size).toBe(3);
    await eventually(async () => (await endpoint.workers()).length === 0, WAIT_MS, "no worker is left");
    await on.agree();
  });

  test("an idle worker is frozen in its memory, and thawed by the next job", async () => {
    const endpoint = await on.create("sleeping", "1", { workers: { max: 1, idle_timeout: "1s" } });
    const first = await endpoint.run({ do: "nothing" });
    const isAsleep = async () => (await endpoint.workers()).find(({ asleep }) => asleep === "frozen");
    const asleep = await eventually(isAsleep, WAIT_MS, "the worker sleeps");
    expect(asleep).toMatchObject({
      id: first.workerId,
      state: "idle",
      reason: "idle: frozen, the next job thaws it",
    });
    // By the kernel: to the engine it runs.
    const state = ["inspect", "--format", "{{.State.Status}}", asleep.container ?? ""];
    expect(await on.docker(...state)).toBe("running");
    const next = await endpoint.run({ do: "nothing" });
    expect(next).toMatchObject({ workerId: first.workerId, output: { done: 2 } });
    await on.agree();
  });

  test("T-14, ACC-18: limits and hardening, read back through a job from inside", async () => {
    const limits = { memory: "256MiB", cpus: 1.5, pids: 99, shm: "32MiB" };
    const endpoint = await on.create("confined", "1", { limits });
    const { output } = await endpoint.run({ do: "inside" });
    const seen = output as Record<string, string>;
    const allowed = CAPABILITIES.reduce((mask, name) => mask | (1n << BigInt(CAPABILITY_BITS[name])), 0n);
    expect(BigInt(`0x${seen.CapBnd}`)).toBe(allowed);
    expect(BigInt(`0x${seen.CapEff}`) & ~allowed).toBe(0n);
    expect(seen).toMatchObject({ NoNewPrivs: "1", Seccomp: "2", memory: String(256 * MIB), pids: "99" });
    expect(seen).toMatchObject({
      shm: 32 * MIB,
      socket: false,
      cpu: expect.stringMatching(/^150000( 100000)?$/),
    });
  });

  test.skipIf(noWorld !== null)(
    "T-11: a job reaches the worker port and an address outside, and no other port of this machine",
    { timeout: WORLD_LIMIT_MS },
    async () => {
      const lock = await holdTheWorld();
      const outside = await createOutside([], []);
      const others = createServer((socket) => socket.end());
      try {
        await outside.serve("there", "banner.mjs", [String(OUTSIDE_PORT)]);
        await new Promise<void>((resolve) => others.listen(0, "0.0.0.0", resolve));
        const address = others.address();
        const port = typeof address === "object" && address !== null ? address.port : 0;
        const endpoint = await on.create("reaching", "1");
        const client = new URL(on.daemon().url);
        const places = [
          ["outside", ADDRESSES.internet, OUTSIDE_PORT],
          ["this machine", ADDRESSES.here.v4, port],
          ["the client listener", client.hostname, Number(client.port)],
        ];
        expect((await endpoint.run({ do: "reach", places })).output).toEqual(["outside", "the worker port"]);
        expect(await on.endpoint("reaching")).toMatchObject({ isolation: "full" });
        expect(await endpoint.workers()).toMatchObject([{ isolation: "full" }]);
      } finally {
        others.close();
        await outside.close();
        lock.close();
      }
    },
  );

  test("an endpoint that is deleted takes its containers with it, busy and asleep", async () => {
    const endpoint = await on.create("short-lived", "1", {
      workers: { max: 2, idle_timeout: "1s" },
      scale: { by: "request-count", threshold: 1 },
    });
    const [busy, other] = await Promise.all([on.busy(endpoint), on.busy(endpoint)]);
    await on.openGate(other.worker.container ?? "");
    const isAsleep = async () =>
      (await endpoint.workers()).some(({ id, asleep }) => id === other.worker.id && asleep === "frozen");
    await eventually(isAsleep, WAIT_MS, "one of them sleeps");
    const containers = [busy, other].map(({ worker }) => worker.container ?? "");
    expect(await on.containers()).toEqual(expect.arrayContaining(containers));
    expect((await on.call("DELETE", "/api/endpoints/short-lived")).status).toBe(200);
    const isGone = async () => (await on.containers()).every((id) => !containers.includes(id));
    await eventually(isGone, WAIT_MS, "their containers are gone");
    await on.agree();
    for (const { worker } of [busy, other])
      expect(await on.worker(worker.id)).toMatchObject({ state: "gone", reason: "its endpoint was deleted" });
  });

  describe("releases", () => {
    let endpoint: DeployedEndpoint;

    beforeAll(async () => {
      endpoint = await on.create("rolling", "one", {
        workers: { min: 1, max: 3, idle_timeout: "2s", flashboot: false },
        scale: { by: "request-count", threshold: 2 },
      });
    });

    test("ACC-12: 500 jobs over a new release and the way back: none lost, none run by a killed worker", async () => {
      const ids: string[] = [];
      const isShort = async () => {
        const { jobs } = await on.endpoint("rolling");
        return jobs.inQueue + jobs.inProgress < 20;
      };
      /** Submits as fast as the workers work. */
      const stream = async (upTo: number) => {
        while (ids.length < upTo) {
          await eventually(isShort, WAIT_MS, "the queue is short");
          const batch = Array.from({ length: Math.min(10, upTo - ids.length) }, () =>
            endpoint.submit({ do: "sleep", seconds: 0.05 }),
          );
          ids.push(...(await Promise.all(batch)));
        }
      };
      await stream(60);
      const [second] = await Promise.all([on.roll("rolling", "two"), stream(220)]);
      await on.releaseIs("rolling", second, "live");
      await stream(300);
      const back = on.call("POST", "/api/endpoints/rolling/rollback", {});
      const [rolled] = await Promise.all([back, stream(440)]);
      expect(rolled.status, rolled.text).toBe(200);
      const third = rolled.json<{ madeRelease: number }>().madeRelease;
      await on.releaseIs("rolling", third, "live");
      await stream(500);
      await expectNoneLost(ids, ["one", "two", "one"]);
      expect(await on.release("rolling", third)).toMatchObject({
        source: "rollback to 1",
        diff: [{ field: expect.any(String) }],
      });
      await on.agree();
    });

    /** Every job ended once, on the worker that took it, which ended later and was not killed. */
    async function expectNoneLost(ids: readonly string[], releases: readonly string[]): Promise<void> {
      const details: JobDetail[] = [];
      for (const id of ids) {
        await endpoint.end(id, WAIT_MS);
        details.push(await endpoint.detail(id));
      }
      const runs = await on.runs(endpoint);
      const rows = await on.journal();
      const endOf = new Map<string, EventBody>();
      for (const row of rows)
        if (row.kind === "worker.move" && row.data.to === "gone") endOf.set(row.workerId ?? "", row);
      const workers = new Map<string, WorkerBody>();
      for (const { id, status, output, attempts, workerId = "", events } of details) {
        const worker = workers.get(workerId) ?? (await on.worker(workerId));
        workers.set(workerId, worker);
        const release = releases[worker.release - 1];
        expect({ id, status, output, attempts }).toMatchObject({
          ...{ id, status: "COMPLETED", attempts: 1 },
          output: { worker: workerId, release },
        });
        expect(runs.get(id), `runs of ${id}`).toBe(1);
        expect(events.filter(({ kind }) => kind === "job.take").map((row) => row.workerId)).toEqual([
          workerId,
        ]);
        const end = endOf.get(workerId);
        if (end) expect(end.seq, `the end of ${workerId}`).toBeGreaterThan(events.at(-1)?.seq ?? 0);
      }
      expect(new Set([...workers.values()].map((worker) => worker.release))).toEqual(new Set([1, 2, 3]));
      const ended = [...workers.values()].filter(({ state }) => state === "gone");
      expect(ended.map(({ exit }) => exit?.signal ?? exit?.cause ?? null)).toEqual(ended.map(() => null));
      expect(mostPresent(rows)).toBeLessThanOrEqual(3 + 1);
    }

    /** Workers of the endpoint that were there at once, at most. */
    function mostPresent(rows: readonly EventBody[]): number {
      const endpointId = rows.find(
        ({ kind, data }) => kind === "endpoint.create" && data.name === "rolling",
      )?.endpointId;
      const present = new Set<string>();
      let most = 0;
      for (const { kind, endpointId: of, workerId, data } of rows) {
        if (kind !== "worker.move" || workerId === null || of !== endpointId) continue;
        if (data.to === "starting") present.add(workerId);
        if (data.to === "gone" || data.to === "failed") present.delete(workerId);
        most = Math.max(most, present.size);
      }
      return most;
    }

    test("F-13: a release whose program exits at once fails, with code and last lines; the old one serves", async () => {
      const before = await on.endpoint("rolling");
      const version = await on.roll("rolling", "exits at once");
      const failed = await on.releaseIs("rolling", version, "failed");
      expect(failed.reason).toBe(
        'its first worker failed: exited with code 1: no model named "exits at once"',
      );
      expect(await on.endpoint("rolling")).toMatchObject({ release: before.release, candidateRelease: null });
      expect((await endpoint.run({ do: "nothing" })).output).toMatchObject({ release: "one" });
      await on.agree();
    });

    test("F-13: a release that never asks for a job fails when its start timeout is over", async () => {
      await on.call("PATCH", "/api/endpoints/rolling", { config: { limits: { start_timeout: "3s" } } });
      const version = await on.roll("rolling", "waits for ever");
      const failed = await on.releaseIs("rolling", version, "failed");
      expect(failed.reason).toBe(
        "its first worker failed: it did not ask for a job within the start timeout of 3 s",
      );
      expect((await endpoint.run({ do: "nothing" })).output).toMatchObject({ release: "one" });
      await on.agree();
    });
  });
});

/** Bits of the kernel's masks (capabilities(7)). */
const CAPABILITY_BITS: Readonly<Record<(typeof CAPABILITIES)[number], number>> = {
  ...{ CHOWN: 0, DAC_OVERRIDE: 1, FOWNER: 3, FSETID: 4, KILL: 5, SETGID: 6, SETUID: 7, NET_BIND_SERVICE: 10 },
};
