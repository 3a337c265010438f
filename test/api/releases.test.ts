import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { RpxError } from "../../src/contract/error.ts";
import { endpointSchema } from "../../src/contract/schemas/endpoint.ts";
import type { EndpointId } from "../../src/runtime/core/model.ts";
import { fleetView } from "../support/fleet-view.ts";
import { parsed, startTestDaemon, type TestDaemon } from "../support/test-daemon.ts";
import { createTestWorker } from "../support/test-worker.ts";

let daemon: TestDaemon;
beforeEach(async () => {
  daemon = await startTestDaemon({}, { keep: true });
});
afterEach(() => daemon.stop());
const fleet = fleetView(() => daemon);

const running = () => daemon.pool.running().map(({ workerId }) => String(workerId));
const releaseOf = (workerId: string) => fleet.row(workerId)?.release;
/** Workers that were ever started of a release. */
const startedOf = (version: number) => daemon.pool.started.filter(({ release }) => release === version);
const isIn = (endpoint: string, version: number, state: string) =>
  daemon.until(`release ${version} is ${state}`, async () => {
    const release = await fleet.release(endpoint, version);
    return release.state === state ? release : null;
  });
const changeOf = (value: string) => ({ config: { env: { V: value } } });

describe("a release that proves itself (F-41)", () => {
  it("leaves the work to the one before until its first worker asks for jobs, then takes over", async () => {
    const { endpoint, worker } = await daemon.ready();
    const made = await fleet.update(endpoint, changeOf("2"));
    expect(made).toMatchObject({ release: 1, candidateRelease: 2, madeRelease: 2 });
    const next = await daemon.nextWorker();
    expect([releaseOf(worker.id), releaseOf(next.id)]).toEqual([1, 2]);
    expect(await fleet.release(endpoint, 2)).toMatchObject({
      state: "proving",
      reason: expect.stringContaining("its first worker has to become ready"),
      diff: [{ field: "env.V", old: null, new: "2" }],
      source: "update",
      liveAt: null,
    });
    const before = await daemon.submit(endpoint);
    expect((await worker.takeJob()).id).toBe(before);
    await worker.done(before, { output: 1 });
    await daemon.clock.advance(20_000);
    expect(fleet.asked(worker.id)).toEqual([]);

    next.take().catch(() => null);
    await isIn(endpoint, 2, "live");
    expect(await fleet.endpoint(endpoint)).toMatchObject({ release: 2, candidateRelease: null });
    expect(await fleet.release(endpoint, 1)).toMatchObject({
      state: "superseded",
      reason: "release 2 took its place",
    });
    await daemon.until("the old one ends", () => running().join() === next.id);
    expect(fleet.asked(worker.id), "ended, not put to sleep").toEqual(["stop"]);
    const after = await daemon.submit(endpoint);
    expect((await next.takeJob()).id).toBe(after);
  });

  it("holds max: one worker more while it proves itself, also where nothing runs (INV-5)", async () => {
    const endpoint = await daemon.deploy("full", { workers: { min: 2, max: 2 } });
    const workers = [await daemon.nextWorker(), await daemon.nextWorker()];
    for (const worker of workers) await fleet.poll(worker);
    await fleet.update(endpoint, changeOf("2"));
    await daemon.nextWorker();
    await daemon.clock.advance(30_000);
    for (const worker of workers) await worker.ping();
    expect(running()).toHaveLength(3);
    expect(startedOf(2)).toHaveLength(1);
    const idle = await daemon.deploy("idle");
    await fleet.update(idle, changeOf("2"));
    const first = await daemon.nextWorker();
    expect(releaseOf(first.id)).toBe(2);
    first.take().catch(() => null);
    await isIn(idle, 2, "live");
    expect(startedOf(1).map(({ endpointId }) => endpointId)).not.toContain(idle);
  });

  it("takes effect at once where the change says so", async () => {
    const { endpoint, worker } = await daemon.ready();
    const made = await fleet.update(endpoint, { ...changeOf("2"), rollout: "at_once" });
    expect(made).toMatchObject({ release: 2, candidateRelease: null });
    await daemon.until("the old one ends", () => !running().includes(worker.id));
    expect(releaseOf((await daemon.nextWorker()).id)).toBe(2);
  });

  it("is not made when nothing that workers are made of changes", async () => {
    const { endpoint } = await daemon.ready();
    const made = await fleet.update(endpoint, { config: { workers: { max: 2 }, env: {} } });
    expect(made).toMatchObject({ release: 1, candidateRelease: null, madeRelease: null });
    expect(await fleet.releases(endpoint)).toHaveLength(1);
  });

  it("goes live unproven where no worker may run, and says so", async () => {
    const endpoint = await daemon.deploy("closed", { workers: { max: 0 } });
    await fleet.update(endpoint, changeOf("2"));
    expect((await isIn(endpoint, 2, "live")).reason).toMatch(/not proven.*workers\.max is 0/);
    expect(daemon.pool.started).toEqual([]);
  });

  it("proves itself while the endpoint is paused, and hands out nothing until it is resumed", async () => {
    const { endpoint } = await daemon.ready();
    await fleet.post(endpoint, "pause");
    await fleet.update(endpoint, changeOf("2"));
    const next = await daemon.nextWorker();
    next.take().catch(() => null);
    await isIn(endpoint, 2, "live");
    const id = await daemon.submit(endpoint);
    await daemon.clock.advance(5_000);
    expect(await fleet.status(endpoint, id)).toBe("IN_QUEUE");
    await fleet.post(endpoint, "resume");
    await daemon.until("it is awake", () => fleet.row(next.id)?.state === "ready");
    expect((await next.takeJob()).id).toBe(id);
  });
});

