/**
 * An engine that is killed or hangs under workers that have jobs: one of the test's own, in a network namespace with its daemon
 * (reliability.md, R5, F-18, ACC-10).
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { type ContainerDaemon, startContainerDaemon } from "../support/container-daemon.ts";
import { ensureImages, findEngine, PYTHON_IMAGE, skipAloud } from "../support/engine/engine.ts";
import {
  createPrivateEngine,
  type PrivateEngine,
  privateEngineMissing,
} from "../support/engine/private-engine.ts";
import { openDoorway } from "../support/network/doorway.ts";
import { eventually } from "../support/real-daemon.ts";
import { attach, type DeployedEndpoint } from "./endpoint.ts";

const LIMIT_MS = 300_000;
const WAIT_MS = 90_000;
const WORKERS = 10;
/** How long the engine stands still (the issue's own number). */
const HANG_MS = 10_000;
const KILLS = 3;
/** Where workers see the folder that they run from, in place. */
const SEEN = "/app/source";
const HANDLER = path.resolve("test/fixtures/e2e/container/handler.py");

const missing = privateEngineMissing();
const isMissing = skipAloud(
  missing === null ? findEngine() : { missing: `no engine of its own without ${missing}` },
);

describe.skipIf(isMissing)("an engine under workers with jobs", { timeout: LIMIT_MS }, () => {
  const folder = mkdtempSync(path.join(tmpdir(), "rpx-engine-jobs-"));
  let engine: PrivateEngine;
  let on: ContainerDaemon;
  let endpoint: DeployedEndpoint;
  let doorway: { close(): void } | undefined;

  beforeAll(async () => {
    engine = await createPrivateEngine();
    ensureImages([PYTHON_IMAGE], engine.host);
    const enter = ["nsenter", `--net=/proc/${engine.pid()}/ns/net`];
    on = await startContainerDaemon({
      host: engine.host,
      command: enter,
      reach: async (url) => {
        const opened = await openDoorway(enter, Number(new URL(url).port));
        doorway = opened;
        return `http://127.0.0.1:${opened.port}`;
      },
    });
    writeFileSync(path.join(folder, "handler.py"), await readFile(HANDLER, "utf8"));
    writeFileSync(path.join(folder, "release.txt"), "1");
    const created = await on.call("POST", "/api/endpoints", {
      name: "held",
      config: { workers: { min: WORKERS, max: WORKERS } },
      source: { kind: "folder", path: folder },
      handler: "handler.py",
    });
    expect(created.status, created.text).toBe(200);
    endpoint = attach(on, "held");
  }, 600_000);
  afterAll(async () => {
    await on?.close();
    doorway?.close();
    await engine?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  let gates = 0;

  const openGate = (name: string) => writeFileSync(path.join(folder, name), "");
  // A test that failed leaves no worker busy for the next one.
  afterEach(() => openGate(`go-${gates}`));

  /** One job on each worker, all of them waiting for a file that this process makes: no engine is asked for it. */
  async function allBusy() {
    gates += 1;
    const name = `go-${gates}`;
    const ids = await Promise.all(
      Array.from({ length: WORKERS }, () => endpoint.submit({ do: "wait", path: `${SEEN}/${name}` })),
    );
    for (const id of ids) await endpoint.until(id, ["IN_PROGRESS"], WAIT_MS);
    return { ids, open: () => openGate(name) };
  }

  const workersNow = async () =>
    (await endpoint.workers()).map(({ id, container }) => `${id} ${container}`).sort();

  /** Each ended where it was, having run once. */
  /** `mayLoseLines`: an engine that is killed loses what it had read of a container's output and not written yet. */
  async function expectDoneOnce(ids: readonly string[], mayLoseLines = false): Promise<void> {
    for (const id of ids) {
      expect(await endpoint.end(id, WAIT_MS)).toMatchObject({ status: "COMPLETED" });
      const { attempts, events } = await endpoint.detail(id);
      const kinds = events.map(({ kind }) => kind);
      expect({
        attempts,
        lost: kinds.filter((kind) => kind === "job.lose" || kind === "job.return"),
      }).toEqual({
        attempts: 1,
        lost: [],
      });
    }
    // Their lines follow once the engine is there to be asked.
    const areTold = async () => {
      const runs = await on.runs(endpoint);
      const told = ids.filter((id) => runs.has(id)).length;
      return told >= (mayLoseLines ? ids.length / 2 : ids.length) && runs;
    };
    const runs = await eventually(areTold, WAIT_MS, "the lines of the jobs");
    expect(ids.filter((id) => runs.has(id) && runs.get(id) !== 1)).toEqual([]);
  }

  test("F-18: it hangs for ten seconds: jobs end and are taken meanwhile, no lease is revoked, a start waits and says why", async () => {
    const other = await on.create("waits", "1", { workers: { max: 1 } });
    const { ids, open } = await allBusy();
    const before = await workersNow();
    engine.hang();
    let waiting = "";
    try {
      const since = performance.now();
      waiting = await other.submit({ do: "nothing" });
      const why =
        /^waits for the docker pool: the Docker engine at \S+ does not answer: no reply within \d+ s$/;
      const throttled = await eventually(
        async () =>
          (await other.workers()).find(({ state, reason }) => state === "throttled" && why.test(reason)),
        WAIT_MS,
        "its worker waits for the engine, and says so",
      );
      expect(await on.endpoint("waits")).toMatchObject({
        state: "throttled",
        reason: expect.stringMatching(why),
      });
      expect((await other.detail(waiting)).reason).toContain(throttled.reason);
      open();
      await expectEnded(ids);
      const more = await allBusy();
      await sleep(Math.max(0, HANG_MS - (performance.now() - since)));
      expect(await workersNow()).toEqual(before);
      more.open();
      await expectEnded(more.ids);
      ids.push(...more.ids);
    } finally {
      engine.resume();
    }
    expect(await other.end(waiting, WAIT_MS)).toMatchObject({ status: "COMPLETED" });
    expect(await workersNow()).toEqual(before);
    await on.agree();
    await expectDoneOnce(ids);
  });

  test(`F-18, ACC-10: it is killed and started again ${KILLS} times under jobs that begin and end`, async () => {
    const before = await workersNow();
    const all: string[] = [];
    for (let kills = 0; kills < KILLS; kills += 1) {
      const first = await allBusy();
      await engine.kill();
      first.open();
      await expectEnded(first.ids);
      const second = await allBusy();
      await engine.start();
      await on.agree();
      expect(await workersNow()).toEqual(before);
      second.open();
      await expectEnded(second.ids);
      all.push(...first.ids, ...second.ids);
    }
    expect(await workersNow()).toEqual(before);
    await on.agree();
    await expectDoneOnce(all, true);
  });

  test("a worker that ends while the engine is away: its job is lost once the engine is back, and it alone", async () => {
    const { ids, open } = await allBusy();
    const [id = "", ...others] = ids;
    const { workerId = "" } = await endpoint.status(id);
    const { container } = await on.settledWorker(workerId);
    const pid = Number(await on.docker("inspect", "--format", "{{.State.Pid}}", container ?? ""));
    await engine.kill();
    process.kill(pid, "SIGKILL");
    await engine.start();
    const isLost = async () => (await endpoint.status(id)).workerId !== workerId;
    await eventually(isLost, WAIT_MS, "the job is taken from it");
    open();
    expect(await endpoint.end(id, WAIT_MS)).toMatchObject({ status: "COMPLETED", retries: 1 });
    expect(await on.worker(workerId)).toMatchObject({
      state: "gone",
      reason: expect.stringContaining("killed by SIGKILL"),
    });
    await expectDoneOnce(others);
    await on.agree();
  });

  async function expectEnded(ids: readonly string[]): Promise<void> {
    for (const id of ids) expect(await endpoint.end(id, WAIT_MS)).toMatchObject({ status: "COMPLETED" });
  }
});
