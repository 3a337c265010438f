import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { LEASE_MS, SETTLE_MS, SLEEP_MS } from "../../src/runtime/core/fleet-plan.ts";
import type { WorkerId } from "../../src/runtime/core/model.ts";
import { TAKE_HOLD_MS } from "../../src/runtime/service/deliveries.ts";
import { fleetView } from "../support/fleet-view.ts";
import { startTestDaemon, type TestDaemon } from "../support/test-daemon.ts";
import type { TestWorker } from "../support/test-worker.ts";

let daemon: TestDaemon;
beforeEach(async () => {
  daemon = await startTestDaemon({}, { keep: true });
});
afterEach(() => daemon.stop());
const fleet = fleetView(() => daemon);
const stateOf = (worker: { id: string }) => fleet.row(worker.id)?.state;

/** An endpoint at zero whose one worker has done a job and sleeps; its poll was answered. */
async function asleep(
  name = "sleepy",
  workers = {},
  limits = {},
): Promise<{ endpoint: string; worker: TestWorker }> {
  const endpoint = await daemon.deploy(name, { workers: { idle_timeout: "1s", ...workers }, limits });
  const id = await daemon.submit(endpoint);
  const worker = await daemon.nextWorker();
  await worker.takeJob();
  await worker.done(id, { output: 1 });
  const poll = worker.take();
  await daemon.clock.advance(900);
  await daemon.until("it sleeps", () =>
    daemon.pool.running().some((each) => each.workerId === worker.id && each.asleep),
  );
  expect((await poll).status, "its poll").toBe(204);
  return { endpoint, worker };
}

