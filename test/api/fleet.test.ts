import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { endpointSchema } from "../../src/contract/schemas/endpoint.ts";
import { LEASE_MS, SLEEP_MS } from "../../src/runtime/core/fleet-plan.ts";
import type { EndpointId } from "../../src/runtime/core/model.ts";
import { fleetView } from "../support/fleet-view.ts";
import { parsed, startTestDaemon, type TestDaemon } from "../support/test-daemon.ts";
import type { TestWorker } from "../support/test-worker.ts";

const GIB = 2 ** 30;
const BUDGET = { cpus: 4, memoryBytes: 8 * GIB, diskBytes: 100 * GIB };
const AWAY = "the engine does not answer";

let daemon: TestDaemon;
beforeEach(async () => {
  daemon = await startTestDaemon({ budget: BUDGET }, { keep: true });
});
afterEach(() => daemon.stop());
const fleet = fleetView(() => daemon);
const stateOf = (worker: { id: string }) => fleet.row(worker.id)?.state;
const running = (endpoint: string) =>
  daemon.pool.running().filter(({ endpointId }) => endpointId === endpoint);
/** The only worker of an endpoint that is not gone. */
const onlyWorker = async (endpoint: string) => {
  const workers = await fleet.workers(endpoint);
  expect(workers).toHaveLength(1);
  return workers[0] as (typeof workers)[number];
};

/** An endpoint with one worker up, of so much memory. */
async function holding(
  name: string,
  memory: string,
  workers = {},
): Promise<{ endpoint: string; worker: TestWorker }> {
  return daemon.ready(name, { limits: { memory }, workers: { flashboot: false, ...workers } });
}

/** An endpoint at zero, of so much memory, with a job that needs a worker. */
async function wanting(name: string, memory: string): Promise<{ endpoint: string; job: string }> {
  const endpoint = await daemon.deploy(name, { limits: { memory }, workers: { flashboot: false } });
  return { endpoint, job: await daemon.submit(endpoint) };
}

