import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createDispatch, queueKey, type Waiter } from "../../../../src/runtime/core/dispatch.ts";
import type { EndpointId, JobId, JournalEvent } from "../../../../src/runtime/core/model.ts";

const ENDPOINT = "e" as EndpointId;
/** The endpoint's own line, the one of jobs pinned to its release 2, and another endpoint's. */
const E = queueKey(ENDPOINT, 0);
const E2 = queueKey(ENDPOINT, 2);
const F = queueKey("f" as EndpointId, 0);

function event(data: JournalEvent["data"], fields: Partial<JournalEvent> = {}): JournalEvent {
  return {
    seq: 1,
    atMs: 0,
    kind: "job.x",
    endpointId: ENDPOINT,
    owner: null,
    jobId: "j" as JobId,
    workerId: null,
    data,
    ...fields,
  };
}
const ENTERS = event({ from: null, to: "IN_QUEUE" });
const LEAVES = event({ from: "IN_QUEUE", to: "IN_PROGRESS" });

function waiter(wants: number, queue = E): Waiter {
  return { queue, wants };
}

describe("matching", () => {
  test("the longest wait comes first, and nobody gets more than it wants", () => {
    const dispatch = createDispatch();
    const [first, second, third] = [waiter(2), waiter(5), waiter(1)];
    for (const each of [first, second, third]) dispatch.offer(each);
    dispatch.seed(E, 4);
    expect(dispatch.match(E)).toEqual([
      { waiter: first, count: 2 },
      { waiter: second, count: 2 },
    ]);
    expect(dispatch.waiters(E)).toEqual([third]);
    expect(dispatch.unreserved(E)).toBe(0);
    expect(dispatch.match(E)).toEqual([]);
  });

  test("a waiter that came back from an empty claim keeps its place", () => {
    const dispatch = createDispatch();
    const [old, young] = [waiter(1), waiter(1)];
    dispatch.offer(young);
    dispatch.offer(old, "front");
    dispatch.seed(E, 1);
    expect(dispatch.match(E)[0]?.waiter).toBe(old);
  });

  test("a waiter withdraws once, and not after its match", () => {
    const dispatch = createDispatch();
    const each = waiter(1);
    dispatch.offer(each);
    expect([dispatch.withdraw(each), dispatch.withdraw(each)]).toEqual([true, false]);
    dispatch.seed(E, 1);
    dispatch.offer(each);
    dispatch.match(E);
    expect(dispatch.withdraw(each)).toBe(false);
  });

  test("endpoints do not share jobs", () => {
    const dispatch = createDispatch();
    dispatch.offer(waiter(1, F));
    expect(dispatch.observe(ENTERS)).toBe(E);
    expect([dispatch.match(F), dispatch.unreserved(E)]).toEqual([[], 1]);
  });

  test("jobs that are pinned to a release wait in a line of their own", () => {
    const dispatch = createDispatch();
    const [worker, tester] = [waiter(9), waiter(9, E2)];
    for (const each of [worker, tester]) dispatch.offer(each);
    expect(dispatch.observe(event({ from: null, to: "IN_QUEUE", pinned: 2 }))).toBe(E2);
    expect(dispatch.match(E)).toEqual([]);
    expect(dispatch.match(E2)).toEqual([{ waiter: tester, count: 1 }]);
    dispatch.observe(event({ from: "IN_QUEUE", to: "IN_PROGRESS", pinned: 2 }));
    dispatch.settle(E2, 1);
    expect(dispatch.observe(ENTERS)).toBe(E);
    expect([dispatch.unreserved(E), dispatch.unreserved(E2)]).toEqual([1, 0]);
    expect(dispatch.match(E)).toEqual([{ waiter: worker, count: 1 }]);
  });

  test("one that leaves its line for another is matched in the other alone", () => {
    const dispatch = createDispatch<{ queue: typeof E; readonly wants: number }>();
    const mover = { queue: E2, wants: 1 };
    dispatch.offer(mover);
    expect(dispatch.withdraw(mover)).toBe(true);
    mover.queue = E;
    dispatch.offer(mover);
    dispatch.seed(E2, 1);
    dispatch.seed(E, 1);
    expect([dispatch.match(E2), dispatch.match(E)]).toEqual([[], [{ waiter: mover, count: 1 }]]);
  });

  test("what is promised to a claim without a waiter is promised to nobody else", () => {
    const dispatch = createDispatch();
    dispatch.seed(E, 3);
    dispatch.reserve(E, 2);
    dispatch.offer(waiter(9));
    expect(dispatch.match(E).map(({ count }) => count)).toEqual([1]);
  });

  test("a claim that ends short frees what it did not use", () => {
    const dispatch = createDispatch();
    dispatch.seed(E, 2);
    dispatch.offer(waiter(2));
    dispatch.match(E);
    dispatch.observe(LEAVES);
    dispatch.settle(E, 2);
    expect(dispatch.unreserved(E)).toBe(1);
  });
});

