import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  createSimulatedClock,
  type SimulatedClock,
} from "../../../../src/runtime/adapters/simulated/clock.ts";
import { createSimulatedRandom } from "../../../../src/runtime/adapters/simulated/random.ts";
import { openDatabase } from "../../../../src/runtime/adapters/sqlite/database.ts";
import { createSqliteStore } from "../../../../src/runtime/adapters/sqlite/store.ts";
import { queueKey } from "../../../../src/runtime/core/dispatch.ts";
import type { JobId } from "../../../../src/runtime/core/model.ts";
import type { Store } from "../../../../src/runtime/ports/store.ts";
import { createDeliveries, type TakeRequest } from "../../../../src/runtime/service/deliveries.ts";
import { createEvents } from "../../../../src/runtime/service/events.ts";
import {
  addReady,
  E,
  endpoint,
  enqueue,
  leaseOf,
  release,
  T0,
  W,
} from "../../../conformance/store-records.ts";

let clock: SimulatedClock;
let store: Store;

beforeEach(async () => {
  clock = createSimulatedClock(T0);
  const fatal = (error: unknown) => {
    throw error;
  };
  store = createSqliteStore({ db: openDatabase(":memory:"), clock, fatal, makeRoom: () => false });
  await settled(store.fleet.createEndpoint(endpoint(E), release(E), T0));
  await settled(addReady(store, W));
});
afterEach(() => store.close());

/** A daemon's deliveries over the store: another one is what a restart makes. */
function start() {
  return createDeliveries({
    store,
    clock,
    random: createSimulatedRandom(1),
    events: createEvents({ store, clock }),
    maxStreamBytes: 1_000,
    queueOf: (workerId) => (store.fleet.worker(workerId)?.state === "ready" ? queueKey(E, 0) : null),
    retire: async (workerId, reason) => {
      await store.fleet.moveWorker(workerId, { to: "draining", reason }, clock.nowMs());
    },
    redact: (_, text) => text,
    log: { warn: () => {} },
  });
}

function takeRequest(fields: Partial<TakeRequest> = {}): TakeRequest {
  const signal = new AbortController().signal;
  return { workerId: W, endpointId: E, max: 1, startable: 1, busy: true, signal, ...fields };
}

/** Lets the store commit until the promise has its value: each step of it is a turn of its own. */
async function settled<T>(promise: Promise<T>): Promise<T> {
  let over = false;
  void promise.finally(() => {
    over = true;
  });
  for (let turns = 0; turns < 20 && !over; turns += 1) await clock.settle();
  return promise;
}

describe("after a restart", () => {
  test("F-03: a delivery that was lost with the daemon before is found behind the worker's last result", async () => {
    const before = start();
    await settled(enqueue(store, ["a", "lost"]));
    const [kept] = await settled(before.take(takeRequest({ busy: false })));
    await settled(before.take(takeRequest()));
    await clock.advance(5_000);
    if (!kept) throw new Error("no delivery");

    const after = start();
    let answer: readonly unknown[] | null = null;
    void after.take(takeRequest()).then((deliveries) => {
      answer = deliveries;
    });
    await clock.advance(5_000);
    expect(answer, "held while the worker runs a job").toBeNull();
    await settled(after.report(leaseOf(kept), '{"output":1}', null));
    await clock.advance(1_000);
    expect(answer, "asked afresh").toEqual([]);
    const [again] = await settled(after.take(takeRequest({ busy: false })));
    expect(again?.job).toMatchObject({ id: "lost", attempts: 1 });
  });

  test("a worker whose deliveries are all from this daemon is not asked", async () => {
    const deliveries = start();
    await settled(enqueue(store, ["a", "b"]));
    await clock.advance(10);
    const [first] = await settled(deliveries.take(takeRequest({ busy: false })));
    await settled(deliveries.take(takeRequest()));
    if (!first) throw new Error("no delivery");
    let answered = false;
    void deliveries.take(takeRequest()).then(() => {
      answered = true;
    });
    await settled(deliveries.report(leaseOf(first), '{"output":1}', null));
    await clock.advance(10_000);
    expect(answered).toBe(false);
  });
});

test("a worker that asks to be replaced gets no job through a take that is open, not even one of that moment", async () => {
  const deliveries = start();
  await settled(enqueue(store, ["a"]));
  const [last] = await settled(deliveries.take(takeRequest({ busy: false })));
  if (!last) throw new Error("no delivery");
  const open = deliveries.take(takeRequest());
  const reported = deliveries.report(leaseOf(last), '{"output":1,"stopPod":true}', null);
  await settled(Promise.all([reported, enqueue(store, ["next"])]));
  expect(await settled(open)).toEqual([]);
  expect(store.jobs.find("next" as JobId), "not even claimed").toMatchObject({
    state: "IN_QUEUE",
    deliveries: 0,
  });
});