describe("the budget of the machine", () => {
  it("a worker that does not fit waits, throttled, with what is short and who holds it", async () => {
    await holding("llama", "6GiB");
    const { endpoint, job } = await wanting("whisper", "4GiB");
    const sentence = "waits for memory: needs 4 GiB, 2 GiB of 8 GiB are free; held by llama (1 worker)";
    await daemon.until("it waits", async () => (await fleet.workers(endpoint))[0]?.reason === sentence);
    expect(await onlyWorker(endpoint)).toMatchObject({ state: "throttled", container: null, phase: null });
    expect(await fleet.endpoint(endpoint)).toMatchObject({ state: "throttled", reason: sentence });
    expect(await fleet.reason(job)).toBe(`a worker ${sentence}`);
    await daemon.clock.advance(60_000);
    expect(running(endpoint)).toEqual([]);
    expect(await fleet.workers(endpoint), "the same row, not one after another").toHaveLength(1);
  });

  it("the one that waited longest starts when room is made; one that still does not fit holds up no smaller one", async () => {
    const { endpoint: holder } = await holding("llama", "6GiB");
    const big = await wanting("big", "8GiB");
    await daemon.clock.advance(100);
    const middle = await wanting("middle", "4GiB");
    await daemon.clock.advance(100);
    const small = await wanting("small", "1GiB");
    await daemon.until("the small one starts beside the holder", () => running(small.endpoint).length === 1);
    await daemon.clock.advance(2_000);
    expect([running(big.endpoint), running(middle.endpoint)]).toEqual([[], []]);
    await fleet.update(holder, { config: { workers: { min: 0, max: 0 } } });
    await daemon.until("the next that fits starts", () => running(middle.endpoint).length === 1);
    await daemon.clock.advance(2_000);
    expect(running(big.endpoint), "1 and 4 of 8 GiB are held").toEqual([]);
    expect((await onlyWorker(big.endpoint)).reason).toMatch(
      /held by middle \(1 worker\), small \(1 worker\)/,
    );
  });

  it("one that asks for more than there is runs alone", async () => {
    const { endpoint: holder } = await holding("llama", "1GiB");
    const { endpoint } = await wanting("huge", "100GiB");
    await daemon.clock.advance(2_000);
    expect(running(endpoint)).toEqual([]);
    await fleet.update(holder, { config: { workers: { min: 0, max: 0 } } });
    await daemon.until("it starts", () => running(endpoint).length === 1);
  });

  it("one that nobody needs any more is taken out again, and starts no more", async () => {
    await holding("llama", "6GiB");
    const { endpoint, job } = await wanting("whisper", "4GiB");
    await daemon.until("it waits", async () => (await fleet.workers(endpoint)).length === 1);
    await daemon.call("POST", `/v2/${endpoint}/cancel/${job}`);
    await daemon.until("it is gone", async () => {
      await daemon.clock.advance(100);
      return (await fleet.workers(endpoint)).length === 0;
    });
    expect((await fleet.endpoint(endpoint)).state).toBe("idle");
  });

  it("sleepers of others give up their place, longest asleep first, no more than are needed", async () => {
    const sleepers: TestWorker[] = [];
    for (const name of ["first", "second"]) {
      const { endpoint, worker } = await holding(name, "3GiB", { flashboot: true });
      await fleet.poll(worker);
      await fleet.update(endpoint, { config: { workers: { min: 0, max: 1 } } });
      await daemon.until("it sleeps", () => stateOf(worker) === "parked");
      sleepers.push(worker);
    }
    const { endpoint } = await wanting("whisper", "4GiB");
    await daemon.until("it starts", () => running(endpoint).length === 1);
    expect(sleepers.map(stateOf)).toEqual(["gone", "parked"]);
    expect(fleet.row(sleepers[0]?.id ?? "")?.reason).toBe("asleep: gives its place to a worker of whisper");
  });

  it("a sleeper that was stopped waits for its part to come back, and says so", async () => {
    daemon.pool.sleeps = ["frozen", "stopped"];
    const { endpoint, worker } = await holding("whisper", "4GiB", { flashboot: true });
    await fleet.poll(worker);
    await fleet.update(endpoint, { config: { workers: { min: 0, max: 1 } } });
    await daemon.until("it sleeps", () => stateOf(worker) === "parked");
    daemon.clock.jump(SLEEP_MS.frozen);
    await daemon.until("it is stopped", () => fleet.row(worker.id)?.asleep === "stopped");
    const { endpoint: holder } = await holding("llama", "6GiB");
    const job = await daemon.submit(endpoint);
    await daemon.until("it waits", async () =>
      /asleep: waits for memory/.test((await onlyWorker(endpoint)).reason),
    );
    expect(await fleet.status(endpoint, job)).toBe("IN_QUEUE");
    await fleet.update(holder, { config: { workers: { min: 0, max: 0 } } });
    await daemon.until("it boots", () => stateOf(worker) === "starting");
    expect((await worker.takeJob()).id).toBe(job);
  });

  it("a sleeper that was stopped gets its part from others that sleep", async () => {
    daemon.pool.sleeps = ["frozen", "stopped"];
    const sleep = async (name: string, memory: string) => {
      const { endpoint, worker } = await holding(name, memory, { flashboot: true });
      await fleet.poll(worker);
      await fleet.update(endpoint, { config: { workers: { min: 0, max: 1 } } });
      await daemon.until("it sleeps", () => stateOf(worker) === "parked");
      return { endpoint, worker };
    };
    const { endpoint, worker } = await sleep("whisper", "4GiB");
    daemon.clock.jump(SLEEP_MS.frozen);
    await daemon.until("it is stopped", () => fleet.row(worker.id)?.asleep === "stopped");
    const { worker: other } = await sleep("llama", "6GiB");
    const job = await daemon.submit(endpoint);
    await daemon.until("it boots", () => stateOf(worker) === "starting");
    expect(stateOf(other)).toBe("gone");
    expect((await worker.takeJob()).id).toBe(job);
  });

  it("waiting survives a restart: the row is of the daemon before, and another takes its place", async () => {
    const { endpoint: holder } = await holding("llama", "6GiB");
    const { endpoint, job } = await wanting("whisper", "4GiB");
    await daemon.until("it waits", async () => (await fleet.workers(endpoint)).length === 1);
    const before = await onlyWorker(endpoint);
    daemon = await daemon.restart();
    await daemon.until("another waits", async () =>
      (await fleet.workers(endpoint))[0]?.reason.startsWith("waits for memory"),
    );
    expect((await onlyWorker(endpoint)).id).not.toBe(before.id);
    await fleet.update(holder, { config: { workers: { min: 0, max: 0 } } });
    expect((await (await daemon.nextWorker()).takeJob()).id).toBe(job);
  });
});

