import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createSimulatedRandom } from "../../src/runtime/adapters/simulated/random.ts";
import type { JobState, JournalEvent, WorkerId } from "../../src/runtime/core/model.ts";
import type { Applied, LeaseRef, Result, Store } from "../../src/runtime/ports/store.ts";
import { registryStoreSuite } from "./registry-store.ts";
import { secretStoreSuite } from "./secret-store.ts";
import { checkCounts, checkJournal, everything } from "./store-checks.ts";
import { releaseSuite, sleepSuite } from "./store-fleet.ts";
import {
  addReady,
  E,
  endpoint,
  enqueue,
  F,
  idOf,
  key,
  leaseOf,
  namesOf,
  release,
  stockLease,
  submission,
  T0,
  take,
  V,
  W,
  worker,
} from "./store-records.ts";

/** A store under test. Its clock is simulated: time passes only in the arguments. */
export type StoreUnderTest = {
  readonly store: Store;
  close(): Promise<void>;
};

const DONE: Result = { kind: "output", outputJson: '{"ok":true}' };
const BOOM = { kind: "error", error: "boom", outputJson: null, retryDelayMs: 15_000 } as const;
const MEBIBYTE = 1_048_576;

const RACES_IN_A_ROUND = 80;

/** What each store must do: the contract of ports/store.ts, method by method. `races`: jobs in the race of F-43. */
export function storeSuite(makeStore: () => Promise<StoreUnderTest>, { races = 10_000 } = {}): void {
  let made: StoreUnderTest;
  let store: Store;

  beforeEach(async () => {
    made = await makeStore();
    store = made.store;
  });
  afterEach(async () => {
    if (store.jobs.newestSeq() > 0) {
      checkCounts(store);
      checkJournal(store);
    }
    await made.close();
  });

  /** A store with ready workers and queued jobs. */
  async function setUp(names: readonly string[], options: Parameters<typeof enqueue>[2] = {}): Promise<void> {
    await addReady(store, W);
    await addReady(store, V);
    await enqueue(store, names, options);
  }

  const stateOf = (name: string) => store.jobs.find(idOf(name))?.state;
  const endOf = (name: string) => {
    const job = store.jobs.find(idOf(name));
    return job && "end" in job ? job.end : null;
  };
  const payloadOf = (name: string) => store.jobs.view(idOf(name))?.payload;
  const story = (name: string) =>
    store.journal.read({ jobId: idOf(name), limit: 1_000 }).map(({ kind }) => kind);
  const finish = (name: string, result = DONE, nowMs = T0, workerId = W) =>
    store.jobs.finish(stockLease(name, workerId), result, nowMs);
  const append = (name: string, ...chunks: string[]) =>
    Promise.all(
      chunks.map((chunkJson) =>
        store.jobs.appendChunk(stockLease(name), { chunkJson, part: null }, MEBIBYTE),
      ),
    );
  const read = async (name: string, maxBytes = MEBIBYTE) => {
    const page = await store.jobs.readChunks(idOf(name), maxBytes);
    return page?.chunksJson;
  };

  describe("enqueue", () => {
    test("what was submitted can be read back, byte for byte", async () => {
      const inputJson = '{"n": 9007199254740993, "s": "\\u0000 é \u2028 😀", "__proto__": 1.0e2}';
      const wanted = submission("a", {
        inputJson,
        webhookUrl: "https://hook.test/",
        policy: { lowPriority: true },
      });
      const payload = { inputJson, extrasJson: '{"s3Config":{"a":1}}' };
      expect(await store.jobs.enqueue({ ...wanted, payload }, T0)).toEqual({ kind: "accepted" });
      expect(store.jobs.view(idOf("a"))).toEqual({
        job: wanted.job,
        payload: { ...payload, outputJson: null, error: null },
      });
      expect(store.jobs.view(idOf("b"))).toBeNull();
      expect(store.jobs.find(idOf("b"))).toBeNull();
    });

    test("F-02 a repeat with its key gives the same job, another body is a conflict", async () => {
      const idempotency = { scope: "ann/e/run", key: "k", bodyDigest: "d1" };
      await enqueue(store, ["a"], { idempotency });
      const before = everything(store);
      const again = (fields: object) =>
        store.jobs.enqueue(submission("b", { idempotency: { ...idempotency, ...fields } }), T0 + 1);
      expect(await again({})).toEqual({ kind: "repeated", jobId: "a" });
      expect(await again({ bodyDigest: "d2" })).toEqual({ kind: "key_conflict" });
      expect(everything(store)).toBe(before);
      expect(await again({ scope: "bob/e/run" })).toEqual({ kind: "accepted" });
    });

    test("INV-3 fifty repeats at once make one job", async () => {
      const idempotency = { scope: "s", key: "k", bodyDigest: "d" };
      const outcomes = await Promise.all(
        Array.from({ length: 50 }, (_, index) =>
          store.jobs.enqueue(submission(`j${index}`, { idempotency }), T0),
        ),
      );
      expect(outcomes.filter(({ kind }) => kind === "accepted")).toHaveLength(1);
      expect(new Set(outcomes.flatMap((each) => (each.kind === "repeated" ? [each.jobId] : [])))).toEqual(
        new Set(["j0"]),
      );
      expect(store.jobs.counts(E, null).accepted).toBe(1);
    });

    test("a key lives for a day, or as long as its job", async () => {
      const day = 86_400_000;
      const idempotency = { scope: "s", key: "k", bodyDigest: "d" };
      const repeat = (name: string, atMs: number) =>
        store.jobs.enqueue(submission(name, { idempotency, atMs }), atMs);
      await setUp(["a"], { idempotency });
      await take(store);
      await finish("a");
      expect(await repeat("b", T0 + 2 * day)).toEqual({ kind: "repeated", jobId: "a" });
      await store.jobs.prune({ metadataBeforeMs: T0 + 1, limit: 100 }, T0 + 1_800_000);
      expect(store.jobs.find(idOf("a"))).toBeNull();
      expect(await repeat("b", T0 + day - 1)).toEqual({ kind: "repeated", jobId: "a" });
      expect(await repeat("b", T0 + day)).toEqual({ kind: "accepted" });
      expect(await repeat("c", T0 + day + 1)).toEqual({ kind: "repeated", jobId: "b" });
      // The first job's row is gone by design: its counts stay, its story is told by the journal alone.
      await store.jobs.cancel(idOf("b"), T0 + day + 2);
      store = await restart();
    });

    test("the endpoint's limit holds within one turn", async () => {
      await addReady(store, W);
      await enqueue(store, ["low"], { endpointId: F });
      const outcomes = await Promise.all(
        ["a", "b", "c"].map((name) => store.jobs.enqueue(submission(name, { maxQueued: 2 }), T0)),
      );
      expect(outcomes.map(({ kind }) => kind)).toEqual(["accepted", "accepted", "endpoint_full"]);
      expect(store.jobs.find(idOf("c"))).toBeNull();
      await take(store);
      expect(await store.jobs.enqueue(submission("c", { maxQueued: 2 }), T0)).toEqual({ kind: "accepted" });
    });

    test("the owner's limit counts all endpoints, and nobody else's jobs", async () => {
      await enqueue(store, ["a"], { endpointId: F, maxOwnerQueued: 2 });
      await enqueue(store, ["x", "y", "z"], { owner: "bob" });
      await enqueue(store, ["b"], { maxOwnerQueued: 2 });
      expect(await store.jobs.enqueue(submission("c", { maxOwnerQueued: 2 }), T0)).toEqual({
        kind: "owner_full",
      });
    });

    test("a job id is taken once; the submission that repeats it fails alone", async () => {
      const outcomes = await Promise.allSettled(
        ["a", "a", "b"].map((name) => store.jobs.enqueue(submission(name), T0)),
      );
      expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
      expect(store.jobs.counts(E, null)).toMatchObject({ inQueue: 2, accepted: 2 });
    });
  });

  describe("take", () => {
    test("by priority, then in order of arrival", async () => {
      await setUp(["low-1"], { policy: { lowPriority: true } });
      await enqueue(store, ["b", "a"]);
      await enqueue(store, ["low-2"], { policy: { lowPriority: true } });
      await enqueue(store, ["c"]);
      await enqueue(store, ["other"], { endpointId: F });
      expect(namesOf(await take(store, { max: 2 }))).toEqual(["b", "a"]);
      expect(namesOf(await take(store, { max: 10 }))).toEqual(["c", "low-1", "low-2"]);
      expect(await take(store, { max: 1 })).toEqual([]);
      expect(stateOf("other")).toBe("IN_QUEUE");
    });

    test("hands over the job and its payload, with the lease in force", async () => {
      await setUp(["a"]);
      const [delivery] = await take(store, {}, T0 + 40);
      expect(delivery).toMatchObject({
        job: {
          id: "a",
          state: "IN_PROGRESS",
          attempts: 1,
          deliveries: 1,
          lease: { workerId: W, takenAtMs: T0 + 40 },
        },
        payload: { inputJson: '{"name":"a"}', extrasJson: "{}" },
      });
      expect(store.jobs.find(idOf("a"))).toEqual(delivery?.job);
      expect(store.jobs.leases(W)).toEqual([delivery?.job]);
      expect(store.jobs.leases(V)).toEqual([]);
    });

    test("F-42 a worker that is not ready gets nothing", async () => {
      await addReady(store, V);
      await enqueue(store, ["a"]);
      expect(await take(store)).toEqual([]);
      await store.fleet.addWorker(worker(W), "digest", T0);
      for (const to of ["starting", "ready", "parked", "draining", "gone"] as const) {
        if (to === "parked") await store.fleet.parkWorker(W, "frozen", "test", T0);
        else await store.fleet.moveWorker(W, { to, reason: "test" }, T0);
        if (to === "ready") continue;
        expect([store.fleet.worker(W)?.state, await take(store)]).toEqual([to, []]);
      }
      expect(stateOf("a")).toBe("IN_QUEUE");
    });

    test("INV-10 a worker gets the jobs of its own endpoint only", async () => {
      await setUp(["a"]);
      await addReady(store, "other" as WorkerId, F);
      expect(await take(store, { workerId: "other" as WorkerId, endpointId: E })).toEqual([]);
    });

    test("F-42 drain and take in one turn: the order of the calls decides", async () => {
      await setUp(["a", "b"]);
      const drain = (id: WorkerId) =>
        store.fleet.moveWorker(id, { to: "draining", reason: "scale down" }, T0);
      const [, none] = await Promise.all([drain(W), take(store)]);
      const [one] = await Promise.all([take(store, { workerId: V }), drain(V)]);
      expect([none, namesOf(one)]).toEqual([[], ["a"]]);
    });

    test("no job goes to two workers, however many ask at once", async () => {
      await setUp(Array.from({ length: 20 }, (_, index) => `j${index}`));
      const takes = await Promise.all(
        Array.from({ length: 15 }, (_, index) => take(store, { workerId: index % 2 ? V : W, max: 2 })),
      );
      const names = takes.flatMap(namesOf);
      expect(names).toHaveLength(20);
      expect(new Set(names).size).toBe(20);
    });

    test("jobs whose time is over are passed by, and wait for the sweep", async () => {
      await setUp(["old-1", "old-2"], { policy: { ttlMs: 1_000 } });
      await enqueue(store, ["a"]);
      expect(namesOf(await take(store, { max: 2 }, T0 + 1_000))).toEqual(["a"]);
      expect(stateOf("old-1")).toBe("IN_QUEUE");
      await store.jobs.endOverdue(T0 + 1_000, 10);
      expect(endOf("old-1")).toMatchObject({
        failure: "ttl",
        delayMs: 1_000,
        executionMs: 0,
        workerId: null,
      });
      expect(payloadOf("old-1")?.error).toContain("time to live");
    });

    test("prefetched jobs start one by one, in the order in which they were handed over", async () => {
      await setUp(["low"], { policy: { lowPriority: true } });
      await enqueue(store, ["a", "b"]);
      expect(namesOf(await take(store, { max: 3, startable: 1 }, T0 + 10))).toEqual(["a", "b", "low"]);
      const started = () =>
        store.jobs
          .leases(W)
          .flatMap(({ id, lease }) =>
            lease.startedAtMs === null ? [] : [`${id} ${lease.startedAtMs - T0}`],
          );
      expect(started()).toEqual(["a 10"]);
      await finish("a", DONE, T0 + 100);
      expect(started()).toEqual(["b 100"]);
      expect(endOf("a")).toMatchObject({ delayMs: 10, executionMs: 90 });
      await store.jobs.cancel(idOf("b"), T0 + 150);
      expect(started()).toEqual(["low 150"]);
      await finish("low", DONE, T0 + 400);
      expect(endOf("low")).toMatchObject({ delayMs: 150, executionMs: 250 });
    });

    test("the end of a prefetched job starts no other", async () => {
      await setUp(["a", "b", "c"]);
      await take(store, { max: 3, startable: 1 });
      await store.jobs.cancel(idOf("b"), T0 + 5);
      expect(store.jobs.leases(W).map(({ lease }) => lease.startedAtMs)).toEqual([T0, null]);
    });
  });

  describe("finish", () => {
    test.each<[string, Result, JobState, object, object]>([
      ["an output", DONE, "COMPLETED", { failure: null }, { outputJson: '{"ok":true}', error: null }],
      ["no output", { kind: "output", outputJson: null }, "COMPLETED", {}, { outputJson: null, error: null }],
      ["an error", BOOM, "FAILED", { failure: "handler" }, { outputJson: null, error: "boom" }],
      [
        "an error with output",
        { ...BOOM, outputJson: "[1]" },
        "FAILED",
        { failure: "handler" },
        { outputJson: "[1]", error: "boom" },
      ],
      [
        "an unreadable result",
        { kind: "rejected", failure: "invalid_result", error: "invalid_result: x" },
        "FAILED",
        { failure: "invalid_result" },
        { outputJson: null, error: "invalid_result: x" },
      ],
    ])("%s", async (_, result, state, end, payload) => {
      await setUp(["a"]);
      await take(store, {}, T0 + 40);
      const { applied, job } = await finish("a", result, T0 + 140);
      expect([applied, job]).toEqual([true, store.jobs.find(idOf("a"))]);
      expect(job).toMatchObject({
        state,
        end: { ...end, atMs: T0 + 140, workerId: W, delayMs: 40, executionMs: 100 },
      });
      expect(payloadOf("a")).toMatchObject(payload);
      expect(store.jobs.leases(W)).toEqual([]);
      expect(await finish("a", result, T0 + 150)).toEqual({ applied: false, job });
    });

    test("a handler's error is tried again as often as the policy says, after its backoff", async () => {
      await setUp(["a"], { policy: { handlerRetries: 1 } });
      await take(store);
      await finish("a", BOOM, T0 + 10);
      expect(stateOf("a")).toBe("IN_QUEUE");
      expect(payloadOf("a")).toMatchObject({ error: null, outputJson: null });
      expect([store.jobs.delayed(E), await take(store, {}, T0 + 20)]).toEqual([1, []]);
      expect(store.jobs.nextDueMs()).toBe(T0 + 15_010);
      expect(await store.jobs.releaseDelayed(T0 + 15_009, 10)).toBe(0);
      expect(await store.jobs.releaseDelayed(T0 + 15_010, 10)).toBe(1);
      expect(await store.jobs.releaseDelayed(T0 + 15_010, 10)).toBe(0);
      expect([store.jobs.delayed(E), store.jobs.sample(E).inQueueNormal]).toEqual([0, 1]);
      // The backoff is no wait for a worker: neither the scaler nor the client sees it as one.
      expect(store.jobs.sample(E).oldestQueuedAtMs).toBe(T0 + 15_010);
      expect(namesOf(await take(store, {}, T0 + 15_030))).toEqual(["a"]);
      await finish("a", BOOM, T0 + 15_050);
      expect(endOf("a")).toMatchObject({ failure: "handler", delayMs: 20, executionMs: 20 });
      expect(story("a")).toEqual([
        "job.submit",
        "job.take",
        "job.fail",
        "job.available",
        "job.take",
        "job.fail",
      ]);
    });

    test("a job can end during its backoff", async () => {
      await setUp(["a", "b"], { policy: { handlerRetries: 1 } });
      await take(store, { max: 2 });
      await Promise.all([finish("a", BOOM), finish("b", BOOM)]);
      await store.jobs.cancel(idOf("a"), T0 + 1);
      await store.jobs.releaseDelayed(T0 + 20_000, 10);
      await store.jobs.cancel(idOf("b"), T0 + 20_001);
      expect(store.jobs.counts(E, null)).toMatchObject({ inQueue: 0, cancelled: 2 });
    });
  });

  /** How the lease of a job is superseded, for every way there is. */
  const SUPERSEDED: readonly [string, (lease: LeaseRef) => Promise<unknown>][] = [
    ["an earlier result", (lease) => store.jobs.finish(lease, DONE, T0 + 1)],
    ["an earlier error", (lease) => store.jobs.finish(lease, BOOM, T0 + 1)],
    ["a cancel", () => store.jobs.cancel(idOf("a"), T0 + 1)],
    ["the execution timeout", () => store.jobs.endOverdue(T0 + 600_000, 10)],
    ["the time to live", () => store.jobs.endOverdue(T0 + 86_400_000, 10)],
    ["the loss of its worker", (lease) => store.jobs.endLeases(lease.workerId, "lose", "gone", T0 + 1)],
    ["a return", (lease) => store.jobs.endLease(lease, "return", "socket", T0 + 1)],
    [
      "a lease of another worker",
      async (lease) => {
        await store.jobs.endLease(lease, "lose", "lost", T0 + 1);
        await take(store, { workerId: V });
      },
    ],
    [
      "a retry, taken by another worker",
      async (lease) => {
        await store.jobs.finish(lease, BOOM, T0 + 1);
        await store.jobs.retry(idOf("a"), T0 + 2);
        await take(store, { workerId: V });
      },
    ],
  ];

  describe("INV-4 a superseded lease writes nothing (F-20, F-21, ACC-07)", () => {
    for (const [name, supersede] of SUPERSEDED) {
      test(`after ${name}`, async () => {
        await setUp(["a"], { webhookUrl: "https://hook.test/" });
        await take(store);
        await append("a", '"kept"');
        await supersede(stockLease("a"));
        const before = everything(store);
        for (const delivery of [null, 1, 2]) {
          const lease = { jobId: idOf("a"), workerId: W, delivery };
          const late: Applied[] = await Promise.all([
            store.jobs.finish(lease, DONE, T0 + 5),
            store.jobs.finish(lease, BOOM, T0 + 5),
            store.jobs.progress(lease, '"late"', T0 + 5),
            store.jobs.appendChunk(lease, { chunkJson: '"late"', part: null }, MEBIBYTE),
            store.jobs.endLease(lease, "lose", "late", T0 + 5),
            store.jobs.endLease(lease, "return", "late", T0 + 5),
          ]);
          expect(late.map(({ applied }) => applied)).toEqual(Array(6).fill(false));
          for (const { job } of late) expect(job).toEqual(store.jobs.find(idOf("a")));
        }
        expect(everything(store)).toBe(before);
      });
    }

    test("another worker, another delivery and an unknown job are refused", async () => {
      await setUp(["a"]);
      await take(store);
      const before = everything(store);
      for (const lease of [
        stockLease("a", V),
        { ...stockLease("a"), delivery: 2 },
        { ...stockLease("a"), delivery: 0 },
        stockLease("nothing"),
      ]) {
        expect((await store.jobs.finish(lease, DONE, T0)).applied).toBe(false);
        expect((await store.jobs.appendChunk(lease, { chunkJson: "1", part: null }, MEBIBYTE)).applied).toBe(
          false,
        );
      }
      expect(everything(store)).toBe(before);
      expect((await store.jobs.finish({ ...stockLease("a"), delivery: 1 }, DONE, T0)).applied).toBe(true);
    });

    test("a worker that got the job again is fenced by the number of its delivery", async () => {
      await setUp(["a"]);
      const first = (await take(store))[0];
      if (!first) throw new Error("no delivery");
      await store.jobs.endLease(leaseOf(first), "lose", "result lost", T0 + 1);
      await take(store);
      const before = everything(store);
      expect((await store.jobs.finish(leaseOf(first), DONE, T0 + 2)).applied).toBe(false);
      expect(everything(store)).toBe(before);
    });

    test("F-19 fifty duplicates at once: one is applied, one webhook, nothing else changes", async () => {
      await setUp(["a"], { webhookUrl: "https://hook.test/" });
      await take(store);
      const first = await finish("a", { kind: "output", outputJson: "0" }, T0 + 1);
      const before = everything(store);
      const outcomes = await Promise.all(
        Array.from({ length: 50 }, (_, index) =>
          finish("a", { kind: "output", outputJson: `${index}` }, T0 + 2),
        ),
      );
      expect([first.applied, outcomes.filter(({ applied }) => applied)]).toEqual([true, []]);
      expect(everything(store)).toBe(before);
      expect(store.outbox.due(T0 + 9, 10)).toHaveLength(1);
    });

    test("fifty first results at once: the first one wins", async () => {
      await setUp(["a"], { webhookUrl: "https://hook.test/" });
      await take(store);
      const outcomes = await Promise.all(
        Array.from({ length: 50 }, (_, index) => finish("a", { kind: "output", outputJson: `${index}` })),
      );
      expect(outcomes.map(({ applied }) => applied)).toEqual([true, ...Array(49).fill(false)]);
      expect(payloadOf("a")?.outputJson).toBe("0");
      expect(store.outbox.due(T0, 10)).toHaveLength(1);
    });
  });

  describe("progress", () => {
    test("is the output while the job runs, the latest first; the result replaces it", async () => {
      await setUp(["a"]);
      await take(store);
      await store.jobs.progress(stockLease("a"), '"10%"', T0);
      await store.jobs.progress(stockLease("a"), '"20%"', T0);
      expect([payloadOf("a")?.outputJson, stateOf("a")]).toEqual(['"20%"', "IN_PROGRESS"]);
      await finish("a");
      expect(payloadOf("a")?.outputJson).toBe('{"ok":true}');
    });

    test("is dropped with its delivery, and kept by a job that times out", async () => {
      await setUp(["a", "b"]);
      await take(store, { max: 2 });
      for (const name of ["a", "b"]) await store.jobs.progress(stockLease(name), '"half"', T0);
      await store.jobs.endLease(stockLease("a"), "lose", "gone", T0);
      expect(payloadOf("a")?.outputJson).toBeNull();
      await store.jobs.endOverdue(T0 + 600_000, 10);
      expect(payloadOf("b")).toMatchObject({ outputJson: '"half"', error: "job timed out after 0 retries" });
    });
  });

  describe("stream", () => {
    test("each chunk is read once, in order", async () => {
      await setUp(["a", "b"]);
      await take(store, { max: 2 });
      expect(await read("a")).toEqual([]);
      await append("a", '"1"', '"2"');
      await append("b", '"other"');
      await append("a", '"3"');
      expect(store.jobs.hasChunks(idOf("a"))).toBe(true);
      expect(await read("a")).toEqual(['"1"', '"2"', '"3"']);
      expect(store.jobs.hasChunks(idOf("a"))).toBe(false);
      expect(await read("a")).toEqual([]);
      await append("a", '"4"');
      await finish("a");
      expect(await store.jobs.readChunks(idOf("a"), MEBIBYTE)).toMatchObject({
        state: "COMPLETED",
        chunksJson: ['"4"'],
        more: false,
      });
      expect(await store.jobs.readChunks(idOf("nothing"), MEBIBYTE)).toBeNull();
    });

    test("a reply is bounded in bytes, but holds one chunk at least", async () => {
      await setUp(["a"]);
      await take(store);
      await append("a", '"ééé"', '"ééé"', '"xxxxxxxxxxxxxxxxxxxx"', '"y"');
      const page = () => store.jobs.readChunks(idOf("a"), 10);
      expect(await page()).toMatchObject({ chunksJson: ['"ééé"'], more: true });
      expect(await page()).toMatchObject({ chunksJson: ['"ééé"'], more: true });
      expect(await page()).toMatchObject({ chunksJson: ['"xxxxxxxxxxxxxxxxxxxx"'], more: true });
      expect(await page()).toMatchObject({ chunksJson: ['"y"'], more: false });
    });

    test("a reply that did not leave is read again", async () => {
      await setUp(["a"]);
      await take(store);
      await append("a", "1", "2");
      await read("a");
      await append("a", "3");
      const page = await store.jobs.readChunks(idOf("a"), MEBIBYTE);
      await store.jobs.rewindChunks(idOf("a"), page?.cursor ?? 0);
      expect(await read("a")).toEqual(["3"]);
      await store.jobs.rewindChunks(idOf("a"), 0);
      expect(await read("a")).toEqual(["1", "2", "3"]);
    });

    test("two readers at once share the chunks, none is read twice", async () => {
      await setUp(["a"]);
      await take(store);
      await append("a", "1", "2");
      expect((await Promise.all([read("a"), read("a")])).flat()).toEqual(["1", "2"]);
    });

    test("a stream over its limit keeps what it had and takes no more", async () => {
      await setUp(["a"]);
      await take(store);
      const add = (chunkJson: string) =>
        store.jobs.appendChunk(stockLease("a"), { chunkJson, part: null }, 10);
      expect(await add('"ééé"')).toMatchObject({ applied: true, tooLarge: false });
      expect(await add("12345")).toMatchObject({ applied: false, tooLarge: true });
      expect(await add("12")).toMatchObject({ applied: true, tooLarge: false });
      expect(await read("a")).toEqual(['"ééé"', "12"]);
    });

    test("the chunks of a lost delivery are dropped, those of the next one are all read", async () => {
      await setUp(["a"]);
      await take(store);
      await append("a", "1", "2", "3");
      const page = await store.jobs.readChunks(idOf("a"), MEBIBYTE);
      await append("a", "4");
      await store.jobs.endLease(stockLease("a"), "lose", "gone", T0);
      expect([store.jobs.hasChunks(idOf("a")), await read("a")]).toEqual([false, []]);
      await take(store);
      await append("a", '"new 1"', '"new 2"');
      expect(store.jobs.hasChunks(idOf("a"))).toBe(true);
      expect(await read("a")).toEqual(['"new 1"', '"new 2"']);
      // The reply with the old chunks is found to have failed only now.
      await append("a", '"new 3"');
      await store.jobs.rewindChunks(idOf("a"), (page?.cursor ?? 0) + 1_000);
      expect(await read("a")).toEqual(['"new 3"']);
    });

    test("what a lost delivery streamed does not use up the limit of the next one", async () => {
      await setUp(["a"]);
      const stream = () => store.jobs.appendChunk(stockLease("a"), { chunkJson: '"xxxxxx"', part: null }, 10);
      await take(store);
      expect((await stream()).applied).toBe(true);
      await store.jobs.endLease(stockLease("a"), "lose", "gone", T0);
      await take(store);
      expect(await stream()).toMatchObject({ applied: true, tooLarge: false });
    });

    test("a numbered chunk that is posted again changes nothing, in the next delivery it counts anew", async () => {
      await setUp(["a"]);
      const post = (part: number, text: string) =>
        store.jobs.appendChunk(stockLease("a"), { chunkJson: text, part }, MEBIBYTE);
      await take(store);
      for (const [part, text] of [
        [0, "1"],
        [1, "2"],
        [1, "2"],
        [0, "1"],
        [2, "3"],
      ] as const)
        await post(part, text);
      expect(await read("a")).toEqual(["1", "2", "3"]);
      await store.jobs.endLease(stockLease("a"), "lose", "gone", T0);
      await take(store);
      await post(0, '"again"');
      expect(await read("a")).toEqual(['"again"']);
    });

    test("a retry begins with an empty stream", async () => {
      await setUp(["a"]);
      await take(store);
      await append("a", "1");
      await finish("a", BOOM);
      await store.jobs.retry(idOf("a"), T0);
      expect([await read("a"), payloadOf("a")?.error]).toEqual([[], null]);
      await take(store);
      await append("a", "2");
      expect(await read("a")).toEqual(["2"]);
    });
  });

  describe("leases", () => {
    test("F-15 three losses end a job, with the last reason", async () => {
      await setUp(["a"]);
      for (const reason of ["first", "second", "killed (137)"]) {
        await take(store);
        await store.jobs.endLeases(W, "lose", reason, T0 + 5);
      }
      expect(store.jobs.find(idOf("a"))).toMatchObject({
        state: "FAILED",
        attempts: 3,
        end: { failure: "worker_lost" },
      });
      expect(payloadOf("a")?.error).toBe(
        "worker_lost: 3 deliveries ended without a result; the last: killed (137)",
      );
    });

    test("F-04 returned leases do not count, and go back to their place in the queue", async () => {
      await setUp(["a", "b", "c"]);
      for (let round = 0; round < 5; round += 1) {
        expect(namesOf(await take(store, { max: 2 }))).toEqual(["a", "b"]);
        const ended = await store.jobs.endLeases(W, "return", "drained", T0 + round);
        expect(ended.map(({ state, attempts }) => [state, attempts])).toEqual([
          ["IN_QUEUE", 0],
          ["IN_QUEUE", 0],
        ]);
      }
      expect(store.jobs.find(idOf("a"))).toMatchObject({ attempts: 0, deliveries: 5, queuedAtMs: T0 + 4 });
      expect(store.jobs.counts(E, null).retried).toBe(0);
    });

    test("all leases of one worker end, no other's, and none starts on the way out", async () => {
      await setUp(["low"], { policy: { lowPriority: true } });
      await enqueue(store, ["a", "b", "c"]);
      await take(store, { max: 3, startable: 1 });
      await take(store, { workerId: V });
      const ended = await store.jobs.endLeases(W, "lose", "gone", T0 + 5);
      expect(ended.map(({ id }) => id).sort()).toEqual(["a", "b", "c"]);
      expect(store.jobs.leases(V).map(({ id }) => id)).toEqual(["low"]);
      expect(store.journal.read({ limit: 1_000 }).filter(({ kind }) => kind === "job.start")).toEqual([]);
      expect(await store.jobs.endLeases(W, "lose", "again", T0 + 6)).toEqual([]);
    });

    test("leases are listed oldest first", async () => {
      await setUp(["a", "b", "c"]);
      await take(store, {}, T0 + 1);
      await take(store, {}, T0 + 2);
      await store.jobs.endLease(stockLease("a"), "return", "closed", T0 + 3);
      await take(store, { max: 2 }, T0 + 4);
      expect(store.jobs.leases(W).map(({ id }) => id)).toEqual(["b", "a", "c"]);
    });
  });

  describe("cancel", () => {
    test("ends a waiting and a running job, and leaves an ended one as it is", async () => {
      await setUp(["a", "b"]);
      await take(store);
      expect(await store.jobs.cancel(idOf("a"), T0 + 7)).toMatchObject({
        applied: true,
        job: { state: "CANCELLED", end: { workerId: W, executionMs: 7 } },
      });
      expect(await store.jobs.cancel(idOf("b"), T0 + 7)).toMatchObject({
        applied: true,
        job: { state: "CANCELLED" },
      });
      const before = everything(store);
      expect(await store.jobs.cancel(idOf("b"), T0 + 8)).toMatchObject({
        applied: false,
        job: { state: "CANCELLED" },
      });
      expect(await store.jobs.cancel(idOf("nothing"), T0)).toEqual({ applied: false, job: null });
      expect(everything(store)).toBe(before);
    });

    test("F-43 races with results, losses, timeouts and takes leave one end each", async () => {
      const random = createSimulatedRandom(43);
      const shuffled = <T>(list: T[]): T[] => list.sort(() => random.fraction() - 0.5);
      const webhookUrl = "https://hook.test/";
      await setUp([]);
      for (let round = 0; round < races / RACES_IN_A_ROUND; round += 1) {
        const names = Array.from({ length: RACES_IN_A_ROUND }, (_, index) => `r${round}-${index}`);
        const nowMs = T0 + round;
        await enqueue(store, names, {
          webhookUrl,
          atMs: nowMs,
          policy: { ttlMs: 500, executionTimeoutMs: 400 },
        });
        const taken = await take(store, { max: 60 }, nowMs);
        const races = taken.flatMap((delivery) => [
          () => store.jobs.cancel(delivery.job.id, nowMs),
          () => store.jobs.finish(leaseOf(delivery), random.fraction() < 0.5 ? DONE : BOOM, nowMs),
          ...(random.fraction() < 0.2
            ? [
                () =>
                  store.jobs.endLease(
                    leaseOf(delivery),
                    random.fraction() < 0.5 ? "lose" : "return",
                    "gone",
                    nowMs,
                  ),
              ]
            : []),
        ]);
        const queued = names.slice(60).map((name) => () => store.jobs.cancel(idOf(name), nowMs));
        const others = [
          () => take(store, { workerId: V, max: 10 }, nowMs),
          () => store.jobs.endOverdue(nowMs + 400, 5),
          () => store.jobs.endOverdue(nowMs + 600, 5),
        ];
        await Promise.all(shuffled([...races, ...queued, ...others]).map((race) => race()));
        await store.jobs.endOverdue(nowMs + 10_000, 1_000);
      }
      expect(store.jobs.counts(E, null)).toMatchObject({ accepted: races, inQueue: 0, inProgress: 0 });
      const ends = store.outbox.due(T0 + 1_000_000, 100_000);
      expect(ends).toHaveLength(races);
      expect(new Set(ends.map(({ jobId }) => jobId)).size).toBe(races);
    });

    test("F-43 the answers to a race say who won", async () => {
      await setUp(["a", "b"]);
      await take(store, { max: 2 });
      const [cancelled, late] = await Promise.all([store.jobs.cancel(idOf("a"), T0), finish("a")]);
      expect([cancelled.applied, late.applied, late.job?.state]).toEqual([true, false, "CANCELLED"]);
      const [done, tooLate] = await Promise.all([finish("b"), store.jobs.cancel(idOf("b"), T0)]);
      expect([done.applied, tooLate.applied, tooLate.job?.state]).toEqual([true, false, "COMPLETED"]);
    });
  });

  describe("purge", () => {
    const purge = (fields: object = {}) =>
      store.jobs.purge(
        { endpointId: E, owner: null, upToSeq: store.jobs.newestSeq(), limit: 100, ...fields },
        T0 + 9,
      );

    test("F-44 ends queued jobs only, and counts them", async () => {
      await setUp(["a", "b", "c"]);
      await enqueue(store, ["other"], { endpointId: F });
      await take(store);
      expect(await purge()).toBe(2);
      expect(await purge()).toBe(0);
      expect(["a", "b", "c", "other"].map(stateOf)).toEqual([
        "IN_PROGRESS",
        "CANCELLED",
        "CANCELLED",
        "IN_QUEUE",
      ]);
      expect(story("b")).toEqual(["job.submit", "job.purge"]);
    });

    test("in batches, of one owner, and nothing that came later", async () => {
      await enqueue(store, ["a", "b", "c"]);
      await enqueue(store, ["x"], { owner: "bob" });
      const upToSeq = store.jobs.newestSeq();
      await enqueue(store, ["d"]);
      expect(await purge({ owner: "ann", upToSeq, limit: 2 })).toBe(2);
      expect(await purge({ owner: "ann", upToSeq, limit: 2 })).toBe(1);
      expect(await purge({ owner: "ann", upToSeq, limit: 2 })).toBe(0);
      expect(["x", "d"].map(stateOf)).toEqual(["IN_QUEUE", "IN_QUEUE"]);
    });

    test("F-44 a purge among takes: each job is either taken or purged", async () => {
      await setUp(Array.from({ length: 30 }, (_, index) => `j${index}`));
      const [first, purged, second] = await Promise.all([
        take(store, { max: 10 }),
        purge({ limit: 15 }),
        take(store, { workerId: V, max: 10 }),
      ]);
      expect([first.length, purged, second.length]).toEqual([10, 15, 5]);
      expect(store.jobs.counts(E, null)).toMatchObject({ inQueue: 0, inProgress: 15, cancelled: 15 });
    });
  });

  describe("retry", () => {
    test("begins a new generation with the old input, in the old place", async () => {
      await setUp(["a", "b"]);
      await take(store);
      await finish("a", BOOM, T0 + 10);
      const { applied, job } = await store.jobs.retry(idOf("a"), T0 + 100);
      expect(applied).toBe(true);
      expect(job).toMatchObject({
        state: "IN_QUEUE",
        generation: 2,
        attempts: 0,
        deliveries: 1,
        queuedAtMs: T0 + 100,
        expiresAtMs: T0 + 100 + 86_400_000,
      });
      expect(store.jobs.find(idOf("a"))).toEqual(job);
      const [delivery] = await take(store, {}, T0 + 120);
      expect(delivery).toMatchObject({
        job: { id: "a", attempts: 1, deliveries: 2 },
        payload: { inputJson: '{"name":"a"}' },
      });
      await finish("a", DONE, T0 + 130);
      expect(endOf("a")).toMatchObject({ delayMs: 20, executionMs: 10 });
      expect(store.jobs.counts(E, null)).toMatchObject({ accepted: 2, retried: 1, failed: 0, completed: 1 });
    });

    test("refuses every state but FAILED and TIMED_OUT", async () => {
      await setUp(["completed", "cancelled", "running", "queued"]);
      await take(store, { max: 3 });
      await finish("completed");
      await store.jobs.cancel(idOf("cancelled"), T0);
      const before = everything(store);
      for (const name of ["completed", "cancelled", "running", "queued"])
        expect((await store.jobs.retry(idOf(name), T0)).applied).toBe(false);
      expect(await store.jobs.retry(idOf("nothing"), T0)).toEqual({ applied: false, job: null });
      expect(everything(store)).toBe(before);
    });

    test("a job that timed out can be retried and gets a new time to live", async () => {
      await setUp(["a"], { policy: { ttlMs: 1_000 } });
      await store.jobs.endOverdue(T0 + 1_000, 10);
      expect((await store.jobs.retry(idOf("a"), T0 + 5_000)).job?.expiresAtMs).toBe(T0 + 6_000);
    });

    test("a job whose input is gone cannot be retried", async () => {
      await setUp(["a"], { policy: { retention: { completedMs: 1, failedMs: 1 } } });
      await take(store);
      await finish("a", BOOM);
      await store.jobs.prune({ metadataBeforeMs: 0, limit: 10 }, T0 + 10);
      expect(await store.jobs.retry(idOf("a"), T0 + 11)).toMatchObject({
        applied: false,
        job: { state: "FAILED" },
      });
    });

    test("each generation has its own webhook", async () => {
      await setUp(["a"], { webhookUrl: "https://hook.test/" });
      for (let generation = 1; generation <= 3; generation += 1) {
        await take(store);
        await finish("a", BOOM);
        await store.jobs.retry(idOf("a"), T0);
      }
      expect(store.outbox.due(T0, 10).map(({ generation }) => generation)).toEqual([1, 2, 3]);
    });
  });

  describe("time", () => {
    test("ends what is overdue, as it was before, up to the limit", async () => {
      await setUp(["running"], { policy: { executionTimeoutMs: 5_000 } });
      await enqueue(store, ["queued"], { policy: { ttlMs: 6_000 } });
      await enqueue(store, ["later"]);
      await take(store, {}, T0 + 1_000);
      expect(store.jobs.nextDueMs()).toBe(T0 + 6_000);
      expect(await store.jobs.endOverdue(T0 + 5_999, 10)).toEqual([]);
      const ended = await store.jobs.endOverdue(T0 + 6_000, 10);
      expect(ended.map(({ id, state }) => [id, state]).sort()).toEqual([
        ["queued", "IN_QUEUE"],
        ["running", "IN_PROGRESS"],
      ]);
      expect(endOf("running")).toMatchObject({
        failure: "execution_timeout",
        executionMs: 5_000,
        workerId: W,
      });
      expect(stateOf("running")).toBe("FAILED");
      expect(payloadOf("running")?.error).toBe("job timed out after 0 retries");
      expect(stateOf("queued")).toBe("TIMED_OUT");
      expect(payloadOf("queued")?.error).toContain("time to live");
      expect(store.jobs.nextDueMs()).toBe(T0 + 86_400_000);
    });

    test("the limit bounds both kinds together", async () => {
      await setUp(["a", "b", "c"], { policy: { executionTimeoutMs: 100 } });
      await take(store, { max: 3 });
      await enqueue(store, ["d", "e", "f"], { policy: { ttlMs: 100 } });
      const sizes: number[] = [];
      for (let pass = 0; pass < 4; pass += 1) sizes.push((await store.jobs.endOverdue(T0 + 100, 2)).length);
      expect(sizes).toEqual([2, 2, 2, 0]);
    });

    test("the time to live counts while running, too", async () => {
      await setUp(["a"], { policy: { ttlMs: 5_000 } });
      await take(store);
      await store.jobs.endOverdue(T0 + 5_000, 10);
      expect([stateOf("a"), endOf("a")?.failure]).toEqual(["TIMED_OUT", "ttl"]);
    });

    test("a prefetched job has no execution timeout before its turn, and one from then on", async () => {
      await setUp(["a", "b"], { policy: { executionTimeoutMs: 1_000 } });
      await take(store, { max: 2, startable: 1 });
      await store.jobs.endOverdue(T0 + 1_000, 10);
      expect([stateOf("a"), stateOf("b")]).toEqual(["FAILED", "IN_PROGRESS"]);
      expect(await store.jobs.endOverdue(T0 + 1_999, 10)).toEqual([]);
      await store.jobs.endOverdue(T0 + 2_000, 10);
      expect(stateOf("b")).toBe("FAILED");
    });

    test("when several jobs of a worker end at once, the next prefetched one still starts", async () => {
      await setUp(["a", "b"], { policy: { ttlMs: 1_000 } });
      await enqueue(store, ["c"]);
      await take(store, { max: 3, startable: 1 });
      await store.jobs.endOverdue(T0 + 1_000, 10);
      expect(store.jobs.leases(W).map(({ id, lease }) => [id, lease.startedAtMs])).toEqual([
        ["c", T0 + 1_000],
      ]);
      expect(store.jobs.nextDueMs()).toBe(T0 + 601_000);
    });

    test("nothing to do, no due time", () => {
      expect(store.jobs.nextDueMs()).toBeNull();
    });
  });

  describe("retention", () => {
    const prune = (nowMs: number, metadataBeforeMs = 0, limit = 100) =>
      store.jobs.prune({ metadataBeforeMs, limit }, nowMs);

    test("input, output and chunks go when their time is over, metadata later", async () => {
      await setUp(["a", "b"], { policy: { retention: { completedMs: 1_000, failedMs: 2_000 } } });
      await take(store, { max: 2 });
      await append("a", "1");
      await finish("a");
      await finish("b", BOOM);
      expect(await prune(T0 + 999)).toBe(0);
      expect(await prune(T0 + 1_000)).toBe(1);
      expect(payloadOf("a")).toEqual({ inputJson: "null", extrasJson: "{}", outputJson: null, error: null });
      expect([store.jobs.hasChunks(idOf("a")), stateOf("a")]).toEqual([false, "COMPLETED"]);
      expect(payloadOf("b")?.error).toBe("boom");
      expect(await prune(T0 + 2_000)).toBe(1);
      expect(await prune(T0 + 2_000)).toBe(0);
    });

    test("F-06 a job whose webhook is still to be sent keeps what it tells of", async () => {
      await setUp(["a"], {
        webhookUrl: "https://hook.test/",
        policy: { retention: { completedMs: 0, failedMs: 0 } },
      });
      await take(store);
      await finish("a");
      expect(await prune(T0 + 1_000)).toBe(0);
      expect(payloadOf("a")?.outputJson).not.toBeNull();
      const [entry] = store.outbox.due(T0 + 1_000, 10);
      const sent = { kind: "delivered", status: "200", nextTryAtMs: T0 + 1_000 } as const;
      await store.outbox.recordTry(entry?.id ?? 0, sent, T0 + 1_000);
      expect(await prune(T0 + 1_000)).toBe(1);
    });

    test("INV-1 a job that is not over is never pruned", async () => {
      await setUp(["running", "queued"]);
      await take(store);
      expect(await prune(T0 + 1e12, T0 + 1e12)).toBe(0);
      expect(payloadOf("queued")?.inputJson).toBe('{"name":"queued"}');
    });

    test("metadata goes in batches, and old jobs that stay do not keep the others", async () => {
      await setUp(["stays-1", "stays-2", "stays-3"]);
      await enqueue(store, ["a", "b", "c"], {
        policy: { retention: { completedMs: 10, failedMs: 10 }, lowPriority: false },
      });
      for (const name of ["a", "b", "c"]) await store.jobs.cancel(idOf(name), T0);
      const sizes: number[] = [];
      for (let pass = 0; pass < 6; pass += 1) sizes.push(await prune(T0 + 10, T0 + 1, 2));
      expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(6);
      for (const size of sizes) expect(size).toBeLessThanOrEqual(4);
      expect(["stays-1", "a", "b", "c"].map(stateOf)).toEqual(["IN_QUEUE", undefined, undefined, undefined]);
      for (const name of ["stays-1", "stays-2", "stays-3"]) await store.jobs.cancel(idOf(name), T0);
      store = await restart();
    });

    test("the time can be set anew for a job that has ended, for no other", async () => {
      await setUp(["a", "b"]);
      await take(store);
      await finish("a");
      await store.jobs.setRetention(idOf("a"), 60_000, T0 + 5);
      await store.jobs.setRetention(idOf("b"), 60_000, T0 + 5);
      expect(endOf("a")?.retainUntilMs).toBe(T0 + 60_005);
      expect(await prune(T0 + 60_005)).toBe(1);
      expect(stateOf("b")).toBe("IN_QUEUE");
    });

    test("the journal, the outbox and gone workers", async () => {
      await setUp(["a"], { webhookUrl: "https://hook.test/" });
      await store.jobs.cancel(idOf("a"), T0 + 10);
      const newest = store.journal.newestSeq();
      const [entry] = store.outbox.due(T0 + 10, 10);
      expect(await store.outbox.prune(T0 + 1_000, 10)).toBe(0);
      await store.outbox.recordTry(
        entry?.id ?? 0,
        { kind: "delivered", status: "200", nextTryAtMs: T0 + 20 },
        T0 + 20,
      );
      expect(await store.outbox.prune(T0 + 20, 10)).toBe(0);
      expect(await store.outbox.prune(T0 + 21, 10)).toBe(1);
      await store.fleet.moveWorker(W, { to: "gone", reason: "ended" }, T0 + 30);
      expect(await store.fleet.pruneWorkers(T0 + 30, 10)).toBe(0);
      expect(await store.fleet.pruneWorkers(T0 + 31, 10)).toBe(1);
      expect([store.fleet.worker(W), store.fleet.worker(V)?.state]).toEqual([null, "ready"]);
      expect(await store.journal.prune(T0 + 1, 2)).toBe(2);
      expect(await store.journal.prune(T0 + 1_000_000, 1_000)).toBeGreaterThan(0);
      // The newest row stays: numbers never repeat, and the clock starts from its time.
      expect(store.journal.read({ limit: 10 })).toHaveLength(1);
      expect([store.journal.newestSeq() > newest, store.newestTimeMs()]).toEqual([true, T0 + 30]);
      store = await restart();
    });
  });

  /** A fresh store in place of one whose history was pruned: what holds after each test needs the whole of it. */
  async function restart(): Promise<Store> {
    await made.close();
    made = await makeStore();
    return made.store;
  }

  describe("reads", () => {
    test("list, newest first, by every filter", async () => {
      await setUp(["a-1", "a-2", "b-1"]);
      await enqueue(store, ["c_1"], { endpointId: F, owner: "bob" });
      await take(store);
      const names = (filter: object) => store.jobs.list({ limit: 10, ...filter }).map(({ id }) => id);
      expect(names({})).toEqual(["c_1", "b-1", "a-2", "a-1"]);
      expect(names({ limit: 2 })).toEqual(["c_1", "b-1"]);
      expect(names({ endpointId: E })).toEqual(["b-1", "a-2", "a-1"]);
      expect(names({ owner: "bob" })).toEqual(["c_1"]);
      expect(names({ owner: "" })).toEqual([]);
      expect(names({ states: ["IN_PROGRESS"] })).toEqual(["a-1"]);
      expect(names({ states: ["IN_PROGRESS", "IN_QUEUE"], endpointId: E })).toEqual(["b-1", "a-2", "a-1"]);
      expect(names({ workerId: W })).toEqual(["a-1"]);
      expect(names({ idPrefix: "a-" })).toEqual(["a-2", "a-1"]);
      expect(names({ idPrefix: "a-1" })).toEqual(["a-1"]);
      expect(names({ idPrefix: "%" })).toEqual([]);
      const [, second] = store.jobs.list({ limit: 10 });
      expect(names({ beforeSeq: second?.seq })).toEqual(["a-2", "a-1"]);
    });

    test("the sample ignores low priority and backoff where it must", async () => {
      await setUp(["low"], { policy: { lowPriority: true }, atMs: T0 });
      await enqueue(store, ["a", "b"], { atMs: T0 + 50, policy: { handlerRetries: 1 } });
      expect(store.jobs.sample(E)).toEqual({
        inQueue: 3,
        inQueueNormal: 2,
        inProgress: 0,
        oldestQueuedAtMs: T0 + 50,
      });
      await take(store, {}, T0 + 60);
      await finish("a", BOOM, T0 + 70);
      expect(store.jobs.sample(E)).toEqual({
        inQueue: 3,
        inQueueNormal: 1,
        inProgress: 0,
        oldestQueuedAtMs: T0 + 50,
      });
      await store.jobs.cancel(idOf("b"), T0 + 80);
      expect(store.jobs.sample(E)).toEqual({
        inQueue: 2,
        inQueueNormal: 0,
        inProgress: 0,
        oldestQueuedAtMs: null,
      });
      expect(store.jobs.sample(F)).toEqual({
        inQueue: 0,
        inQueueNormal: 0,
        inProgress: 0,
        oldestQueuedAtMs: null,
      });
    });

    test("a job that came back does not hide how long the others wait", async () => {
      await setUp(["a", "b"]);
      await take(store);
      await store.jobs.endLeases(W, "lose", "gone", T0 + 60_000);
      expect(store.jobs.sample(E).oldestQueuedAtMs).toBe(T0);
    });

    test("jobs ahead, counted up to a limit", async () => {
      await setUp(["low"], { policy: { lowPriority: true } });
      await enqueue(store, ["a", "b", "c"]);
      const ahead = (name: string, limit = 10) => store.jobs.ahead(idOf(name), limit);
      expect([ahead("a"), ahead("c"), ahead("low"), ahead("low", 2)]).toEqual([0, 2, 3, 2]);
      await take(store);
      expect([ahead("a"), ahead("c"), ahead("nothing")]).toEqual([0, 1, 0]);
    });
  });

  describe("journal and commits", () => {
    test("filters, and pages by number", async () => {
      await setUp(["a", "b"]);
      await take(store);
      const kinds = (filter: object) => store.journal.read({ limit: 100, ...filter }).map(({ kind }) => kind);
      expect(kinds({ jobId: idOf("a") })).toEqual(["job.submit", "job.take"]);
      expect(kinds({ workerId: W })).toEqual(["worker.add", "worker.move", "worker.move", "job.take"]);
      expect(kinds({ endpointId: F })).toEqual([]);
      expect(kinds({ endpointId: E, limit: 3 })).toHaveLength(3);
      const newest = store.journal.newestSeq();
      expect(kinds({ afterSeq: newest })).toEqual([]);
      expect(kinds({ afterSeq: newest - 1 })).toEqual(["job.take"]);
    });

    test("INV-11 announces after the commit and before the answer, in the order of the journal", async () => {
      const log: string[] = [];
      const heard: JournalEvent[] = [];
      const stop = store.onCommit((events) => {
        heard.push(...events);
        log.push(`heard ${events.map(({ jobId }) => jobId).join(" ")}`);
        // What is announced can be read.
        for (const { seq } of events) expect(seq).toBeLessThanOrEqual(store.journal.newestSeq());
      });
      const answers = ["a", "b"].map((name) =>
        store.jobs.enqueue(submission(name), T0).then(() => log.push(`answered ${name}`)),
      );
      expect(log).toEqual([]);
      await Promise.all(answers);
      expect(log).toEqual(["heard a b", "answered a", "answered b"]);
      expect(heard).toEqual(store.journal.read({ limit: 10 }));
      stop();
      await enqueue(store, ["c"]);
      expect(heard).toHaveLength(2);
    });

    test("an operation that throws takes no other with it, and announces nothing", async () => {
      await enqueue(store, ["a"]);
      const heard: unknown[] = [];
      store.onCommit((events) => heard.push(...events.map(({ kind, jobId }) => `${kind} ${jobId}`)));
      const outcomes = await Promise.allSettled([
        store.jobs.enqueue(submission("b"), T0),
        store.jobs.enqueue(submission("a"), T0),
        store.jobs.cancel(idOf("a"), T0),
      ]);
      expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled"]);
      expect(heard).toEqual(["job.submit b", "job.cancel a"]);
    });

    test("a listener that fails does not undo or repeat what was committed", async () => {
      const failures: unknown[] = [];
      const caught = (error: unknown) => failures.push(error);
      const others = process.listeners("uncaughtException");
      process.removeAllListeners("uncaughtException");
      process.on("uncaughtException", caught);
      try {
        const stop = store.onCommit(() => {
          throw new Error("listener");
        });
        const outcomes = await Promise.all(
          ["a", "b"].map((name) => store.jobs.enqueue(submission(name), T0)),
        );
        expect(outcomes).toEqual([{ kind: "accepted" }, { kind: "accepted" }]);
        stop();
        await enqueue(store, ["c"]);
      } finally {
        process.removeListener("uncaughtException", caught);
        for (const listener of others) process.on("uncaughtException", listener);
      }
      expect(failures).toHaveLength(1);
      expect(store.jobs.counts(E, null).accepted).toBe(3);
    });

    test("F-06 the webhook is there with the end of the job", async () => {
      await setUp(["a", "silent"], { webhookUrl: "https://hook.test/" });
      const seen: number[] = [];
      store.onCommit(() => seen.push(store.outbox.due(T0 + 50, 10).length));
      await take(store, {}, T0 + 5);
      await finish("a", BOOM, T0 + 50);
      expect(seen).toEqual([0, 1]);
      expect(store.outbox.due(T0 + 49, 10)).toEqual([]);
      expect(store.outbox.nextDueMs()).toBe(T0 + 50);
      expect(store.outbox.due(T0 + 50, 10)).toEqual([
        {
          id: expect.any(Number),
          jobId: "a",
          endpointId: E,
          generation: 1,
          url: "https://hook.test/",
          tries: 0,
          nextTryAtMs: T0 + 50,
        },
      ]);
    });

    test("tries of a webhook are counted until it is settled", async () => {
      await setUp(["a", "b"], { webhookUrl: "https://hook.test/" });
      await store.jobs.cancel(idOf("a"), T0 + 1);
      await store.jobs.cancel(idOf("b"), T0 + 2);
      const [a, b] = store.outbox.due(T0 + 9, 10);
      expect([a?.jobId, b?.jobId]).toEqual(["a", "b"]);
      expect(store.outbox.due(T0 + 9, 1)).toHaveLength(1);
      const retry = { kind: "retry", status: "500", nextTryAtMs: T0 + 10_000 } as const;
      await store.outbox.recordTry(a?.id ?? 0, retry, T0 + 9);
      expect(store.outbox.due(T0 + 9, 10).map(({ jobId }) => jobId)).toEqual(["b"]);
      await store.outbox.recordTry(b?.id ?? 0, { ...retry, kind: "given_up" }, T0 + 9);
      expect(store.outbox.nextDueMs()).toBe(T0 + 10_000);
      expect(store.outbox.due(T0 + 10_000, 10)).toMatchObject([{ jobId: "a", tries: 1 }]);
      await store.outbox.recordTry(a?.id ?? 0, { ...retry, kind: "delivered", status: "200" }, T0 + 10_001);
      await store.outbox.recordTry(a?.id ?? 0, retry, T0 + 10_002);
      expect([store.outbox.nextDueMs(), store.outbox.due(T0 + 1e9, 10)]).toEqual([null, []]);
      const tries = store.journal.read({ limit: 100 }).filter(({ kind }) => kind === "webhook.try");
      expect(tries.map(({ jobId, data }) => [jobId, data.outcome, data.tries])).toEqual([
        ["a", "retry", 1],
        ["b", "given_up", 1],
        ["a", "delivered", 2],
      ]);
    });

    test("an empty store has no time, a used one its newest", async () => {
      expect([store.newestTimeMs(), store.journal.newestSeq(), store.jobs.newestSeq()]).toEqual([0, 0, 0]);
      await enqueue(store, ["a"]);
      await store.jobs.cancel(idOf("a"), T0 + 77);
      expect(store.newestTimeMs()).toBe(T0 + 77);
    });
  });

  describe("endpoints", () => {
    test("are read back as they were made, oldest first", async () => {
      const first = endpoint(E, { name: "hello" });
      expect(await store.fleet.createEndpoint(first, release(E), T0)).toBe("created");
      await store.fleet.createEndpoint(endpoint(F, { createdAtMs: T0 + 1 }), release(F), T0 + 1);
      expect(store.fleet.endpoints()).toEqual([first, endpoint(F, { createdAtMs: T0 + 1 })]);
      expect(store.fleet.release(E, 1)).toEqual(release(E));
      expect(store.fleet.release(E, 2)).toBeNull();
    });

    test("an id and a name never mean two endpoints", async () => {
      await store.fleet.createEndpoint(endpoint(E, { name: "hello" }), release(E), T0);
      const create = (id: string, name: string) =>
        store.fleet.createEndpoint(endpoint(id as typeof E, { name }), release(id as typeof E), T0);
      const before = store.journal.newestSeq();
      expect(await create(E, "other")).toBe("id_taken");
      expect(await create("hello", "other")).toBe("id_taken");
      expect(await create(F, "hello")).toBe("name_taken");
      expect(await create(F, E)).toBe("name_taken");
      expect([store.fleet.endpoints().length, store.journal.newestSeq()]).toEqual([1, before]);
    });

    test("an update changes what it names", async () => {
      const first = endpoint(E, { name: "hello" });
      await store.fleet.createEndpoint(first, release(E), T0);
      await store.fleet.createEndpoint(endpoint(F, { name: "taken" }), release(F), T0);
      expect(await store.fleet.updateEndpoint(E, { name: "taken" }, T0)).toBe("name_taken");
      expect(await store.fleet.updateEndpoint(E, { name: F }, T0)).toBe("name_taken");
      expect(await store.fleet.updateEndpoint("nothing" as typeof E, {}, T0)).toBe("missing");
      const settings = { ...first.settings, workers: { ...first.settings.workers, max: 9 } };
      expect(await store.fleet.updateEndpoint(E, { name: "hello", settings: () => settings }, T0)).toBe(
        "updated",
      );
      expect(store.fleet.endpoints()[0]).toEqual({ ...first, settings });
      expect(await store.fleet.updateEndpoint(E, { name: "bye" }, T0)).toBe("updated");
      expect(store.fleet.endpoints()[0]).toEqual({ ...first, name: "bye", settings });
      const kinds = store.journal.read({ endpointId: E, limit: 100 }).map(({ kind }) => kind);
      expect(kinds).toEqual(["endpoint.create", "release.live", "endpoint.update", "endpoint.update"]);
    });

    test("of two changes of settings at once neither undoes the other", async () => {
      const first = endpoint(E);
      await store.fleet.createEndpoint(first, release(E), T0);
      type Change = Partial<typeof first.settings.workers>;
      const change = (workers: Change) =>
        store.fleet.updateEndpoint(
          E,
          { settings: (present) => ({ ...present, workers: { ...present.workers, ...workers } }) },
          T0,
        );
      expect(await Promise.all([change({ max: 7 }), change({ min: 1 })])).toEqual(["updated", "updated"]);
      expect(store.fleet.endpoints()[0]?.settings.workers).toMatchObject({ min: 1, max: 7 });
    });

    test("a change of settings that is refused changes nothing, and is told why", async () => {
      const first = endpoint(E);
      await store.fleet.createEndpoint(first, release(E), T0);
      const refuse = () => {
        throw new Error("min is above max");
      };
      const change = { name: "other", settings: refuse };
      await expect(store.fleet.updateEndpoint(E, change, T0)).rejects.toThrow("min is above max");
      expect(store.fleet.endpoints()[0]).toEqual(first);
    });

    test("a deleted endpoint and its releases are gone, once", async () => {
      await store.fleet.createEndpoint(endpoint(E), release(E), T0);
      expect(await store.fleet.deleteEndpoint(E, T0)).toBe(true);
      expect(await store.fleet.deleteEndpoint(E, T0)).toBe(false);
      expect([store.fleet.endpoints(), store.fleet.release(E, 1)]).toEqual([[], null]);
    });

    test("is paused and resumed once each, with who said so", async () => {
      await store.fleet.createEndpoint(endpoint(E), release(E), T0);
      expect(await store.fleet.setPaused(E, false, "resumed by ann", T0)).toBe(false);
      expect(await store.fleet.setPaused(E, true, "paused by ann", T0 + 1)).toBe(true);
      expect(await store.fleet.setPaused(E, true, "paused by bob", T0 + 2)).toBe(false);
      expect(store.fleet.endpoints()[0]).toEqual(endpoint(E, { paused: true }));
      expect(await store.fleet.setPaused(E, false, "resumed by bob", T0 + 3)).toBe(true);
      expect(store.fleet.endpoints()[0]?.paused).toBe(false);
      expect(await store.fleet.setPaused("nothing" as typeof E, true, "x", T0)).toBe(false);
      const rows = store.journal.read({ endpointId: E, limit: 100 }).slice(2);
      expect(rows.map(({ kind, data }) => [kind, data.reason])).toEqual([
        ["endpoint.pause", "paused by ann"],
        ["endpoint.resume", "resumed by bob"],
      ]);
    });

    test("a decision of the scaler is journaled when the number changes", async () => {
      await store.fleet.createEndpoint(endpoint(E), release(E), T0);
      await store.fleet.setDesired(E, { workers: 2, reason: "queue" }, T0 + 1);
      await store.fleet.setDesired(E, { workers: 2, reason: "queue, still" }, T0 + 2);
      await store.fleet.setDesired("nothing" as typeof E, { workers: 2, reason: "x" }, T0 + 2);
      expect(store.fleet.endpoints()[0]?.desired).toEqual({ workers: 2, reason: "queue, still" });
      const decisions = store.journal.read({ limit: 100 }).filter(({ kind }) => kind === "scaler.decide");
      expect(decisions.map(({ data }) => data)).toEqual([{ from: 0, to: 2, reason: "queue" }]);
    });
  });

  describe("workers", () => {
    test("move along their table, each move with its row", async () => {
      await store.fleet.addWorker(worker(W), "digest", T0);
      const move = (to: "starting" | "ready" | "gone" | "draining", atMs: number, handle?: string) =>
        store.fleet.moveWorker(W, { to, reason: `is ${to}`, ...(handle && { handle }) }, atMs);
      expect(await move("ready", T0)).toBe(false);
      expect(await move("starting", T0 + 1, "4711")).toBe(true);
      expect(await move("ready", T0 + 2)).toBe(true);
      expect(await store.fleet.parkWorker(W, "frozen", "is parked", T0 + 3)).toBe(true);
      expect(await move("ready", T0 + 4)).toBe(true);
      expect(store.fleet.worker(W)).toEqual(
        worker(W, { state: "ready", reason: "is ready", readyAtMs: T0 + 2, handle: "4711" }),
      );
      expect(await move("gone", T0 + 5)).toBe(true);
      expect(await move("ready", T0 + 6)).toBe(false);
      expect(await store.fleet.moveWorker("nobody" as WorkerId, { to: "gone", reason: "x" }, T0)).toBe(false);
      expect(store.fleet.worker(W)).toMatchObject({ state: "gone", reason: "is gone", endedAtMs: T0 + 5 });
      const moves = store.journal
        .read({ workerId: W, limit: 100 })
        .map(({ data }) => `${data.from}>${data.to}`);
      expect(moves).toEqual([
        "undefined>wanted",
        "wanted>starting",
        "starting>ready",
        "ready>parked",
        "parked>ready",
        "ready>gone",
      ]);
    });

    test("INV-6 a worker id is used once", async () => {
      await store.fleet.addWorker(worker(W), "digest", T0);
      await store.fleet.moveWorker(W, { to: "gone", reason: "ended" }, T0);
      await expect(store.fleet.addWorker(worker(W), "digest", T0)).rejects.toThrow();
      expect(store.fleet.worker(W)?.state).toBe("gone");
    });

    test("INV-4 a revoked token opens nothing, from the move on", async () => {
      await addReady(store, W);
      expect(store.fleet.credential(W)).toEqual({
        worker: store.fleet.worker(W),
        tokenDigest: `digest-of-${W}`,
      });
      await store.fleet.moveWorker(W, { to: "draining", reason: "bye" }, T0);
      expect(store.fleet.credential(W)?.tokenDigest).toBe(`digest-of-${W}`);
      await store.fleet.moveWorker(W, { to: "gone", reason: "condemned", revoke: true }, T0);
      expect(store.fleet.credential(W)?.tokenDigest).toBeNull();
      expect(store.fleet.credential("nobody" as WorkerId)).toBeNull();
    });

    test("a reason can be said anew without a row", async () => {
      await addReady(store, W);
      const before = store.journal.newestSeq();
      await store.fleet.setWorkerReason(W, "pulls 3 of 9");
      expect([store.fleet.worker(W)?.reason, store.journal.newestSeq()]).toEqual(["pulls 3 of 9", before]);
    });

    test("lists: present ones oldest first, all of them newest first", async () => {
      await store.fleet.addWorker(worker(W, { createdAtMs: T0 + 1 }), "d", T0);
      await store.fleet.addWorker(worker(V, { createdAtMs: T0 + 2 }), "d", T0);
      await store.fleet.addWorker(worker("x" as WorkerId, { createdAtMs: T0 + 3, endpointId: F }), "d", T0);
      await store.fleet.moveWorker(V, { to: "gone", reason: "ended" }, T0 + 4);
      expect(store.fleet.workers().map(({ id }) => id)).toEqual([W, "x"]);
      const listed = (filter: object) =>
        store.fleet.listWorkers({ limit: 10, ...filter }).map(({ id }) => id);
      expect(listed({})).toEqual(["x", V, W]);
      expect(listed({ endpointId: E })).toEqual([V, W]);
      expect(listed({ limit: 1 })).toEqual(["x"]);
    });
  });

  releaseSuite(() => store);
  sleepSuite(() => store);

  describe("keys", () => {
    test("are kept as digests; a name is free again once its key is revoked", async () => {
      const ci = key("ci", { endpointIds: [E], scope: "deploy" });
      expect(await store.keys.addKey(ci, "digest-1", T0)).toBe("created");
      expect(await store.keys.addKey(key("other", { name: "ci" }), "digest-2", T0)).toBe("name_taken");
      expect(store.keys.keys()).toEqual([{ ...ci, digest: "digest-1" }]);
      await store.keys.touchKey(ci.id, T0 + 3);
      expect(await store.keys.revokeKey(ci.id, T0 + 4)).toBe(true);
      expect(await store.keys.revokeKey(ci.id, T0 + 5)).toBe(false);
      expect(await store.keys.addKey(key("other", { name: "ci", createdAtMs: T0 + 6 }), "digest-2", T0)).toBe(
        "created",
      );
      expect(
        store.keys.keys().map(({ id, lastUsedAtMs, revokedAtMs }) => [id, lastUsedAtMs, revokedAtMs]),
      ).toEqual([
        ["key-other", null, null],
        ["key-ci", T0 + 3, T0 + 4],
      ]);
      const rows = JSON.stringify(store.journal.read({ limit: 100 }));
      expect(rows).toContain("key.revoke");
      expect(rows).not.toContain("digest-");
    });

    test("two keys never share a digest", async () => {
      await store.keys.addKey(key("a"), "same", T0);
      await expect(store.keys.addKey(key("b"), "same", T0)).rejects.toThrow();
    });

    test("an owner's limit is set, changed, and none by default", async () => {
      expect(store.keys.ownerMaxQueued("ann")).toBe(0);
      await store.keys.setOwnerMaxQueued("ann", 5);
      await store.keys.setOwnerMaxQueued("ann", 7);
      expect([store.keys.ownerMaxQueued("ann"), store.keys.ownerMaxQueued("bob")]).toEqual([7, 0]);
    });
  });

  describe("secrets", () => secretStoreSuite(() => store));
  describe("registries", () => registryStoreSuite(() => store));

  test("INV-7 counts, journal and followers agree after any operations", async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer(), async (seed) => {
        store = await restart();
        await randomLife(store, seed);
        checkCounts(store);
        checkJournal(store);
      }),
      { numRuns: 15 },
    );
  });

  test("a closed store refuses, after what waited was committed", async () => {
    const last = store.jobs.enqueue(submission("a"), T0);
    const closed = made.close();
    await expect(last).resolves.toEqual({ kind: "accepted" });
    await closed;
    await expect(store.jobs.enqueue(submission("b"), T0)).rejects.toMatchObject({ code: "unavailable" });
    made = await makeStore();
    store = made.store;
  });
}