describe("idle workers (D15)", () => {
  it("sleep after the idle timeout instead of ending, and show as idle with the reason", async () => {
    const { endpoint, worker } = await asleep();
    expect(fleet.asked(worker.id)).toEqual(["frozen"]);
    expect(await fleet.worker(worker.id)).toMatchObject({
      state: "idle",
      asleep: "frozen",
      reason: "idle: frozen, the next job thaws it",
      endedAt: null,
    });
    expect(await fleet.endpoint(endpoint)).toMatchObject({ state: "idle", workerCounts: { idle: 1 } });
    await daemon.clock.advance(60_000);
    expect(fleet.asked(worker.id), "silent, and not condemned").toEqual(["frozen"]);
    expect(daemon.pool.started).toHaveLength(1);
  });

  it("thaw with the next submit, before any loop has looked, and get the job (D21)", async () => {
    const { endpoint, worker } = await asleep();
    const id = await daemon.submit(endpoint);
    // Time stands still: neither autoscaler nor reconciler can have run.
    expect(fleet.asked(worker.id)).toEqual(["frozen", "wake"]);
    expect(stateOf(worker)).toBe("ready");
    expect((await worker.takeJob()).id).toBe(id);
    await worker.done(id, { output: 1 });
    await fleet.poll(worker);
    await daemon.until("it sleeps again", () => stateOf(worker) === "parked");
    expect(daemon.pool.started).toHaveLength(1);
  });

  it("each submit wakes one more, while no other is waited for", async () => {
    const endpoint = await daemon.deploy("several", { workers: { min: 2, max: 2, idle_timeout: "1s" } });
    const workers = [await daemon.nextWorker(), await daemon.nextWorker()];
    for (const worker of workers) await fleet.poll(worker);
    await fleet.update(endpoint, { config: { workers: { min: 0 } } });
    await daemon.until("both sleep", () => workers.every((worker) => stateOf(worker) === "parked"));
    const ids = [await daemon.submit(endpoint), await daemon.submit(endpoint)];
    expect(workers.map(stateOf)).toEqual(["ready", "ready"]);
    const got = await Promise.all(workers.map((worker) => worker.takeJob()));
    expect(got.map(({ id }) => id).sort()).toEqual(ids.sort());
  });

  it("stay asleep for a job that an awake one waits for", async () => {
    const { endpoint, worker } = await asleep("mixed", { max: 2 });
    await fleet.update(endpoint, { config: { workers: { min: 1, max: 2 } } });
    await daemon.until("it is woken for min", () => stateOf(worker) === "ready");
    await fleet.poll(worker);
    await fleet.update(endpoint, { config: { workers: { min: 2, max: 2 } } });
    const other = await daemon.nextWorker();
    await fleet.poll(other);
    await fleet.update(endpoint, { config: { workers: { min: 1, max: 2 } } });
    await daemon.until(
      "one sleeps",
      () => [worker, other].filter((each) => stateOf(each) === "parked").length === 1,
    );
    const sleeper = [worker, other].find((each) => stateOf(each) === "parked") ?? worker;
    await daemon.submit(endpoint);
    expect(stateOf(sleeper)).toBe("parked");
  });

  it("are given no job while they sleep, whatever they had asked before (F-42)", async () => {
    const { endpoint, worker } = await asleep();
    // A request of its, on the way when it was frozen.
    const late = worker.take();
    await daemon.until("it is held", () => daemon.clock.sleeps(TAKE_HOLD_MS) > 0);
    const low = await daemon.submit(endpoint, { input: 1, policy: { lowPriority: true } });
    await daemon.clock.advance(5_000);
    expect([stateOf(worker), await fleet.status(endpoint, low)]).toEqual(["parked", "IN_QUEUE"]);
    const id = await daemon.submit(endpoint);
    expect((await late).status, "it asks afresh").toBe(204);
    expect((await worker.takeJob()).id).toBe(id);
    expect((await worker.takeJob({ jobInProgress: 1 })).id).toBe(low);
  });

  it("that were woken and found nothing to do sleep again, not at once", async () => {
    const { endpoint, worker } = await asleep();
    const id = await daemon.submit(endpoint);
    await daemon.call("POST", `/v2/${endpoint}/cancel/${id}`);
    await daemon.clock.advance(SETTLE_MS - 100);
    expect(stateOf(worker)).toBe("ready");
    await daemon.until("it sleeps again", () => stateOf(worker) === "parked");
    expect(fleet.asked(worker.id)).toEqual(["frozen", "wake", "frozen"]);
  });

  it("are condemned when they do not speak after they were woken (F-22)", async () => {
    const { endpoint, worker } = await asleep();
    const id = await daemon.submit(endpoint);
    await daemon.clock.advance(50_000);
    expect(stateOf(worker)).toBe("ready");
    await daemon.clock.advance(LEASE_MS - 49_000);
    await daemon.until("it is killed", () => fleet.asked(worker.id).includes("kill"));
    const next = await daemon.nextWorker();
    expect((await next.takeJob()).id).toBe(id);
  });

  it("end when FlashBoot is switched off", async () => {
    const { endpoint, worker } = await asleep();
    await fleet.update(endpoint, { config: { workers: { flashboot: false } } });
    await daemon.until("it ends", () => stateOf(worker) === "gone");
    expect(fleet.asked(worker.id)).toEqual(["frozen", "stop"]);
  });

  it("of a release that another one replaces end", async () => {
    const { endpoint, worker } = await asleep();
    await fleet.update(endpoint, { config: { env: { V: "2" } }, rollout: "at_once" });
    await daemon.until("it ends", () => stateOf(worker) === "gone");
  });
});