describe("a pool that is away (F-18)", () => {
  it("nothing is concluded of its workers: jobs go on, results are taken, silence is forgiven", async () => {
    const { endpoint, worker } = await daemon.ready("hello", { workers: { idle_timeout: "1s" } });
    const id = await daemon.submit(endpoint);
    await worker.takeJob();
    daemon.pool.setAway(AWAY);
    await daemon.clock.advance(3 * LEASE_MS);
    expect([stateOf(worker), fleet.asked(worker.id)]).toEqual(["ready", []]);
    expect(await fleet.status(endpoint, id)).toBe("IN_PROGRESS");
    expect((await worker.done(id, { output: 1 })).json()).toEqual({});
    const next = await daemon.submit(endpoint);
    expect((await worker.takeJob()).id).toBe(next);
    daemon.pool.setAway(null);
    await worker.ping();
    await daemon.clock.advance(1_000);
    expect([stateOf(worker), fleet.asked(worker.id)]).toEqual(["ready", []]);
  });

  it("what is wanted waits for it, with the reason, and starts when it is back", async () => {
    daemon.pool.setAway(AWAY);
    const endpoint = await daemon.deploy("hello");
    const id = await daemon.submit(endpoint);
    await daemon.until("it waits", async () => (await fleet.workers(endpoint)).length === 1);
    await daemon.clock.advance(30_000);
    expect(await onlyWorker(endpoint)).toMatchObject({
      state: "throttled",
      reason: `waits for the process pool: ${AWAY}`,
    });
    expect((await fleet.endpoint(endpoint)).state).toBe("throttled");
    expect(await fleet.reason(id)).toBe(`a worker waits for the process pool: ${AWAY}`);
    daemon.pool.setAway(null);
    expect((await (await daemon.nextWorker()).takeJob()).id).toBe(id);
    expect((await fleet.endpoint(endpoint)).reason).not.toMatch(/fail/);
  });

  it("who ended meanwhile is found when it is back: its job goes back and is counted", async () => {
    const { endpoint, worker } = await daemon.ready();
    const id = await daemon.submit(endpoint);
    await worker.takeJob();
    daemon.pool.setAway(AWAY);
    daemon.pool.exit(worker.id, { code: null, signal: "SIGKILL", reason: "out of memory", cause: "oom" });
    await daemon.clock.advance(30_000);
    expect([stateOf(worker), await fleet.status(endpoint, id)]).toEqual(["ready", "IN_PROGRESS"]);
    daemon.pool.setAway(null);
    const next = await daemon.nextWorker();
    expect((await next.takeJob()).id).toBe(id);
    expect(daemon.store.jobs.find(id as never)?.attempts).toBe(2);
    expect(fleet.row(worker.id)?.exit).toEqual({ code: null, signal: "SIGKILL", cause: "oom" });
  });

  it("a sleeper stays asleep until it is back, and is woken then for the job that came meanwhile", async () => {
    const { endpoint, worker } = await daemon.ready();
    await fleet.update(endpoint, { config: { workers: { min: 0, max: 1 } } });
    await fleet.poll(worker);
    await daemon.until("it sleeps", () => stateOf(worker) === "parked");
    daemon.pool.setAway(AWAY);
    const id = await daemon.submit(endpoint);
    await daemon.clock.advance(30_000);
    expect([stateOf(worker), fleet.asked(worker.id)]).toEqual(["parked", ["frozen"]]);
    daemon.pool.setAway(null);
    await daemon.until("it is awake", () => fleet.asked(worker.id).at(-1) === "wake");
    expect((await worker.takeJob()).id).toBe(id);
  });

  it("who was drained meanwhile is asked to end when it is back", async () => {
    const { endpoint, worker } = await daemon.ready();
    await fleet.update(endpoint, { config: { workers: { flashboot: false } } });
    daemon.pool.setAway(AWAY);
    await fleet.update(endpoint, { config: { workers: { min: 0, max: 0 } } });
    await daemon.clock.advance(30_000);
    expect([stateOf(worker), fleet.asked(worker.id)]).toEqual(["draining", []]);
    daemon.pool.setAway(null);
    await daemon.until("it is gone", () => stateOf(worker) === "gone");
    expect(fleet.asked(worker.id)).toEqual(["stop"]);
  });

  it("a start that fails because it went away is no failed start, and no failed release", async () => {
    daemon.pool.holdStarts = () => true;
    const endpoint = await daemon.deploy("hello");
    const id = await daemon.submit(endpoint);
    const held = await daemon.until("it starts", () => daemon.pool.held[0]);
    daemon.pool.setAway(AWAY);
    held.fail("connection reset");
    await daemon.clock.advance(10_000);
    expect((await fleet.endpoint(endpoint)).state).toBe("throttled");
    daemon.pool.holdStarts = null;
    daemon.pool.setAway(null);
    const before = daemon.clock.nowMs();
    expect((await (await daemon.nextWorker()).takeJob()).id).toBe(id);
    expect(daemon.clock.nowMs() - before, "no backoff").toBeLessThan(1_000);
  });

  it("a release that proves itself waits for it too", async () => {
    const { endpoint, worker } = await daemon.ready();
    daemon.pool.holdStarts = ({ release }) => release === 2;
    await fleet.update(endpoint, { config: { env: { V: "2" } } });
    const held = await daemon.until("it starts", () => daemon.pool.held[0]);
    daemon.pool.setAway(AWAY);
    held.fail("connection reset");
    await daemon.clock.advance(5_000);
    expect((await fleet.release(endpoint, 2)).state).toBe("proving");
    expect((await fleet.release(endpoint, 2)).reason).toContain(AWAY);
    daemon.pool.holdStarts = null;
    daemon.pool.setAway(null);
    await worker.ping();
    const next = await daemon.nextWorker();
    next.take().catch(() => null);
    await daemon.until("it is live", async () => (await fleet.release(endpoint, 2)).state === "live");
  });

  it("at the start of the daemon: rows are kept as they are until it answers", async () => {
    const { endpoint, worker } = await daemon.ready();
    const id = await daemon.submit(endpoint);
    await worker.takeJob();
    daemon.pool.setAway(AWAY);
    daemon = await daemon.restart();
    await daemon.clock.advance(5_000);
    expect([stateOf(worker), await fleet.status(endpoint, id)]).toEqual(["ready", "IN_PROGRESS"]);
    daemon.pool.lose(worker.id);
    daemon.pool.setAway(null);
    await daemon.until("it is gone", () => stateOf(worker) === "gone");
    expect((await (await daemon.nextWorker()).takeJob()).id).toBe(id);
    expect(daemon.store.jobs.find(id as never)?.attempts, "nobody's fault").toBe(1);
  });
});