const LIFE_TURNS = 40;

/** Some hundred operations of every kind, several in one turn of the event loop, decided by a seed. */
async function randomLife(store: Store, seed: number): Promise<void> {
  const random = createSimulatedRandom(seed);
  const below = (limit: number) => Math.floor(random.fraction() * limit);
  const oneOf = <T>(...choices: readonly T[]): T => choices[below(choices.length)] as T;
  const workers = [W, V, "tester" as WorkerId, "on-f" as WorkerId];
  await addReady(store, W);
  await addReady(store, V);
  await addReady(store, "tester" as WorkerId, E, 2);
  await addReady(store, "on-f" as WorkerId, F);
  let made = 0;
  let nowMs = T0;
  const anyJob = () => idOf(`j${below(Math.max(1, made))}`);
  const anyLease = () => {
    const lease = store.jobs.leases(oneOf(...workers)).at(below(3));
    return lease
      ? { jobId: lease.id, workerId: lease.lease.workerId, delivery: oneOf(null, lease.deliveries) }
      : null;
  };
  const onLease = (act: (lease: LeaseRef) => Promise<unknown>) => {
    const lease = anyLease();
    return lease ? act(lease) : Promise.resolve();
  };
  const acts: readonly (() => Promise<unknown>)[] = [
    () => {
      const name = `j${made}`;
      made += 1;
      const policy = {
        lowPriority: below(4) === 0,
        handlerRetries: below(2),
        ttlMs: oneOf(2_000, 1_000_000),
        executionTimeoutMs: 3_000,
        ...(below(5) === 0 && { pinned: 2 }),
      };
      const options = { endpointId: oneOf(E, F), owner: oneOf("ann", "bob"), policy, atMs: nowMs };
      return store.jobs.enqueue(submission(name, options), nowMs);
    },
    () => {
      const workerId = oneOf(...workers);
      const endpointId = workerId === "on-f" ? F : E;
      return take(store, { workerId, endpointId, max: 1 + below(3), startable: below(3) }, nowMs);
    },
    () => onLease((lease) => store.jobs.finish(lease, oneOf(DONE, BOOM), nowMs)),
    () => onLease((lease) => store.jobs.appendChunk(lease, { chunkJson: "1", part: null }, 5)),
    () => onLease((lease) => store.jobs.endLease(lease, oneOf("lose", "return"), "test", nowMs)),
    () => store.jobs.endLeases(oneOf(...workers), oneOf("lose", "return"), "test", nowMs),
    () => store.jobs.cancel(anyJob(), nowMs),
    () => store.jobs.retry(anyJob(), nowMs),
    () => store.jobs.readChunks(anyJob(), 100),
    () =>
      store.jobs.purge(
        { endpointId: oneOf(E, F), owner: oneOf(null, "ann"), upToSeq: below(made + 1), limit: 2 },
        nowMs,
      ),
    () => store.jobs.endOverdue(nowMs, 1 + below(4)),
    () => store.jobs.releaseDelayed(nowMs, 1 + below(4)),
    () => store.fleet.setPaused(oneOf(E, F), below(3) === 0, "test", nowMs),
    () => store.fleet.parkWorker(oneOf(...workers), "frozen", "test", nowMs),
    () => store.fleet.moveWorker(oneOf(...workers), { to: "ready", reason: "test" }, nowMs),
    // A repeated id: this one throws, and has to take no other with it.
    () =>
      made === 0
        ? Promise.resolve()
        : store.jobs.enqueue(submission("j0", { atMs: nowMs }), nowMs).catch(() => null),
  ];
  for (let turn = 0; turn < LIFE_TURNS; turn += 1) {
    nowMs += below(2_000);
    await Promise.all(
      Array.from({ length: 1 + below(12) }, () =>
        (acts[oneOf(0, 0, 1, 1, 2, 2, below(acts.length))] ?? acts[0])?.(),
      ),
    );
  }
}
