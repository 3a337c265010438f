import { describe, expect, test } from "vitest";
import {
  type JournalEvent,
  NO_RELEASE,
  RELEASE_STATES,
  type Release,
  type ReleaseState,
  type WorkerId,
} from "../../src/runtime/core/model.ts";
import { FIRST_RELEASE_STATES, RELEASE_TABLE } from "../../src/runtime/core/release-machine.ts";
import type { ReleaseDraft, Store } from "../../src/runtime/ports/store.ts";
import {
  addReady,
  BUILT,
  draft,
  E,
  endpoint,
  enqueue,
  F,
  idOf,
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

const UNDER_TEST = { endpointId: E, version: 2 };
const FIRST = { endpointId: E, version: 1 };
/** What is built of a second release: not what the first one was. */
const BUILT_2 = { ...BUILT, file: "/usr/bin/python3.12", runtime: "python 3.12" };

/** A second release of an endpoint whose first one serves, brought to a state the way it gets there. */
async function secondIn(store: Store, state: ReleaseState): Promise<void> {
  await store.fleet.createEndpoint(endpoint(E), release(E), T0);
  await store.fleet.beginRelease(E, () => draft(), T0 + 1);
  if (state === "building") return;
  if (state === "failed") return void (await store.fleet.moveRelease(UNDER_TEST, state, "no pip", T0 + 2));
  const to = state === "proving" ? state : "live";
  await store.fleet.releaseBuilt(UNDER_TEST, BUILT_2, to, `is ${to}`, T0 + 2);
  if (state !== "superseded") return;
  await store.fleet.beginRelease(E, () => draft(), T0 + 3);
  await store.fleet.releaseBuilt({ endpointId: E, version: 3 }, BUILT, "live", "serves", T0 + 4);
}

/** How a release is asked to move; `building` is only begun in, and left. */
const MOVES = {
  proving: (store: Store) => store.fleet.releaseBuilt(UNDER_TEST, BUILT_2, "proving", "moved", T0 + 9),
  live: (store: Store) => store.fleet.moveRelease(UNDER_TEST, "live", "moved", T0 + 9),
  superseded: (store: Store) => store.fleet.moveRelease(UNDER_TEST, "superseded", "moved", T0 + 9),
  failed: (store: Store) => store.fleet.moveRelease(UNDER_TEST, "failed", "moved", T0 + 9),
} as const;

const CANDIDATES: readonly ReleaseState[] = ["building", "proving"];

/** Releases and what endpoints say of them. */
export function releaseSuite(storeOf: () => Store): void {
  const stateOf = (version: number) => storeOf().fleet.release(E, version)?.state;
  const endpointNow = () =>
    storeOf()
      .fleet.endpoints()
      .find(({ id }) => id === E);
  const rows = (): JournalEvent[] =>
    storeOf()
      .journal.read({ endpointId: E, limit: 100 })
      .filter(({ kind }) => kind.startsWith("release."));
  const begin = (make: (base: Release) => ReleaseDraft | null = () => draft(), nowMs = T0 + 1) =>
    storeOf().fleet.beginRelease(E, make, nowMs);

  describe("releases", () => {
    for (const from of RELEASE_STATES) {
      for (const [name, move] of Object.entries(MOVES)) {
        const to = name as keyof typeof MOVES;
        // The one that serves ends by another's going live, and in no other way.
        const legal = from !== "live" && (RELEASE_TABLE[from] as readonly ReleaseState[]).includes(to);
        test(`${from} -> ${to}: ${legal ? "done, and told once" : "refused, and nothing changes"}`, async () => {
          const store = storeOf();
          await secondIn(store, from);
          const before = [store.fleet.endpoints(), store.fleet.releases(E, 10), store.journal.newestSeq()];
          expect(await move(store)).toBe(legal);
          if (!legal) {
            const after = [store.fleet.endpoints(), store.fleet.releases(E, 10), store.journal.newestSeq()];
            expect(after).toEqual(before);
            return;
          }
          expect(store.fleet.release(E, 2)).toMatchObject({ state: to, reason: "moved" });
          expect(rows().find(({ data }) => data.version === 2 && data.to === to)?.data).toMatchObject({
            from,
            reason: "moved",
          });
          const { liveRelease, candidateRelease } = endpointNow() ?? {};
          expect([liveRelease, candidateRelease]).toEqual([
            to === "live" ? 2 : 1,
            CANDIDATES.includes(to) ? 2 : null,
          ]);
        });
      }
    }

    test("one of each kind is read back as it was made", async () => {
      const store = storeOf();
      const tests = [{ name: "adds", inputJson: '{"n":1}', timeoutMs: 5_000, expectedJson: "2" }];
      const diff = [{ field: "env.A", old: null, new: "é\u2028" }];
      const first = release(E, { diff, tests, origin: "deploy" });
      await store.fleet.createEndpoint(endpoint(E), first, T0);
      expect(store.fleet.release(E, 1)).toEqual(first);
      const begun = await begin(() => draft({ diff, tests, origin: "rollback to 1", reason: "being made" }));
      const second: Release = {
        ...first,
        ...{ version: 2, state: "building", built: null, reason: "being made" },
        ...{ origin: "rollback to 1", createdAtMs: T0 + 1, liveAtMs: null },
      };
      expect(begun).toEqual({ kind: "begun", release: second });
      expect(store.fleet.release(E, 2)).toEqual(second);
      await store.fleet.releaseBuilt(UNDER_TEST, BUILT_2, "proving", "proves itself", T0 + 2);
      const proving = { ...second, built: BUILT_2, state: "proving", reason: "proves itself" };
      expect(store.fleet.release(E, 2)).toEqual(proving);
      await store.fleet.moveRelease(UNDER_TEST, "live", "serves", T0 + 3);
      const live = { ...proving, state: "live", reason: "serves", liveAtMs: T0 + 3 };
      expect(store.fleet.releases(E, 10)).toEqual([
        live,
        { ...first, state: "superseded", reason: "release 2 took its place" },
      ]);
      expect(store.fleet.releases(E, 1)).toEqual([live]);
      expect([store.fleet.release(E, 3), store.fleet.releases(F, 10)]).toEqual([null, []]);
    });

    test("that goes live takes the place of the one that served, in one transaction", async () => {
      const store = storeOf();
      await secondIn(store, "proving");
      const commits: string[][] = [];
      store.onCommit((events) => commits.push(events.map(({ kind, data }) => `${kind} ${data.version}`)));
      await store.fleet.moveRelease(UNDER_TEST, "live", "serves", T0 + 3);
      expect(commits).toEqual([["release.live 2", "release.superseded 1"]]);
      expect(endpointNow()).toMatchObject({ liveRelease: 2, candidateRelease: null });
      expect([stateOf(1), stateOf(2)]).toEqual(["superseded", "live"]);
    });

    test("that fails leaves the one that serves in its place", async () => {
      await secondIn(storeOf(), "proving");
      await storeOf().fleet.moveRelease(UNDER_TEST, "failed", "its first worker failed: no torch", T0 + 3);
      expect(endpointNow()).toMatchObject({ liveRelease: 1, candidateRelease: null });
      expect(storeOf().fleet.release(E, 2)).toMatchObject({
        reason: "its first worker failed: no torch",
        built: BUILT_2,
        liveAtMs: null,
      });
    });

    test.each(CANDIDATES)("a newer one supersedes one that is %s, and follows it", async (state) => {
      await secondIn(storeOf(), state);
      const bases: number[] = [];
      const begun = await begin((base) => {
        bases.push(base.version);
        return draft();
      });
      expect(begun).toMatchObject({ kind: "begun", release: { version: 3, state: "building" } });
      expect(bases, "what it is made of").toEqual([2]);
      expect(endpointNow()).toMatchObject({ liveRelease: 1, candidateRelease: 3 });
      expect(storeOf().fleet.release(E, 2)).toMatchObject({
        state: "superseded",
        reason: expect.stringContaining("release 3"),
      });
      const late = [
        await storeOf().fleet.releaseBuilt(UNDER_TEST, BUILT_2, "proving", "late", T0 + 9),
        await storeOf().fleet.releaseBuilt(UNDER_TEST, BUILT_2, "live", "late", T0 + 9),
        await storeOf().fleet.moveRelease(UNDER_TEST, "live", "late", T0 + 9),
        await storeOf().fleet.moveRelease(UNDER_TEST, "failed", "late", T0 + 9),
      ];
      expect(late, "the build that comes too late").toEqual([false, false, false, false]);
      expect(endpointNow()).toMatchObject({ liveRelease: 1, candidateRelease: 3 });
    });

    test("of two begun at once the second follows the first, and neither is lost", async () => {
      await secondIn(storeOf(), "live");
      const made: [number, number][] = [];
      const make = (base: Release) => {
        const env = { ...base.spec.env, [`V${base.version}`]: "x" };
        made.push([base.version, Object.keys(env).length]);
        return draft({ spec: { ...base.spec, env } });
      };
      await Promise.all([begin(make), begin(make)]);
      expect(made).toEqual([
        [2, 2],
        [3, 3],
      ]);
      expect([stateOf(3), stateOf(4)]).toEqual(["superseded", "building"]);
      expect(Object.keys(storeOf().fleet.release(E, 4)?.spec.env ?? {})).toEqual(["GREETING", "V2", "V3"]);
    });

    test("one that changes nothing is not begun, and leaves the candidate alone", async () => {
      await secondIn(storeOf(), "proving");
      const before = [storeOf().fleet.releases(E, 10), storeOf().journal.newestSeq()];
      expect(await begin(() => null)).toEqual({ kind: "unchanged" });
      expect([storeOf().fleet.releases(E, 10), storeOf().journal.newestSeq()]).toEqual(before);
      expect(endpointNow()?.candidateRelease).toBe(2);
      expect(await storeOf().fleet.beginRelease(F, () => draft(), T0)).toEqual({ kind: "missing" });
    });

    test("one whose making throws is not begun, and the caller is told why", async () => {
      await secondIn(storeOf(), "proving");
      const refuse = () => {
        throw new Error("not yours");
      };
      await expect(begin(refuse)).rejects.toThrow("not yours");
      expect([stateOf(2), storeOf().fleet.release(E, 3)]).toEqual(["proving", null]);
    });

    test("after one that failed the next follows what serves; where nothing ever served, what failed", async () => {
      const store = storeOf();
      await secondIn(store, "failed");
      const bases: number[] = [];
      const make = (base: Release) => {
        bases.push(base.version);
        return draft();
      };
      await begin(make);
      const unproven = release(F, { state: "proving", liveAtMs: null });
      const fresh = endpoint(F, { liveRelease: NO_RELEASE, candidateRelease: 1 });
      await store.fleet.createEndpoint(fresh, unproven, T0);
      expect(store.fleet.endpoints().find(({ id }) => id === F)).toEqual(fresh);
      await store.fleet.moveRelease({ endpointId: F, version: 1 }, "failed", "no torch", T0 + 1);
      await store.fleet.beginRelease(F, make, T0 + 2);
      expect(bases).toEqual([1, 1]);
      expect(store.fleet.release(F, 2)?.state).toBe("building");
    });

    test.each(FIRST_RELEASE_STATES)("an endpoint may begin with one that is %s", async (state) => {
      const isLive = state === "live";
      const first = release(E, { state, liveAtMs: isLive ? T0 : null });
      const made = endpoint(E, {
        liveRelease: isLive ? 1 : NO_RELEASE,
        candidateRelease: isLive ? null : 1,
      });
      await storeOf().fleet.createEndpoint(made, first, T0);
      expect([endpointNow(), storeOf().fleet.release(E, 1)]).toEqual([made, first]);
      if (!isLive) expect(await storeOf().fleet.moveRelease(FIRST, "live", "serves", T0 + 1)).toBe(true);
      expect(endpointNow()).toMatchObject({ liveRelease: 1, candidateRelease: null });
      expect(rows().map(({ kind, data }) => [kind, data.from])).toEqual(
        isLive
          ? [["release.live", null]]
          : [
              [`release.${state}`, null],
              ["release.live", state],
            ],
      );
    });

    test("a reason is said anew without a row, and only of one that is on its way", async () => {
      await secondIn(storeOf(), "proving");
      const before = storeOf().journal.newestSeq();
      await storeOf().fleet.setReleaseReason(UNDER_TEST, "runs test 1 of 2");
      await storeOf().fleet.setReleaseReason(FIRST, "late");
      expect(
        storeOf()
          .fleet.releases(E, 2)
          .map(({ reason }) => reason),
      ).toEqual(["runs test 1 of 2", "serves"]);
      expect(storeOf().journal.newestSeq()).toBe(before);
    });
  });

  describe("jobs that are pinned to a release", () => {
    /** A release that proves itself beside the live one, a worker of each, and jobs for both. */
    async function setUp(): Promise<void> {
      await secondIn(storeOf(), "proving");
      await addReady(storeOf(), W);
      await addReady(storeOf(), V, E, 2);
      await enqueue(storeOf(), ["a", "b"]);
      await enqueue(storeOf(), ["test-1", "test-2"], { policy: { pinned: 2 } });
    }

    test("go to its workers alone, and those get no others", async () => {
      await setUp();
      expect(namesOf(await take(storeOf(), { workerId: V, max: 9 }))).toEqual(["test-1", "test-2"]);
      expect(namesOf(await take(storeOf(), { workerId: W, max: 9 }))).toEqual(["a", "b"]);
      expect(storeOf().jobs.find(idOf("test-1"))?.policy.pinned).toBe(2);
    });

    test("are counted in lines of their own, and scale nothing up", async () => {
      await setUp();
      const { jobs } = storeOf();
      expect(jobs.ready(E)).toEqual(
        new Map([
          [0, 2],
          [2, 2],
        ]),
      );
      expect(jobs.ready(F)).toEqual(new Map());
      expect(jobs.counts(E, null).inQueue).toBe(4);
      expect(jobs.sample(E)).toEqual({ inQueue: 2, inQueueNormal: 2, inProgress: 0, oldestQueuedAtMs: T0 });
      expect([jobs.ahead(idOf("b"), 10), jobs.ahead(idOf("test-2"), 10)]).toEqual([1, 1]);
      const submitted = storeOf().journal.read({ jobId: idOf("test-1"), limit: 9 });
      expect(submitted.map(({ data }) => data.pinned)).toEqual([2]);
      await take(storeOf(), { workerId: W, max: 2 });
      await take(storeOf(), { workerId: V });
      expect(jobs.sample(E)).toEqual({
        ...{ inQueue: 0, inQueueNormal: 0, oldestQueuedAtMs: null },
        inProgress: 2,
      });
      expect(jobs.ready(E)).toEqual(new Map([[2, 1]]));
    });

    test("are told until they have ended", async () => {
      await setUp();
      const pinned = (version: number) =>
        storeOf()
          .jobs.pinnedTo({ endpointId: E, version })
          .map(({ id, state }) => `${id} ${state}`);
      expect(pinned(2)).toEqual(["test-1 IN_QUEUE", "test-2 IN_QUEUE"]);
      expect([pinned(1), pinned(0), pinned(3)]).toEqual([[], [], []]);
      await take(storeOf(), { workerId: V });
      expect(pinned(2)).toEqual(["test-1 IN_PROGRESS", "test-2 IN_QUEUE"]);
      await storeOf().jobs.finish(stockLease("test-1", V), { kind: "output", outputJson: "1" }, T0 + 1);
      await storeOf().jobs.cancel(idOf("test-2"), T0 + 1);
      expect(pinned(2)).toEqual([]);
    });

    test("that are put back wait in the same line; one that has failed is not retried", async () => {
      await setUp();
      await take(storeOf(), { workerId: V });
      await storeOf().jobs.endLeases(V, "lose", "its worker is gone", T0 + 1);
      expect(storeOf().jobs.ready(E).get(2)).toBe(2);
      expect(namesOf(await take(storeOf(), { workerId: W, max: 9 }))).toEqual(["a", "b"]);
      await take(storeOf(), { workerId: V });
      const error = { kind: "error", error: "boom", outputJson: null, retryDelayMs: 1 } as const;
      await storeOf().jobs.finish(stockLease("test-1", V), error, T0 + 2);
      expect(await storeOf().jobs.retry(idOf("test-1"), T0 + 3)).toMatchObject({
        applied: false,
        job: { state: "FAILED" },
      });
    });

    test("once their release is live its workers get the endpoint's jobs", async () => {
      await setUp();
      await storeOf().fleet.moveRelease(UNDER_TEST, "live", "serves", T0 + 5);
      expect(namesOf(await take(storeOf(), { workerId: W, max: 9 }))).toEqual([]);
      expect(namesOf(await take(storeOf(), { workerId: V, max: 9 }))).toEqual(["a", "b"]);
    });

    test("a paused endpoint hands out none of its jobs, and lets a release prove itself", async () => {
      await setUp();
      await storeOf().fleet.setPaused(E, true, "paused by ann", T0);
      expect(await storeOf().jobs.enqueue(submission("c"), T0)).toEqual({ kind: "accepted" });
      expect(await take(storeOf(), { workerId: W, max: 9 })).toEqual([]);
      expect(namesOf(await take(storeOf(), { workerId: V, max: 9 }))).toEqual(["test-1", "test-2"]);
      await storeOf().fleet.setPaused(E, false, "resumed by ann", T0);
      expect(namesOf(await take(storeOf(), { workerId: W, max: 9 }))).toEqual(["a", "b", "c"]);
    });

    test("pause and take in one turn: the order of the calls decides", async () => {
      await setUp();
      const pause = (paused: boolean) => storeOf().fleet.setPaused(E, paused, "test", T0);
      const [one, , none] = await Promise.all([take(storeOf()), pause(true), take(storeOf())]);
      expect([namesOf(one), none]).toEqual([["a"], []]);
    });
  });
}

/** Workers that sleep, and how far their starts have come. */
export function sleepSuite(storeOf: () => Store): void {
  const parkIt = (depth: "frozen" | "stopped", nowMs = T0, id: WorkerId = W) =>
    storeOf().fleet.parkWorker(id, depth, `is ${depth}`, nowMs);

  describe("workers asleep", () => {
    test("a ready one without a job falls asleep, and then deeper: its sleep counts from its beginning", async () => {
      await addReady(storeOf(), W);
      expect(await parkIt("frozen", T0 + 5)).toBe(true);
      expect(storeOf().fleet.worker(W)).toMatchObject({
        state: "parked",
        reason: "is frozen",
        asleep: "frozen",
        parkedAtMs: T0 + 5,
      });
      expect(await parkIt("frozen", T0 + 6)).toBe(false);
      expect(await parkIt("stopped", T0 + 7)).toBe(true);
      expect(storeOf().fleet.worker(W)).toMatchObject({ asleep: "stopped", parkedAtMs: T0 + 5 });
      const moves = storeOf().journal.read({ workerId: W, limit: 100 }).slice(-2);
      expect(moves.map(({ kind, data }) => [kind, data.from, data.to, data.asleep])).toEqual([
        ["worker.move", "ready", "parked", "frozen"],
        ["worker.move", "parked", "parked", "stopped"],
      ]);
    });

    test("one that boots again has booted when it says so anew: its start timeout counts from there (F-13)", async () => {
      await addReady(storeOf(), W);
      const boots = (nowMs: number) =>
        storeOf().fleet.setStartStep(W, { phase: "boot", reason: "boots", handle: "7" }, nowMs);
      await boots(T0 + 1);
      await parkIt("stopped", T0 + 2);
      await storeOf().fleet.moveWorker(W, { to: "starting", reason: "woken" }, T0 + 3);
      expect(storeOf().fleet.worker(W)?.bootedAtMs).toBeNull();
      await boots(T0 + 4);
      expect(storeOf().fleet.worker(W)?.bootedAtMs).toBe(T0 + 4);
    });

    test("one that wakes says no more of its sleep", async () => {
      await addReady(storeOf(), W);
      await addReady(storeOf(), V);
      await parkIt("frozen");
      await parkIt("stopped", T0, V);
      await storeOf().fleet.moveWorker(W, { to: "ready", reason: "woken" }, T0 + 1);
      await storeOf().fleet.moveWorker(V, { to: "starting", reason: "woken" }, T0 + 1);
      const awake = { asleep: null, parkedAtMs: null };
      expect(storeOf().fleet.worker(W)).toMatchObject({ ...awake, state: "ready", phase: null });
      expect(storeOf().fleet.worker(V)).toMatchObject({ ...awake, state: "starting", phase: "create" });
      expect(await parkIt("frozen", T0 + 9)).toBe(true);
      expect(storeOf().fleet.worker(W)?.parkedAtMs).toBe(T0 + 9);
    });

    test("one with a job never does, whichever was first in one turn (F-42)", async () => {
      await addReady(storeOf(), W);
      await addReady(storeOf(), V);
      await enqueue(storeOf(), ["a", "b"]);
      const [taken, refused] = await Promise.all([take(storeOf()), parkIt("frozen")]);
      expect([namesOf(taken), refused, storeOf().fleet.worker(W)?.state]).toEqual([["a"], false, "ready"]);
      const [parked, none] = await Promise.all([parkIt("frozen", T0, V), take(storeOf(), { workerId: V })]);
      expect([parked, none]).toEqual([true, []]);
      await storeOf().jobs.finish(stockLease("a"), { kind: "output", outputJson: null }, T0 + 1);
      expect(await parkIt("frozen", T0 + 2)).toBe(true);
    });

    test.each(["wanted", "starting", "draining", "gone"] as const)(
      "one that is %s never does",
      async (state) => {
        await storeOf().fleet.addWorker(worker(W), "digest", T0);
        if (state !== "wanted") await storeOf().fleet.moveWorker(W, { to: state, reason: "test" }, T0);
        const before = storeOf().journal.newestSeq();
        expect([await parkIt("frozen"), await parkIt("frozen", T0, V)]).toEqual([false, false]);
        expect([storeOf().fleet.worker(W)?.state, storeOf().journal.newestSeq()]).toEqual([state, before]);
      },
    );
  });

  describe("starts", () => {
    test("say how far they are, without a row; the start timeout counts from the boot", async () => {
      await storeOf().fleet.addWorker(worker(W), "digest", T0);
      await storeOf().fleet.moveWorker(W, { to: "starting", reason: "starting" }, T0 + 1);
      const before = storeOf().journal.newestSeq();
      const now = () => storeOf().fleet.worker(W);
      expect(now()).toMatchObject({ phase: "create", bootedAtMs: null, handle: null });
      await storeOf().fleet.setStartStep(W, { phase: "pull", reason: "pulling, 40 %" }, T0 + 2);
      expect(now()).toMatchObject({ phase: "pull", reason: "pulling, 40 %", bootedAtMs: null });
      await storeOf().fleet.setStartStep(W, { phase: "boot", reason: "booting" }, T0 + 3);
      await storeOf().fleet.setStartStep(W, { phase: "boot", reason: "booting", handle: "c0ffee" }, T0 + 4);
      expect(now()).toMatchObject({ phase: "boot", bootedAtMs: T0 + 3, handle: "c0ffee" });
      expect(storeOf().journal.newestSeq()).toBe(before);
      await storeOf().fleet.moveWorker(W, { to: "ready", reason: "asking for jobs" }, T0 + 5);
      expect(now()).toMatchObject({ phase: null, bootedAtMs: T0 + 3, handle: "c0ffee" });
    });

    test("one that is told of after its first take keeps the state and reason, and gets its handle", async () => {
      await addReady(storeOf(), W);
      await storeOf().fleet.setStartStep(W, { phase: "boot", reason: "booting", handle: "c0ffee" }, T0 + 4);
      expect(storeOf().fleet.worker(W)).toMatchObject({
        state: "ready",
        phase: null,
        reason: "took its first job",
        handle: "c0ffee",
      });
    });

    test("how a worker ended is kept with it", async () => {
      await addReady(storeOf(), W);
      const exit = { code: 137, signal: null, cause: "oom" } as const;
      await storeOf().fleet.moveWorker(W, { to: "failed", reason: "out of memory", exit }, T0 + 1);
      await storeOf().fleet.moveWorker(W, { to: "gone", reason: "tried again" }, T0 + 2);
      expect(storeOf().fleet.worker(W)).toMatchObject({ state: "gone", exit, endedAtMs: T0 + 1 });
    });
  });
}