describe("a start that takes its time", () => {
  it("shows its phase and how far it is; a pull is not timed, the boot is (F-13)", async () => {
    daemon.pool.holdStarts = () => true;
    const endpoint = await daemon.deploy("slow", { limits: { start_timeout: "5s" } });
    const id = await daemon.submit(endpoint);
    const held = await daemon.until("it starts", () => daemon.pool.held[0]);
    held.step({ phase: "pull", percent: null });
    await daemon.until("it pulls", async () => (await onlyWorker(endpoint)).phase === "pull");
    expect(await onlyWorker(endpoint)).toMatchObject({ state: "initializing", reason: "pulling the image" });
    for (let percent = 0; percent <= 40; percent += 1) {
      held.step({ phase: "pull", percent });
      await daemon.clock.advance(100);
    }
    const { reason } = await onlyWorker(endpoint);
    expect(
      Number(/^pulling the image, (\d+) %$/.exec(reason)?.[1]),
      "as often as it can be read",
    ).toBeGreaterThan(30);
    expect(await fleet.reason(id)).toContain("pulling the image");
    await daemon.clock.advance(600_000);
    expect(await onlyWorker(endpoint)).toMatchObject({ state: "initializing", phase: "pull" });
    expect(held.signal.aborted).toBe(false);
    held.step({ phase: "create" });
    await daemon.until("it is made", async () => (await onlyWorker(endpoint)).phase === "create");
    held.finish();
    await daemon.until("it boots", async () => (await onlyWorker(endpoint)).phase === "boot");
    await daemon.clock.advance(4_000);
    expect((await onlyWorker(endpoint)).state).toBe("initializing");
    await daemon.clock.advance(900);
    const workerId = String(held.start.workerId);
    await daemon.until("it is late", () => fleet.row(workerId)?.state === "gone");
    expect(fleet.asked(workerId)).toEqual(["kill"]);
    expect(await fleet.reason(id)).toMatch(/within the start timeout of 5 s/);
  });

  it("is given up when nobody needs it any more: nothing is left of it", async () => {
    daemon.pool.holdStarts = () => true;
    const endpoint = await daemon.deploy("slow");
    const id = await daemon.submit(endpoint);
    const held = await daemon.until("it starts", () => daemon.pool.held[0]);
    await daemon.call("POST", `/v2/${endpoint}/cancel/${id}`);
    // Who starts is not idle: only what is wanted of it can be taken back.
    await fleet.update(endpoint, { config: { workers: { max: 0 } } });
    await daemon.until("it is gone", async () => (await fleet.workers(endpoint)).length === 0);
    expect([held.signal.aborted, daemon.pool.started]).toEqual([true, []]);
    expect((await fleet.endpoint(endpoint)).reason).not.toMatch(/fail/);
  });

  it("is given up with the endpoint", async () => {
    daemon.pool.holdStarts = () => true;
    const endpoint = await daemon.deploy("slow");
    await daemon.submit(endpoint);
    const held = await daemon.until("it starts", () => daemon.pool.held[0]);
    await daemon.call("DELETE", `/api/endpoints/${endpoint}`);
    await daemon.until("it is given up", () => held.signal.aborted);
    await daemon.until("no row is left", () => daemon.store.fleet.workers().length === 0);
  });

  it("holds up neither another endpoint nor a worker of its own that is there", async () => {
    const { endpoint, worker } = await daemon.ready("hello", { workers: { max: 2 } });
    daemon.pool.holdStarts = ({ endpointId }) => endpointId === endpoint;
    await fleet.update(endpoint, { config: { workers: { min: 2, max: 2 } } });
    await daemon.until("it starts", () => daemon.pool.held.length === 1);
    const id = await daemon.submit(endpoint);
    expect((await worker.takeJob()).id).toBe(id);
    const other = await daemon.deploy("other");
    const job = await daemon.submit(other);
    expect((await (await daemon.nextWorker()).takeJob()).id).toBe(job);
  });

  it("that is under way when the daemon hands over is begun anew by the next one (INV-6)", async () => {
    daemon.pool.holdStarts = () => true;
    const endpoint = await daemon.deploy("slow");
    const id = await daemon.submit(endpoint);
    await daemon.until("it starts", () => daemon.pool.held.length === 1);
    const { id: first } = await onlyWorker(endpoint);
    daemon = await daemon.restart();
    expect(fleet.row(first)?.state).toBe("gone");
    daemon.pool.holdStarts = null;
    for (const held of [...daemon.pool.held]) held.finish();
    const next = await daemon.nextWorker();
    expect(next.id).not.toBe(first);
    expect((await next.takeJob()).id).toBe(id);
    expect((await fleet.endpoint(endpoint)).reason).not.toMatch(/fail/);
  });

  it("that is booting when the daemon hands over goes on, and counts from its boot", async () => {
    const endpoint = await daemon.deploy("booting", { limits: { start_timeout: "30s" } });
    const id = await daemon.submit(endpoint);
    const worker = await daemon.nextWorker();
    daemon = await daemon.restart();
    await daemon.clock.advance(20_000);
    expect(stateOf(worker)).toBe("starting");
    expect((await worker.takeJob()).id).toBe(id);
    expect(daemon.pool.started).toHaveLength(1);
  });
});