describe("the ladder of sleep", () => {
  beforeEach(() => {
    daemon.pool.sleeps = ["frozen", "stopped"];
  });

  it("frozen, then stopped, then gone", async () => {
    const { worker } = await asleep();
    const sinceMs = fleet.row(worker.id)?.parkedAtMs;
    daemon.clock.jump(SLEEP_MS.frozen);
    await daemon.until("it is stopped", () => fleet.row(worker.id)?.asleep === "stopped");
    expect(await fleet.worker(worker.id)).toMatchObject({
      state: "idle",
      asleep: "stopped",
      reason: "idle for long: stopped, the next job starts it again",
    });
    expect(fleet.row(worker.id)?.parkedAtMs).toBe(sinceMs);
    daemon.clock.jump(SLEEP_MS.stopped);
    await daemon.until("it is gone", () => stateOf(worker) === "gone");
    expect(fleet.asked(worker.id)).toEqual(["frozen", "stopped", "stop"]);
    await daemon.clock.advance(10_000);
    expect(daemon.pool.running()).toEqual([]);
  });

  it("one that was stopped boots anew: it is ready with its next take", async () => {
    const { endpoint, worker } = await asleep();
    daemon.clock.jump(SLEEP_MS.frozen);
    await daemon.until("it is stopped", () => fleet.row(worker.id)?.asleep === "stopped");
    const id = await daemon.submit(endpoint);
    await daemon.until("it boots", () => stateOf(worker) === "starting");
    await daemon.until("it runs", () => fleet.asked(worker.id).at(-1) === "wake");
    expect(await fleet.worker(worker.id)).toMatchObject({
      state: "initializing",
      phase: "boot",
      asleep: null,
    });
    expect((await worker.takeJob()).id).toBe(id);
    expect(stateOf(worker)).toBe("ready");
    expect(daemon.pool.started).toHaveLength(1);
  });

  it("of two that are to boot again at once, and do not fit, one waits for its part of the machine", async () => {
    const sleepers: { endpoint: string; worker: TestWorker }[] = [];
    for (const name of ["one", "other"]) {
      sleepers.push(await asleep(name, {}, { memory: "2GiB" }));
      daemon.clock.jump(SLEEP_MS.frozen);
      await daemon.until("it is stopped", () =>
        sleepers.every(({ worker }) => fleet.row(worker.id)?.asleep === "stopped"),
      );
    }
    daemon.pool.setAway("the engine does not answer");
    for (const { endpoint } of sleepers) await daemon.submit(endpoint);
    await daemon.clock.advance(5_000);
    daemon.pool.setAway(null);
    await daemon.clock.advance(5_000);
    const wakes = sleepers.filter(({ worker }) => fleet.asked(worker.id).includes("wake"));
    expect(wakes, "2 GiB each, of 3.6").toHaveLength(1);
    const waits = sleepers.find((each) => !wakes.includes(each));
    expect(fleet.row(waits?.worker.id ?? "")?.reason).toMatch(/^asleep: waits for memory/);
  });

  it("one that does not come up after that is a failed start", async () => {
    const { endpoint, worker } = await asleep("late", {});
    await fleet.update(endpoint, { config: { limits: { start_timeout: "5s" } } });
    daemon.clock.jump(SLEEP_MS.frozen);
    await daemon.until("it is stopped", () => fleet.row(worker.id)?.asleep === "stopped");
    const id = await daemon.submit(endpoint);
    await daemon.until("it boots", () => stateOf(worker) === "starting");
    await daemon.clock.advance(4_000);
    expect(stateOf(worker), "its time counts from its waking").toBe("starting");
    await daemon.clock.advance(900);
    await daemon.until("it is killed", () => fleet.asked(worker.id).includes("kill"));
    expect(await fleet.reason(id)).toMatch(/start timeout of 5 s/);
  });
});

describe("a worker that cannot sleep, or not wake", () => {
  it("ends instead of sleeping, and is not asked again and again", async () => {
    const endpoint = await daemon.deploy("restless", { workers: { idle_timeout: "1s" } });
    const id = await daemon.submit(endpoint);
    const worker = await daemon.nextWorker();
    await worker.takeJob();
    daemon.pool.sleepFailure = "the freezer is broken";
    await worker.done(id, { output: 1 });
    await fleet.poll(worker);
    await daemon.until("it ends", () => stateOf(worker) === "gone");
    const moves = daemon.store.journal
      .read({ workerId: worker.id as WorkerId, limit: 1_000 })
      .filter(({ kind, data }) => kind === "worker.move" && data.to === "parked");
    expect(moves).toHaveLength(1);
  });

  it("is condemned when it cannot be woken; its job goes to another", async () => {
    const { endpoint, worker } = await asleep();
    daemon.pool.sleepFailure = "the freezer is broken";
    const id = await daemon.submit(endpoint);
    const next = await daemon.nextWorker();
    expect(fleet.asked(worker.id)).toEqual(["frozen", "kill"]);
    expect((await next.takeJob()).id).toBe(id);
    await daemon.until("it is gone", () => stateOf(worker) === "gone");
    expect(fleet.row(worker.id)?.reason).toMatch(/could not be woken.*freezer is broken/);
  });
});

