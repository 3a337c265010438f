/** Workers in containers outlive their daemon: killed, replaced, stopped, while it builds and while a release proves itself. */
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ContainerDaemon, startContainerDaemon } from "../support/container-daemon.ts";
import { ensureImages, findEngine, PYTHON_IMAGE, skipAloud } from "../support/engine/engine.ts";
import { eventually } from "../support/real-daemon.ts";
import type { DeployedEndpoint } from "./endpoint.ts";

const LIMIT_MS = 180_000;
const WAIT_MS = 90_000;
const WORKERS = 3;
/** A build that ends only by being given up; its process is known by its number. */
const SLOW_STEP = `sleep ${10_000_000 + process.pid}`;
const SLOW_DOCKERFILE = `FROM ${PYTHON_IMAGE}\nWORKDIR /app\nCOPY . .\nRUN exec ${SLOW_STEP}\nCMD ["python", "handler.py"]\n`;

describe.skipIf(skipAloud(findEngine()))("containers and their daemon", { timeout: LIMIT_MS }, () => {
  let on: ContainerDaemon;
  let endpoint: DeployedEndpoint;

  beforeAll(async () => {
    ensureImages([PYTHON_IMAGE]);
    on = await startContainerDaemon({ config: { graceMs: 0 } });
    endpoint = await on.create("kept", "one", {
      workers: { min: WORKERS, max: WORKERS },
      limits: { start_timeout: "60s" },
    });
  }, 600_000);
  afterAll(() => on?.close());

  type Busy = Awaited<ReturnType<ContainerDaemon["busy"]>>;

  /** One job on each worker, every one of them waiting for its gate. */
  async function allBusy(): Promise<Busy[]> {
    const idle = async () => (await endpoint.workers()).filter(({ state }) => state === "idle").length;
    await eventually(async () => (await idle()) === WORKERS, WAIT_MS, "the workers are ready");
    const busy: Busy[] = [];
    for (let count = 0; count < WORKERS; count += 1) busy.push(await on.busy(endpoint));
    return busy;
  }

  const containersOf = (busy: readonly Busy[]) => busy.map(({ worker }) => worker.container ?? "").sort();

  /** They go on where they were: same containers, same leases. Then each job ends there, having run once. */
  async function expectUndisturbed(busy: readonly Busy[]): Promise<void> {
    expect((await on.containers()).sort()).toEqual(containersOf(busy));
    for (const { id } of busy) expect(await endpoint.status(id)).toMatchObject({ status: "IN_PROGRESS" });
    for (const container of containersOf(busy)) await on.openGate(container);
    await expectDoneOnce(busy);
  }

  async function expectDoneOnce(busy: readonly Busy[]): Promise<void> {
    for (const { id, worker } of busy) {
      expect(await endpoint.end(id, WAIT_MS)).toMatchObject({
        status: "COMPLETED",
        output: { worker: worker.id },
      });
      const { attempts, events } = await endpoint.detail(id);
      expect({ attempts, takes: events.filter(({ kind }) => kind === "job.take").length }).toEqual({
        ...{ attempts: 1, takes: 1 },
      });
    }
    const runs = await on.runs(endpoint);
    expect(busy.map(({ id }) => runs.get(id))).toEqual(busy.map(() => 1));
    // The next test's jobs are to wait again.
    for (const container of containersOf(busy)) await on.docker("exec", container, "rm", "/tmp/go");
    await on.agree();
  }

  test("F-04: the daemon is killed while all are busy: adopted, each job runs once", async () => {
    const busy = await allBusy();
    await on.killChild();
    await expectUndisturbed(busy);
  });

  test("F-04: killed together with its supervisor, and started again", async () => {
    const busy = await allBusy();
    await on.killAll();
    expect((await on.containers()).sort()).toEqual(containersOf(busy));
    await on.startAgain();
    await expectUndisturbed(busy);
  });

  test("F-04: jobs that end while no daemon runs are told to the next", async () => {
    const busy = await allBusy();
    await on.killAll();
    for (const container of containersOf(busy)) await on.openGate(container);
    await on.startAgain();
    await expectDoneOnce(busy);
  });

  test("F-40: SIGHUP replaces the daemon, and nothing else", async () => {
    const busy = await allBusy();
    const before = await on.daemon().childPid();
    on.daemon().signal("SIGHUP");
    const isAnother = async () =>
      (await on
        .daemon()
        .childPid()
        .catch(() => before)) !== before;
    await eventually(isAnother, WAIT_MS, "another daemon");
    await expectUndisturbed(busy);
  });

  test("SIGTERM leaves busy containers and their leases to the next start", async () => {
    const busy = await allBusy();
    expect(await on.daemon().stop()).toBe(0);
    expect((await on.containers()).sort()).toEqual(containersOf(busy));
    await on.startAgain();
    await expectUndisturbed(busy);
  });

  test("a container that is removed while no daemon runs: its job goes back, uncounted, and the rest is undisturbed", async () => {
    const [hurt, ...others] = await allBusy();
    await on.killAll();
    await on.docker("rm", "--force", hurt?.worker.container ?? "");
    await on.startAgain();
    const { id = "", worker } = hurt ?? {};
    const next = await eventually(
      async () => {
        const { status, workerId = "" } = await endpoint.status(id);
        return status === "IN_PROGRESS" && workerId !== worker?.id && on.settledWorker(workerId);
      },
      WAIT_MS,
      "another worker has the job",
    );
    await on.openGate(next.container ?? "");
    expect(await endpoint.end(id, WAIT_MS)).toMatchObject({
      status: "COMPLETED",
      output: { worker: next.id },
    });
    expect(await endpoint.detail(id)).toMatchObject({ attempts: 1 });
    expect(await on.worker(worker?.id ?? "")).toMatchObject({
      state: "gone",
      reason: "its container was removed while nobody watched",
    });
    for (const {
      worker: { container },
    } of others)
      await on.openGate(container ?? "");
    for (const {
      id: other,
      worker: { id: workerId },
    } of others) {
      expect(await endpoint.end(other, WAIT_MS)).toMatchObject({
        status: "COMPLETED",
        output: { worker: workerId },
      });
      expect(await endpoint.detail(other)).toMatchObject({ attempts: 1 });
    }
    for (const { container } of await endpoint.workers())
      await on.docker("exec", container ?? "", "rm", "-f", "/tmp/go");
    await on.agree();
  });

  test("killed in the middle of a build: the release fails with the reason, the old one serves, the next deploy works", async () => {
    const version = (await on.endpoint("kept")).release + 1;
    const cut = on.roll("kept", "slow", { Dockerfile: SLOW_DOCKERFILE }).catch(() => "cut off");
    await eventually(isBuilding, WAIT_MS, "the build runs");
    expect(await on.release("kept", version)).toMatchObject({ state: "building" });
    await on.killChild();
    expect(await cut).toBe("cut off");
    expect(await on.release("kept", version)).toMatchObject({
      state: "failed",
      reason: "not built: the daemon ended while it was being built; deploy again",
    });
    await eventually(async () => !(await isBuilding()), WAIT_MS, "the engine gives the build up");
    expect((await endpoint.run({ do: "nothing" })).output).toMatchObject({ release: "one" });
    const again = await on.roll("kept", "two");
    await on.releaseIs("kept", again, "live");
    expect((await endpoint.run({ do: "nothing" })).output).toMatchObject({ release: "two" });
  });

  test("killed while a release proves itself: its worker is adopted, and lets it go live", async () => {
    const version = await on.roll("kept", "three waits");
    const proving = await eventually(
      async () =>
        (await endpoint.workers()).find(
          ({ release, phase, container }) => release === version && phase === "boot" && container !== null,
        ),
      WAIT_MS,
      "its first worker boots",
    );
    await on.killChild();
    expect(await on.release("kept", version)).toMatchObject({ state: "proving" });
    await on.openGate(proving.container ?? "");
    await on.releaseIs("kept", version, "live");
    expect(await on.worker(proving.id)).toMatchObject({ container: proving.container });
    // Those that follow it wait like it.
    const rest = async () => {
      for (const { container, release, phase } of await endpoint.workers())
        if (release === version && phase === "boot" && container !== null)
          await on.openGate(container).catch(() => {});
      return (
        (await endpoint.workers()).filter(({ release, state }) => release === version && state === "idle")
          .length === WORKERS
      );
    };
    await eventually(rest, WAIT_MS, "its other workers are ready");
    await on.agree();
  });

  test("SIGTERM with stopWorkers ends them: nothing is left, jobs go back uncounted", async () => {
    await on.daemon().stop();
    await on.startAgain({ stopWorkers: true });
    const id = await endpoint.submit({ do: "sleep", seconds: 3_600 });
    await endpoint.until(id, ["IN_PROGRESS"], WAIT_MS);
    expect(await on.daemon().stop()).toBe(0);
    expect(await on.containers()).toEqual([]);
    await on.startAgain();
    const { attempts, events } = await endpoint.detail(id);
    expect(events.filter(({ kind }) => kind === "job.return")).toMatchObject([
      { data: { reason: "the daemon stopped" } },
    ]);
    expect(attempts).toBeLessThanOrEqual(1);
    await on.call("POST", `/v2/kept/cancel/${id}`);
  });
});

async function isBuilding(): Promise<boolean> {
  const found = await execa("pgrep", ["--full", "--exact", SLOW_STEP], { reject: false });
  return found.exitCode === 0;
}