describe("an order to warm", () => {
  it("has workers up once, whatever the load; then they go as any other", async () => {
    const endpoint = await daemon.deploy("warm", { workers: { max: 3, idle_timeout: "2s" } });
    const shown = parsed(endpointSchema, await fleet.post(endpoint, "warm", { workers: 2 }));
    expect(shown.id).toBe(endpoint);
    const workers = [await daemon.nextWorker(), await daemon.nextWorker()];
    expect((await fleet.endpoint(endpoint)).reason).toMatch(/warmed by .*: wants 2/);
    await fleet.poll(workers[0] as TestWorker);
    await daemon.clock.advance(10_000);
    expect(workers.map(stateOf), "the first is kept until the second is up").toEqual(["ready", "starting"]);
    await fleet.poll(workers[1] as TestWorker);
    await daemon.clock.advance(1_900);
    await daemon.until("they sleep", () => workers.every((worker) => stateOf(worker) === "parked"));
    await daemon.clock.advance(10_000);
    expect(daemon.pool.started).toHaveLength(2);
    await daemon.submit(endpoint);
    expect(workers.map(stateOf).sort()).toEqual(["parked", "ready"]);
  });

  it("is forgotten by a restart: what it started goes as any other", async () => {
    const endpoint = await daemon.deploy("warm", { workers: { max: 2, idle_timeout: "2s" } });
    await fleet.post(endpoint, "warm", { workers: 2 });
    const workers = [await daemon.nextWorker(), await daemon.nextWorker()] as const;
    daemon = await daemon.restart();
    for (const worker of workers) await fleet.poll(worker);
    await daemon.clock.advance(1_900);
    await daemon.until("they sleep", () => workers.every((worker) => stateOf(worker) === "parked"));
    expect(daemon.pool.started).toHaveLength(2);
  });

  it("comes by itself with a release that goes live, where the endpoint says so: one boots and sleeps", async () => {
    const endpoint = await daemon.deploy("prewarmed", { workers: { prewarm: true, idle_timeout: "2s" } });
    const first = await daemon.nextWorker();
    await fleet.poll(first);
    await daemon.clock.advance(1_900);
    await daemon.until("it sleeps", () => stateOf(first) === "parked");
    await fleet.update(endpoint, { config: { env: { V: "2" } }, rollout: "at_once" });
    const second = await daemon.nextWorker();
    await fleet.poll(second);
    await daemon.clock.advance(1_900);
    await daemon.until("it sleeps", () => stateOf(second) === "parked");
    await daemon.until("the one before is gone", () => stateOf(first) === "gone");
    const id = await daemon.submit(endpoint);
    expect(fleet.asked(second.id)).toEqual(["frozen", "wake"]);
    expect((await second.takeJob()).id).toBe(id);
  });

  it("of more than may run is refused, with what to change", async () => {
    const endpoint = await daemon.deploy("warm", { workers: { max: 1 } });
    const reply = await fleet.post(endpoint, "warm", { workers: 2 });
    expect([reply.status, reply.text]).toEqual([409, expect.stringContaining("workers.max is 1")]);
    expect((await fleet.post(endpoint, "warm", { workers: 0 })).status).toBe(400);
  });

  it("keeps to a max that is lowered meanwhile: of 0 nothing is started (INV-5)", async () => {
    daemon.pool.holdStarts = () => true;
    const endpoint = await daemon.deploy("warm", { workers: { max: 2 } });
    await fleet.post(endpoint, "warm", { workers: 2 });
    await daemon.until("both are being started", () => daemon.pool.held.length === 2);
    await fleet.update(endpoint, { config: { workers: { max: 0 } } });
    daemon.pool.holdStarts = null;
    for (const start of [...daemon.pool.held]) start.fail("no more");
    await daemon.clock.advance(20_000);
    expect([daemon.pool.started, daemon.pool.held]).toEqual([[], []]);
    expect((await fleet.endpoint(endpoint)).desiredWorkers).toBe(0);
  });

  it("that cannot be carried out ends by itself", async () => {
    daemon.pool.startFailure = "no such file";
    const endpoint = await daemon.deploy("warm", { limits: { start_timeout: "10s" } });
    await fleet.post(endpoint, "warm");
    await daemon.until("it is tried", () => daemon.store.fleet.listWorkers({ limit: 10 }).length > 0);
    await daemon.clock.advance(120_000);
    const tries = daemon.store.fleet.listWorkers({ limit: 100 }).length;
    await daemon.clock.advance(600_000);
    expect(daemon.store.fleet.listWorkers({ limit: 100 }).length).toBe(tries);
  });
});