describe("pause and resume", () => {
  it("jobs are accepted and wait; running ones end; workers sleep, also those of min", async () => {
    const { endpoint, worker } = await daemon.ready("paused");
    const first = await daemon.submit(endpoint);
    await worker.takeJob();
    await fleet.post(endpoint, "pause");
    const second = await daemon.submit(endpoint);
    await daemon.clock.advance(5_000);
    expect(stateOf(worker), "it has a job").toBe("ready");
    expect((await worker.done(first, { output: 1 })).json()).toEqual({});
    await daemon.until("it sleeps", () => stateOf(worker) === "parked");
    await daemon.clock.advance(30_000);
    expect(await fleet.status(endpoint, first)).toBe("COMPLETED");
    expect(await fleet.status(endpoint, second)).toBe("IN_QUEUE");
    expect(await fleet.reason(second)).toMatch(/paused is paused: jobs wait until it is resumed/);
    expect(await fleet.endpoint(endpoint)).toMatchObject({ state: "paused", paused: true });

    await fleet.post(endpoint, "resume");
    await daemon.until("it is woken", () => stateOf(worker) === "ready");
    expect((await worker.takeJob()).id).toBe(second);
    expect((await fleet.endpoint(endpoint)).paused).toBe(false);
    expect(daemon.pool.started).toHaveLength(1);
  });

  it("a poll that was held when it was paused gets nothing, and is answered at once when it is resumed", async () => {
    const { endpoint, worker } = await daemon.ready("held", { workers: { flashboot: false } });
    const poll = worker.take();
    await daemon.until("it is held", () => daemon.clock.sleeps(TAKE_HOLD_MS) > 0);
    await fleet.post(endpoint, "pause");
    expect((await poll).status).toBe(204);
    await daemon.submit(endpoint);
    await daemon.until("idle ones end where they cannot sleep", () => stateOf(worker) === "gone");
    expect(daemon.pool.running()).toEqual([]);
    await fleet.post(endpoint, "resume");
    await daemon.nextWorker();
  });

  it("a submit wakes nobody while it is paused, and warming is refused", async () => {
    const { endpoint, worker } = await asleep();
    await fleet.post(endpoint, "pause");
    await daemon.submit(endpoint);
    await daemon.clock.advance(10_000);
    expect(fleet.asked(worker.id)).toEqual(["frozen"]);
    const refused = await fleet.post(endpoint, "warm");
    expect([refused.status, refused.text]).toEqual([409, expect.stringContaining("paused")]);
  });

  it("outlives the daemon", async () => {
    const { endpoint, worker } = await daemon.ready("paused");
    await fleet.post(endpoint, "pause");
    await fleet.poll(worker);
    const id = await daemon.submit(endpoint);
    daemon = await daemon.restart();
    await daemon.clock.advance(5_000);
    expect(await fleet.status(endpoint, id)).toBe("IN_QUEUE");
    await fleet.post(endpoint, "resume");
    await daemon.until(
      "it is awake",
      () => stateOf(worker) === "ready" && fleet.asked(worker.id).at(-1) !== "frozen",
    );
    expect((await worker.takeJob()).id).toBe(id);
  });
});

describe("a restart of the daemon", () => {
  it("leaves sleepers asleep, and the next submit thaws them at once", async () => {
    const { endpoint, worker } = await asleep();
    daemon = await daemon.restart();
    await daemon.clock.advance(10_000);
    expect([stateOf(worker), fleet.asked(worker.id)]).toEqual(["parked", ["frozen"]]);
    const id = await daemon.submit(endpoint);
    expect(fleet.asked(worker.id)).toEqual(["frozen", "wake"]);
    expect((await worker.takeJob()).id).toBe(id);
  });

  it("finishes what was cut off: one is frozen whose row sleeps, one is thawed whose row is awake (INV-8)", async () => {
    const { worker } = await asleep();
    const { worker: awake } = await daemon.ready("awake");
    const processes = daemon.pool.started;
    const processOf = ({ id }: TestWorker) => processes.find(({ workerId }) => workerId === id);
    Object.assign(processOf(worker) ?? {}, { asleep: null });
    Object.assign(processOf(awake) ?? {}, { asleep: "frozen" });
    daemon = await daemon.restart();
    await daemon.until(
      "both are as their rows say",
      () => processOf(worker)?.asleep === "frozen" && processOf(awake)?.asleep === null,
    );
  });

  it("in which a sleeper ended takes it out; the next job starts another", async () => {
    const { endpoint, worker } = await asleep();
    daemon.pool.deafen();
    daemon.pool.exit(worker.id, { code: null, signal: "SIGKILL" });
    daemon = await daemon.restart();
    expect(stateOf(worker)).toBe("gone");
    const id = await daemon.submit(endpoint);
    expect((await (await daemon.nextWorker()).takeJob()).id).toBe(id);
  });
});