describe("what the journal says", () => {
  test.each([
    ["a submission", { from: null, to: "IN_QUEUE" }, 1],
    ["a requeued job", { from: "IN_PROGRESS", to: "IN_QUEUE" }, 1],
    ["a job put back on backoff", { from: "IN_PROGRESS", to: "IN_QUEUE", delayed: true }, 0],
    ["the end of a backoff", { from: null, to: "IN_QUEUE" }, 1],
    ["a take", { from: "IN_QUEUE", to: "IN_PROGRESS" }, -1],
    ["a job that ends in the queue", { from: "IN_QUEUE", to: "CANCELLED" }, -1],
    ["a job that ends during its backoff", { from: "IN_QUEUE", to: "TIMED_OUT", fromDelayed: true }, 0],
    ["a start", { from: "IN_PROGRESS", to: "IN_PROGRESS" }, 0],
    ["a result", { from: "IN_PROGRESS", to: "COMPLETED" }, 0],
    ["a retry", { from: "FAILED", to: "IN_QUEUE" }, 1],
  ])("%s", (_, data, change) => {
    const dispatch = createDispatch();
    dispatch.seed(E, 5);
    expect(dispatch.observe(event(data))).toBe(change > 0 ? E : null);
    expect(dispatch.unreserved(E)).toBe(5 + change);
  });

  test("a row that is about no job changes nothing", () => {
    const dispatch = createDispatch();
    expect(dispatch.observe(event({ from: null, to: "IN_QUEUE" }, { jobId: null }))).toBeNull();
    expect(dispatch.observe(event({ to: "IN_QUEUE" }, { endpointId: null }))).toBeNull();
    expect(dispatch.unreserved(E)).toBe(0);
  });

  test("an endpoint made anew under an old id starts without the old one's debts", () => {
    const dispatch = createDispatch();
    dispatch.observe(event({}, { kind: "endpoint.create", jobId: null }));
    for (let count = 0; count < 3; count += 1) dispatch.observe(ENTERS);
    dispatch.observe(event({}, { kind: "endpoint.delete", jobId: null }));
    // Its jobs are cancelled after it is gone.
    for (let count = 0; count < 3; count += 1) dispatch.observe(event({ from: "IN_QUEUE", to: "CANCELLED" }));
    dispatch.observe(event({}, { kind: "endpoint.create", jobId: null }));
    dispatch.observe(ENTERS);
    dispatch.offer(waiter(1));
    expect(dispatch.match(E)).toHaveLength(1);
  });

  test("nor does it start with the tests of the old one's releases", () => {
    const dispatch = createDispatch();
    dispatch.observe(event({ from: null, to: "IN_QUEUE", pinned: 2 }));
    dispatch.observe(ENTERS);
    dispatch.observe(event({ from: null, to: "IN_QUEUE" }, { endpointId: "e2" as EndpointId }));
    dispatch.observe(event({}, { kind: "endpoint.delete", jobId: null }));
    const left = [E, E2, queueKey("e2" as EndpointId, 0)].map((queue) => dispatch.unreserved(queue));
    expect(left, "another endpoint keeps its own, however it is called").toEqual([0, 0, 1]);
  });
});