describe("extra workers", () => {
  it("come above max while the queue waits too long, and no further (INV-5)", async () => {
    const endpoint = await daemon.deploy("spiky", {
      workers: { min: 1, max: 1, extra: 1, idle_timeout: "1s" },
      scale: { threshold: 1 },
    });
    const first = await daemon.nextWorker();
    const ids: string[] = [];
    for (let n = 0; n < 6; n += 1) ids.push(await daemon.submit(endpoint));
    await first.takeJob();
    await daemon.clock.advance(900);
    const second = await daemon.nextWorker();
    expect((await fleet.endpoint(endpoint)).reason).toMatch(/oldest wait/);
    await daemon.clock.advance(20_000);
    await first.ping();
    expect(running(endpoint)).toHaveLength(2);
    await second.takeJob();
    await daemon.call("POST", `/v2/${endpoint}/purge-queue`);
    await second.done(ids[1] ?? "", { output: 1 });
    await fleet.poll(second);
    await daemon.clock.advance(900);
    await daemon.until("the one that is not needed sleeps", () => stateOf(second) === "parked");
    expect(stateOf(first)).toBe("ready");
  });
});

describe("how workers end", () => {
  it.each([
    ["memory over its limit (F-14)", "oom"],
    ["disk over its limit", "disk"],
    ["a hand that removed it (F-17)", "removed"],
  ] as const)("by %s: it shows, the job goes back and counts, another takes its place", async (_, cause) => {
    const { endpoint, worker } = await daemon.ready();
    const id = await daemon.submit(endpoint);
    await worker.takeJob();
    daemon.pool.exit(worker.id, { code: 137, reason: `ended by ${cause}`, cause });
    const next = await daemon.nextWorker();
    expect((await next.takeJob()).id).toBe(id);
    expect(await fleet.worker(worker.id)).toMatchObject({
      state: "gone",
      reason: `ended by ${cause}`,
      exit: { code: 137, signal: null, cause },
    });
    expect(daemon.store.jobs.find(id as never)?.attempts).toBe(2);
  });

  it("a crash loop of one endpoint takes nothing from another (F-34)", async () => {
    const endpoint = await daemon.deploy("crashing", { workers: { min: 1, max: 2 } });
    const started = () => daemon.pool.started.filter(({ endpointId }) => endpointId === endpoint).length;
    for (let n = 1; n <= 3; n += 1) {
      await daemon.until("a start", async () => {
        if (started() < n) await daemon.clock.advance(500);
        return started() >= n;
      });
      await daemon.until(
        "its row is up",
        () => fleet.row(daemon.pool.started.at(-1)?.workerId ?? "")?.handle,
      );
      daemon.pool.exit(daemon.pool.started.at(-1)?.workerId ?? "");
    }
    const before = daemon.clock.nowMs();
    const other = await daemon.deploy("other");
    const id = await daemon.submit(other);
    expect((await (await daemon.nextWorker()).takeJob()).id).toBe(id);
    expect(daemon.clock.nowMs() - before).toBeLessThan(1_000);
  });
});