describe("a release that fails (F-13)", () => {
  /** An endpoint whose second release proves itself, and whose first worker is there where it can be started. */
  async function proving(config = {}) {
    const { endpoint, worker } = await daemon.ready("hello", config);
    await fleet.update(endpoint, changeOf("2"));
    return { endpoint, worker };
  }

  /** The old release goes on as if nothing had been. */
  async function expectOldServes(
    endpoint: string,
    worker: { id: string; takeJob(): Promise<{ id: string }> },
  ) {
    expect(await fleet.endpoint(endpoint)).toMatchObject({
      release: 1,
      candidateRelease: null,
      state: "idle",
    });
    expect(fleet.asked(worker.id)).toEqual([]);
    const id = await daemon.submit(endpoint);
    expect((await worker.takeJob()).id).toBe(id);
    await daemon.until("nothing is left of the other", () => running().join() === worker.id);
    await daemon.clock.advance(30_000);
    expect(startedOf(2).length, "it is not tried again").toBeLessThanOrEqual(1);
  }

  it("with its first worker's exit, and says why", async () => {
    const { endpoint, worker } = await proving();
    const next = await daemon.nextWorker();
    daemon.pool.exit(next.id, { code: 1, reason: "exited with code 1: No module named 'torch'" });
    const failed = await isIn(endpoint, 2, "failed");
    expect(failed.reason).toBe("its first worker failed: exited with code 1: No module named 'torch'");
    await daemon.until("its row is gone", () => fleet.row(next.id)?.state === "gone");
    expect(fleet.row(next.id)?.exit).toEqual({ code: 1, signal: null, cause: null });
    await expectOldServes(endpoint, worker);
  });

  it("when its first worker says that it is unfit", async () => {
    const { endpoint, worker } = await proving();
    const next = await daemon.nextWorker();
    await next.ping("&status=unhealthy&check=memory&reason=3+GB+free");
    daemon.pool.exit(next.id, { code: 1 });
    expect((await isIn(endpoint, 2, "failed")).reason).toMatch(/unfit: memory: 3 GB free/);
    await expectOldServes(endpoint, worker);
  });

  it("when its first worker asks for no job within the start timeout", async () => {
    const { endpoint, worker } = await proving({ limits: { start_timeout: "5s" } });
    const next = await daemon.nextWorker();
    await daemon.clock.advance(4_000);
    expect((await fleet.release(endpoint, 2)).state).toBe("proving");
    await daemon.clock.advance(900);
    const failed = await isIn(endpoint, 2, "failed");
    expect(failed.reason).toMatch(/did not ask for a job within the start timeout of 5 s/);
    expect(fleet.asked(next.id)).toEqual(["kill"]);
    await expectOldServes(endpoint, worker);
  });

  it("when its first worker cannot be started", async () => {
    const { endpoint, worker } = await daemon.ready();
    daemon.pool.startFailure = "no such file: python3";
    await fleet.update(endpoint, changeOf("2"));
    expect((await isIn(endpoint, 2, "failed")).reason).toMatch(/could not be started: no such file: python3/);
    await expectOldServes(endpoint, worker);
  });

  it("with its first worker's end after it was ready, before its tests are over", async () => {
    const { endpoint, worker } = await daemon.ready();
    await fleet.update(endpoint, { ...changeOf("2"), tests: [{ name: "one", input: 1 }] });
    const next = await daemon.nextWorker();
    await next.takeJob();
    daemon.pool.exit(next.id, { code: null, signal: "SIGKILL", reason: "out of memory", cause: "oom" });
    expect((await isIn(endpoint, 2, "failed")).reason).toBe("its first worker failed: out of memory");
    expect(daemon.store.jobs.pinnedTo({ endpointId: endpoint as EndpointId, version: 2 })).toEqual([]);
    await expectOldServes(endpoint, worker);
  });

  it("when it cannot be built: nothing else of the change is kept, and the caller is told", async () => {
    const { endpoint, worker } = await daemon.ready();
    daemon.builder.failure = new RpxError("bad_request", "requirements.txt names no package", {
      why: "line 3",
    });
    const body = { config: { env: { V: "2" }, workers: { max: 7 } } };
    const reply = await daemon.call("PATCH", `/api/endpoints/${endpoint}`, { body });
    expect([reply.status, reply.text]).toEqual([400, expect.stringContaining("requirements.txt")]);
    expect((await fleet.release(endpoint, 2)).reason).toBe(
      "not built: requirements.txt names no package, line 3",
    );
    expect((await fleet.endpoint(endpoint)).config.workers?.max).toBe(1);
    await expectOldServes(endpoint, worker);
  });

  it("is made anew by the same change, once the cause is gone", async () => {
    const { endpoint } = await proving();
    daemon.pool.exit((await daemon.nextWorker()).id);
    await isIn(endpoint, 2, "failed");
    await fleet.update(endpoint, changeOf("2"));
    const next = await daemon.nextWorker();
    expect(releaseOf(next.id)).toBe(3);
    next.take().catch(() => null);
    await isIn(endpoint, 3, "live");
  });
});