/** What may happen around a queue; the model below keeps the truth as the store would. */
type Step =
  | { readonly do: "submit" | "cancel" | "requeue"; readonly pick: number }
  | { readonly do: "take"; readonly wants: number }
  | { readonly do: "takeNow"; readonly wants: number }
  | { readonly do: "leave" | "claim"; readonly pick: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    do: fc.constantFrom("submit" as const, "cancel" as const, "requeue" as const),
    pick: fc.nat(20),
  }),
  fc.record({
    do: fc.constantFrom("take" as const, "takeNow" as const),
    wants: fc.integer({ min: 1, max: 4 }),
  }),
  fc.record({ do: fc.constantFrom("leave" as const, "claim" as const), pick: fc.nat(20) }),
);

describe("any order of submits, takes, cancels and claims", () => {
  test("never promises a job twice and never loses a wake-up", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const dispatch = createDispatch<Waiter>();
        let ready = 0;
        let running = 0;
        const open: Waiter[] = [];
        const claims: { readonly waiter: Waiter | null; readonly count: number }[] = [];

        const pump = () => {
          for (const { waiter: matched, count } of dispatch.match(E)) {
            expect(open).toContain(matched);
            expect(count).toBeGreaterThan(0);
            expect(count).toBeLessThanOrEqual(matched.wants);
            open.splice(open.indexOf(matched), 1);
            claims.push({ waiter: matched, count });
          }
        };
        const observe = (row: JournalEvent) => {
          if (dispatch.observe(row) !== null) pump();
        };
        /** The store's take: as many as are there, then the reservation ends. */
        const claim = ({ waiter: claimer, count }: (typeof claims)[number]) => {
          const got = Math.min(count, ready);
          for (let taken = 0; taken < got; taken += 1) {
            ready -= 1;
            running += 1;
            observe(LEAVES);
          }
          dispatch.settle(E, count);
          if (got === 0 && claimer) {
            open.unshift(claimer);
            dispatch.offer(claimer, "front");
          }
          pump();
        };

        const act = (each: Step) => {
          if (each.do === "submit" || (each.do === "requeue" && running > 0)) {
            ready += 1;
            if (each.do === "requeue") running -= 1;
            observe(ENTERS);
          } else if (each.do === "cancel" && ready > 0) {
            ready -= 1;
            observe(event({ from: "IN_QUEUE", to: "CANCELLED" }));
          } else if (each.do === "take") {
            const taker = waiter(each.wants);
            open.push(taker);
            dispatch.offer(taker);
            pump();
          } else if (each.do === "takeNow") {
            const count = Math.min(each.wants, dispatch.unreserved(E));
            if (count <= 0) return;
            dispatch.reserve(E, count);
            claims.push({ waiter: null, count });
          } else if (each.do === "leave" && open.length > 0) {
            const leaver = open.splice(each.pick % open.length, 1)[0];
            if (leaver) expect(dispatch.withdraw(leaver)).toBe(true);
          } else if (each.do === "claim" && claims.length > 0) {
            const next = claims.splice(each.pick % claims.length, 1)[0];
            if (next) claim(next);
          }
        };
        const promised = () => claims.reduce((sum, { count }) => sum + count, 0);

        for (const each of steps) {
          const before = { ready, promised: promised() };
          act(each);
          expect(dispatch.unreserved(E)).toBe(ready - promised());
          expect(dispatch.waiters(E)).toEqual(open);
          // Promises never exceed what is ready, but by what was cancelled under them.
          if (promised() > before.promised) expect(promised()).toBeLessThanOrEqual(ready);
          // No wake-up is lost: nobody waits while an unpromised job is there.
          expect(open.length > 0 && ready > promised()).toBe(false);
        }
        // A claim that comes back empty may be matched again by then: it ends all the same.
        for (let next = claims.shift(); next; next = claims.shift()) claim(next);
        expect(open.length > 0 && ready > 0).toBe(false);
        expect(dispatch.unreserved(E)).toBe(ready);
      }),
      { numRuns: 500 },
    );
  });
});