describe("side by side", () => {
  it("a call to the pool that hangs holds up its own endpoint alone", async () => {
    const { endpoint, worker } = await daemon.ready("stuck", { workers: { flashboot: false } });
    daemon.pool.hangs = (workerId) => workerId === worker.id;
    await fleet.update(endpoint, { config: { workers: { min: 0, max: 0 } } });
    await daemon.until("it drains", () => stateOf(worker) === "draining");
    const other = await daemon.deploy("other", { workers: { idle_timeout: "1s" } });
    const before = daemon.clock.nowMs();
    const id = await daemon.submit(other);
    const next = await daemon.nextWorker();
    expect((await next.takeJob()).id).toBe(id);
    await next.done(id, { output: 1 });
    await fleet.poll(next);
    await daemon.until("it sleeps", () => stateOf(next) === "parked");
    expect(daemon.clock.nowMs() - before).toBeLessThan(5_000);
    daemon.pool.hangs = null;
  });
});

describe("SIGTERM", () => {
  async function drained(): Promise<void> {
    let closed = false;
    const closing = daemon.daemon.drain().then(() => {
      closed = true;
    });
    await daemon.until("it has closed", () => closed);
    await closing;
  }

  it("closes although the pool refuses to end a worker", async () => {
    const { worker } = await daemon.ready("stubborn");
    daemon.pool.stop = () => Promise.reject(new Error("the engine does not answer"));
    await drained();
    expect(fleet.asked(worker.id)).toEqual(["kill"]);
    daemon = await startTestDaemon();
  });

  it("gives up starts under way and rows that wait; sleepers end (F-40)", async () => {
    const { endpoint: sleepy, worker: sleeper } = await daemon.ready("sleepy");
    await fleet.update(sleepy, { config: { workers: { min: 0, max: 1 } } });
    await daemon.until("it sleeps", () => stateOf(sleeper) === "parked");
    await holding("llama", "6GiB");
    daemon.pool.holdStarts = () => true;
    const slow = await daemon.deploy("slow");
    await daemon.submit(slow);
    const held = await daemon.until("it starts", () => daemon.pool.held[0]);
    const { endpoint: waits } = await wanting("whisper", "4GiB");
    await daemon.until("it waits", async () => (await fleet.workers(waits)).length === 1);
    await drained();
    expect([held.signal.aborted, daemon.pool.running()]).toEqual([true, []]);
    expect(fleet.asked(sleeper.id)).toEqual(["frozen", "stop"]);
    daemon = await startTestDaemon();
  });
});

it("an endpoint that is deleted while a job of it runs ends its workers and forgets its releases", async () => {
  const { endpoint, worker } = await daemon.ready();
  await daemon.submit(endpoint);
  await worker.takeJob();
  await fleet.update(endpoint, { config: { env: { V: "2" } } });
  await daemon.nextWorker();
  await daemon.call("DELETE", `/api/endpoints/${endpoint}`);
  await daemon.until("all have ended", () => daemon.pool.running().length === 0);
  expect(daemon.store.fleet.releases(endpoint as EndpointId, 10)).toEqual([]);
  await daemon.until("no row is left", () => daemon.store.fleet.workers().length === 0);
});