describe("a newer release", () => {
  it("takes the place of one that proves itself, whose worker ends", async () => {
    const { endpoint, worker } = await daemon.ready();
    await fleet.update(endpoint, changeOf("2"));
    const second = await daemon.nextWorker();
    await fleet.update(endpoint, { config: { env: { V: "3" } } });
    const third = await daemon.nextWorker();
    expect([releaseOf(second.id), releaseOf(third.id)]).toEqual([2, 3]);
    expect(await fleet.release(endpoint, 2)).toMatchObject({
      state: "superseded",
      reason: expect.stringContaining("release 3"),
    });
    await daemon.until("its worker ends", () => !running().includes(second.id));
    third.take().catch(() => null);
    await isIn(endpoint, 3, "live");
    await daemon.until("the first ends", () => running().join() === third.id);
    expect(fleet.asked(worker.id)).toEqual(["stop"]);
  });

  it("a worker that comes up too late brings its superseded release nothing", async () => {
    const { endpoint } = await daemon.ready();
    daemon.pool.obeysStop = false;
    await fleet.update(endpoint, changeOf("2"));
    const second = await daemon.nextWorker();
    await fleet.update(endpoint, changeOf("3"));
    await daemon.nextWorker();
    second.take().catch(() => null);
    await daemon.clock.advance(1_000);
    expect((await fleet.releases(endpoint)).map(({ state }) => state)).toEqual([
      "proving",
      "superseded",
      "live",
    ]);
  });

  it("gives up a build under way: that change is refused as superseded", async () => {
    const { endpoint } = await daemon.ready();
    daemon.builder.hold = new Promise(() => {});
    const first = daemon.call("PATCH", `/api/endpoints/${endpoint}`, { body: changeOf("2") });
    await isIn(endpoint, 2, "building");
    daemon.builder.hold = null;
    await fleet.update(endpoint, changeOf("3"));
    const reply = await first;
    expect([reply.status, reply.text]).toEqual([409, expect.stringContaining("release 2 was superseded")]);
    expect((await fleet.releases(endpoint)).map(({ state }) => state)).toEqual([
      "proving",
      "superseded",
      "live",
    ]);
    expect((await fleet.endpoint(endpoint)).candidateRelease).toBe(3);
  });

  it("follows the one that proves itself: of two changes neither is lost", async () => {
    const { endpoint } = await daemon.ready("hello", { env: { A: "1" } });
    await fleet.update(endpoint, { config: { limits: { memory: "1GiB" } } });
    await fleet.update(endpoint, { config: { env: { A: "2" } } });
    expect((await fleet.release(endpoint, 3)).diff).toEqual([
      { field: "limits.memory", old: null, new: "1GiB" },
      { field: "env.A", old: "1", new: "2" },
    ]);
  });
});

describe("tests of a release", () => {
  const TESTS = [
    { name: "adds", input: { a: 1 }, expected: { sum: [1, 2] } },
    { name: "any output", input: "x" },
  ];

  async function tested(tests: Parameters<typeof fleet.update>[1]["tests"] = TESTS) {
    const { endpoint, worker } = await daemon.ready();
    await fleet.update(endpoint, { ...changeOf("2"), tests: tests ?? [] });
    return { endpoint, worker, next: await daemon.nextWorker() };
  }

  it("run on it alone, one after the other, while the old one does the work; then it goes live", async () => {
    const { endpoint, worker, next } = await tested();
    expect((await fleet.release(endpoint, 2)).tests).toEqual(["adds", "any output"]);
    const other = await daemon.submit(endpoint, { input: "work" });
    const first = await next.takeJob();
    expect(first.input).toEqual({ a: 1 });
    expect((await fleet.release(endpoint, 2)).reason).toBe('runs test 1 of 2, "adds"');
    const second = next.takeJob({ jobInProgress: 1 });
    // Neither gets the other's jobs, however long it waits.
    expect((await worker.takeJob()).id).toBe(other);
    await worker.done(other, { output: 1 });
    await fleet.poll(worker);
    // Equal values, however they are written.
    await next.done(first.id, '{"output":{ "sum": [1, 2.0] }}');
    const { id, input } = await second;
    expect(input).toBe("x");
    await next.done(id, { output: null });
    await isIn(endpoint, 2, "live");
    const after = await daemon.submit(endpoint);
    expect((await next.takeJob()).id).toBe(after);
  });

  it.each<[string, unknown, RegExp]>([
    [
      "another output",
      { output: { sum: [2, 1] } },
      /the output is \{"sum":\[2,1\]\}, expected was \{"sum":\[1,2\]\}/,
    ],
    ["an error", { error: "ValueError: b is missing" }, /ValueError: b is missing/],
    ["no JSON", "{nonsense", /invalid_result/],
  ])("that end with %s fail it; the others are not run", async (_, body, reason) => {
    const { endpoint, worker, next } = await tested();
    const { id } = await next.takeJob();
    await next.done(id, body);
    const failed = await isIn(endpoint, 2, "failed");
    expect(failed.reason).toMatch(/^test 1 of 2, "adds", failed: /);
    expect(failed.reason).toMatch(reason);
    await daemon.until("its worker ends", () => running().join() === worker.id);
    expect(fleet.asked(next.id)).toEqual(["stop"]);
    const pinned = daemon.store.jobs.list({ limit: 100 }).filter(({ policy }) => policy.pinned === 2);
    expect(pinned.map(({ id: made }) => made)).toEqual([id]);
    expect(await fleet.endpoint(endpoint)).toMatchObject({ release: 1, state: "idle" });
  });

  it("that take longer than they may fail it", async () => {
    const { endpoint, next } = await tested([{ name: "slow", input: 1, timeoutMs: 2_000 }]);
    await next.takeJob();
    await daemon.clock.advance(4_900);
    const failed = await isIn(endpoint, 2, "failed");
    expect(failed.reason).toMatch(/^test 1 of 1, "slow", failed: job timed out/);
  });

  it("of a release that a newer one supersedes are cancelled", async () => {
    const { endpoint, next } = await tested();
    const { id } = await next.takeJob();
    await fleet.update(endpoint, { config: { env: { V: "3" } } });
    await daemon.until("it is cancelled", async () => (await fleet.status(endpoint, id)) === "CANCELLED");
    expect((await fleet.release(endpoint, 2)).state).toBe("superseded");
    const third = await daemon.nextWorker();
    third.take().catch(() => null);
    await isIn(endpoint, 3, "live");
  });

  it("scale nothing up and stay out of the endpoint's own queue", async () => {
    const endpoint = await daemon.deploy("zero", { scale: { by: "request-count", threshold: 1 } });
    await fleet.update(endpoint, { ...changeOf("2"), tests: TESTS });
    const next = await daemon.nextWorker();
    const first = await next.takeJob();
    await daemon.clock.advance(10_000);
    expect(daemon.pool.started.map(({ release }) => release)).toEqual([2]);
    await next.done(first.id, { output: { sum: [1, 2] } });
    const second = await next.takeJob({ jobInProgress: 1 });
    await next.done(second.id, { output: 1 });
    await isIn(endpoint, 2, "live");
    expect(startedOf(1)).toEqual([]);
  });
});

describe("rollback", () => {
  async function atSecond() {
    const { endpoint } = await daemon.ready("hello", { env: { V: "1" } });
    await fleet.update(endpoint, changeOf("2"));
    const second = await daemon.nextWorker();
    second.take().catch(() => null);
    await isIn(endpoint, 2, "live");
    await daemon.until("the first ends", () => running().join() === second.id);
    return { endpoint, second };
  }

  it("makes a new release of what served before, which proves itself like any other", async () => {
    const { endpoint, second } = await atSecond();
    const made = parsed(endpointSchema, await fleet.post(endpoint, "rollback"));
    expect(made).toMatchObject({ release: 2, candidateRelease: 3, madeRelease: 3 });
    expect(await fleet.release(endpoint, 3)).toMatchObject({
      source: "rollback to 1",
      diff: [{ field: "env.V", old: "2", new: "1" }],
    });
    const third = await daemon.nextWorker();
    expect(daemon.pool.started.at(-1)?.env.V).toBe("1");
    expect(fleet.asked(second.id)).toEqual([]);
    third.take().catch(() => null);
    await isIn(endpoint, 3, "live");
    // And back again: what served before is now the second.
    await fleet.post(endpoint, "rollback");
    expect((await fleet.release(endpoint, 4)).source).toBe("rollback to 2");
  });

  it("needs no build", async () => {
    const { endpoint } = await atSecond();
    daemon.builder.failure = new RpxError("unavailable", "no registry");
    await fleet.post(endpoint, "rollback", { to: 1 });
    expect((await fleet.release(endpoint, 3)).state).toBe("proving");
  });

  it("to what serves already makes none; to what never was, or never could serve, is refused", async () => {
    const { endpoint } = await atSecond();
    const same = parsed(endpointSchema, await fleet.post(endpoint, "rollback", { to: 2 }));
    expect(same).toMatchObject({ release: 2, madeRelease: null });
    expect((await fleet.post(endpoint, "rollback", { to: 9 })).status).toBe(404);
    daemon.builder.failure = new RpxError("bad_request", "no handler");
    await daemon.call("PATCH", `/api/endpoints/${endpoint}`, { body: changeOf("3") });
    const unbuilt = await fleet.post(endpoint, "rollback", { to: 3 });
    expect([unbuilt.status, unbuilt.text]).toEqual([404, expect.stringContaining("can serve")]);
    daemon.builder.failure = null;
    const fresh = await daemon.deploy("fresh", { workers: { max: 0 } });
    expect((await fleet.post(fresh, "rollback")).status).toBe(404);
  });
});

describe("a first release that has to prove itself", () => {
  async function create(name = "new") {
    const source = { kind: "folder", path: "/handlers" };
    const body = { name, config: {}, source, handler: "handler.py", rollout: "prove" };
    return parsed(endpointSchema, await daemon.call("POST", "/api/endpoints", { body }));
  }

  it("holds jobs until it serves, with the reason", async () => {
    const { id: endpoint, release, candidateRelease } = await create();
    expect([release, candidateRelease]).toEqual([0, 1]);
    const first = await daemon.nextWorker();
    const job = await daemon.submit(endpoint);
    await daemon.clock.advance(5_000);
    expect(await fleet.reason(job)).toMatch(/release 1 does not serve yet: its first worker/);
    expect(running()).toHaveLength(1);
    // The poll that proves it is answered with nothing: the next one takes of the endpoint's own queue.
    expect((await first.take()).status).toBe(204);
    expect((await isIn(endpoint, 1, "live")).reason).toBe("serves");
    expect((await first.takeJob()).id).toBe(job);
  });

  it("that fails leaves jobs waiting with the reason, and the next one is tried", async () => {
    const { id: endpoint } = await create();
    const job = await daemon.submit(endpoint);
    daemon.pool.exit((await daemon.nextWorker()).id, { reason: "exited with code 1: SyntaxError" });
    await isIn(endpoint, 1, "failed");
    await daemon.clock.advance(60_000);
    expect(running()).toEqual([]);
    expect(await fleet.reason(job)).toMatch(/no release serves: release 1 failed.*SyntaxError/);
    await fleet.update(endpoint, changeOf("2"));
    const next = await daemon.nextWorker();
    next.take().catch(() => null);
    await isIn(endpoint, 2, "live");
    expect((await next.takeJob()).id).toBe(job);
  });
});

describe("a restart of the daemon", () => {
  it("while a release proves itself: its worker goes on proving it", async () => {
    const { endpoint, worker } = await daemon.ready();
    await fleet.update(endpoint, changeOf("2"));
    const next = await daemon.nextWorker();
    daemon = await daemon.restart();
    await daemon.clock.advance(5_000);
    await worker.ping();
    expect((await fleet.release(endpoint, 2)).state).toBe("proving");
    expect(running().sort()).toEqual([worker.id, next.id].sort());
    next.take().catch(() => null);
    await isIn(endpoint, 2, "live");
    await daemon.until("the old one ends", () => running().join() === next.id);
  });

  it("after its worker was ready, before the release went live: it goes live", async () => {
    const { endpoint } = await daemon.ready();
    await fleet.update(endpoint, { ...changeOf("2"), tests: [{ name: "one", input: 1, expected: 2 }] });
    const next = await daemon.nextWorker();
    const { id } = await next.takeJob();
    daemon = await daemon.restart();
    // The test that ran then is nobody's any more: it runs again.
    await next.done(id, { output: 2 });
    const again = await next.takeJob({ jobInProgress: 1 });
    expect(again.id).not.toBe(id);
    await next.done(again.id, { output: 2 });
    await isIn(endpoint, 2, "live");
    expect(daemon.store.jobs.pinnedTo({ endpointId: endpoint as EndpointId, version: 2 })).toEqual([]);
  });

  it("in which its worker failed: it has failed, and the old one serves", async () => {
    const { endpoint, worker } = await daemon.ready();
    await fleet.update(endpoint, changeOf("2"));
    const next = await daemon.nextWorker();
    daemon.pool.deafen();
    daemon.pool.exit(next.id, { reason: "exited with code 1: SyntaxError" });
    daemon = await daemon.restart();
    expect((await isIn(endpoint, 2, "failed")).reason).toMatch(/^its first worker failed: .*SyntaxError/);
    expect(startedOf(2)).toHaveLength(1);
    const id = await daemon.submit(endpoint);
    expect((await worker.takeJob()).id).toBe(id);
  });

  it("with which its worker was lost is not held against it: another one proves it", async () => {
    const { endpoint } = await daemon.ready();
    await fleet.update(endpoint, changeOf("2"));
    const lost = await daemon.nextWorker();
    daemon.pool.lose(lost.id);
    daemon = await daemon.restart();
    const again = await daemon.nextWorker();
    expect([releaseOf(again.id), fleet.row(lost.id)?.state]).toEqual([2, "gone"]);
    again.take().catch(() => null);
    await isIn(endpoint, 2, "live");
  });

  it("by SIGTERM, which ends its worker too: another one proves it", async () => {
    const { endpoint } = await daemon.ready();
    await fleet.update(endpoint, changeOf("2"));
    await daemon.nextWorker();
    daemon = await daemon.restart("drain");
    expect((await fleet.release(endpoint, 2)).state).toBe("proving");
    await daemon.until("another one is started", () => startedOf(2).length === 2);
    const next = daemon.pool.started.findLast(({ release }) => release === 2);
    await daemon.until("it is up", () => fleet.row(next?.workerId ?? "")?.handle);
    createTestWorker(next?.env ?? {})
      .take()
      .catch(() => null);
    await isIn(endpoint, 2, "live");
  });

  it("while it is built: it has failed, and says that it is to be deployed again", async () => {
    const { endpoint } = await daemon.ready();
    daemon.builder.hold = new Promise(() => {});
    const building = daemon
      .call("PATCH", `/api/endpoints/${endpoint}`, { body: changeOf("2") })
      .catch(() => null);
    await isIn(endpoint, 2, "building");
    daemon = await daemon.restart();
    await building;
    const failed = await fleet.release(endpoint, 2);
    expect([failed.state, failed.reason]).toEqual(["failed", expect.stringMatching(/^not built: /)]);
    expect(await fleet.endpoint(endpoint)).toMatchObject({ release: 1, candidateRelease: null });
  });

  it("while the start of its worker is under way: it proves itself with the next one", async () => {
    const { endpoint } = await daemon.ready();
    daemon.pool.holdStarts = () => true;
    await fleet.update(endpoint, changeOf("2"));
    await daemon.until("a start is held", () => daemon.pool.held.length === 1);
    daemon = await daemon.restart();
    expect((await fleet.release(endpoint, 2)).state).toBe("proving");
    daemon.pool.holdStarts = null;
    for (const held of [...daemon.pool.held]) held.finish();
    const next = await daemon.nextWorker();
    expect(releaseOf(next.id)).toBe(2);
    next.take().catch(() => null);
    await isIn(endpoint, 2, "live");
  });
});
