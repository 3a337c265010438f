import type { DatabaseSync } from "node:sqlite";
import { describe, expect, test } from "vitest";
import { createSimulatedClock } from "../../../../../src/runtime/adapters/simulated/clock.ts";
import { openDatabase } from "../../../../../src/runtime/adapters/sqlite/database.ts";
import { createSqliteStore } from "../../../../../src/runtime/adapters/sqlite/store.ts";
import { checkCounts, checkJournal } from "../../../../conformance/store-checks.ts";
import {
  addReady,
  E,
  enqueue,
  idOf,
  stockLease,
  submission,
  T0,
  take,
  W,
  worker,
} from "../../../../conformance/store-records.ts";

/** A store over a real database, whose statements to begin, end and set can be watched and made to fail. */
function setUp(makeRoom: (db: DatabaseSync) => boolean = () => false) {
  const db = openDatabase(":memory:");
  const executed: string[] = [];
  const faults: { commit: Error | null } = { commit: null };
  const watched = new Proxy(db, {
    get: (target, name) => {
      if (name !== "exec") {
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === "function" ? value.bind(target) : value;
      }
      return (sql: string) => {
        executed.push(sql);
        if (sql === "COMMIT" && faults.commit) throw faults.commit;
        db.exec(sql);
      };
    },
  });
  const clock = createSimulatedClock(T0);
  const fatal: unknown[] = [];
  const store = createSqliteStore({
    db: watched,
    clock,
    fatal: (error) => fatal.push(error),
    makeRoom: () => makeRoom(db),
  });
  /** No room for more than `pages` further pages. */
  const limit = (pages: number) => {
    const { page_count: present } = db.prepare("PRAGMA page_count").get() ?? {};
    db.exec(`PRAGMA max_page_count = ${Number(present) + pages}`);
  };
  return { store, db, executed, faults, clock, fatal, limit };
}

const LARGE = JSON.stringify("x".repeat(200_000));
const FULL = Object.assign(new Error("database or disk is full"), { errcode: 13 });
const IO_ERROR = Object.assign(new Error("disk I/O error"), { errcode: 1_034 });

describe("one transaction a turn", () => {
  test("operations of one turn share it, later ones do not", async () => {
    const { store, executed } = setUp();
    const commits = () => executed.filter((sql) => sql === "COMMIT").length;
    await enqueue(store, ["a", "b", "c", "d", "e"]);
    expect(commits()).toBe(1);
    await Promise.all([
      store.jobs.cancel(idOf("a"), T0),
      store.fleet.setDesired(E, { workers: 1, reason: "" }, T0),
    ]);
    expect(commits()).toBe(2);
    await Promise.resolve();
    expect(executed.filter((sql) => sql === "BEGIN IMMEDIATE")).toHaveLength(2);
  });

  test("an operation that throws costs no other its commit, and the order stays", async () => {
    const { store, db } = setUp();
    await enqueue(store, ["a"]);
    const names = ["b", "c", "a", "d"];
    const outcomes = await Promise.allSettled(names.map((name) => store.jobs.enqueue(submission(name), T0)));
    expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "rejected", "fulfilled"]);
    expect(
      db
        .prepare("SELECT id FROM jobs ORDER BY seq")
        .all()
        .map(({ id }) => id),
    ).toEqual(["a", "b", "c", "d"]);
    checkCounts(store);
    checkJournal(store);
  });

  test("INV-11 claims alone are not synced; with anything else in the turn they are", async () => {
    const { store, executed } = setUp();
    await addReady(store, W);
    await enqueue(store, ["a", "b", "c"]);
    const modes = async (work: () => Promise<unknown>) => {
      executed.length = 0;
      await work();
      return executed.filter((sql) => sql.startsWith("PRAGMA"));
    };
    expect(await modes(() => take(store))).toEqual(["PRAGMA synchronous = normal"]);
    expect(await modes(() => take(store))).toEqual([]);
    expect(await modes(() => store.jobs.progress(stockLease("a"), "1", T0))).toEqual([]);
    expect(await modes(() => store.jobs.cancel(idOf("a"), T0))).toEqual(["PRAGMA synchronous = full"]);
    expect(await modes(() => Promise.all([take(store), store.jobs.cancel(idOf("b"), T0)]))).toEqual([]);
    expect(
      await modes(() => store.jobs.finish(stockLease("c"), { kind: "output", outputJson: "1" }, T0)),
    ).toEqual([]);
  });
});

describe("F-07 a full disk", () => {
  test("refuses new jobs, and keeps a result until there is room", async () => {
    const { store, db, clock, limit } = setUp();
    await addReady(store, W);
    await enqueue(store, ["a"]);
    await take(store);
    limit(2);
    const refused = store.jobs.enqueue(submission("big", { inputJson: LARGE }), T0);
    await expect(refused).rejects.toMatchObject({ code: "unavailable", retryAfterSeconds: 5 });
    let kept: unknown = null;
    const result = store.jobs
      .finish(stockLease("a"), { kind: "output", outputJson: LARGE }, T0)
      .then((outcome) => {
        kept = outcome;
      });
    await clock.advance(2_000);
    expect([kept, store.jobs.find(idOf("a"))?.state]).toEqual([null, "IN_PROGRESS"]);
    expect(store.jobs.view(idOf("big"))).toBeNull();
    db.exec("PRAGMA max_page_count = 1000000");
    await clock.advance(250);
    await result;
    expect(store.jobs.view(idOf("a"))).toMatchObject({
      job: { state: "COMPLETED" },
      payload: { outputJson: LARGE },
    });
    await expect(store.jobs.enqueue(submission("big", { inputJson: LARGE }), T0)).resolves.toEqual({
      kind: "accepted",
    });
    checkCounts(store);
    checkJournal(store);
  });

  test("the ballast is let go for results, not for new jobs", async () => {
    let asked = 0;
    const { store, limit } = setUp((db) => {
      asked += 1;
      db.exec("PRAGMA max_page_count = 1000000");
      return true;
    });
    await addReady(store, W);
    await enqueue(store, ["a", "b"]);
    await take(store, { max: 2 });
    limit(2);
    const full = { code: "unavailable" };
    const big = (name: string) => store.jobs.enqueue(submission(name, { inputJson: LARGE }), T0);
    await expect(big("big-1")).rejects.toMatchObject(full);
    const small = { kind: "output", outputJson: "1" } as const;
    const [refused, kept] = await Promise.allSettled([
      big("big-2"),
      store.jobs.finish(stockLease("a"), small, T0),
    ]);
    // The small result fits without its neighbour.
    expect([refused, kept, asked]).toMatchObject([{ reason: full }, { value: { applied: true } }, 0]);
    const large = { kind: "output", outputJson: LARGE } as const;
    expect((await store.jobs.finish(stockLease("b"), large, T0)).applied).toBe(true);
    expect(asked).toBe(1);
    checkCounts(store);
    checkJournal(store);
  });

  test("a start is refused: whether its worker is still wanted is to be seen when there is room", async () => {
    const { store, faults } = setUp();
    faults.commit = FULL;
    const refused = store.fleet.addWorker(worker(W), "digest", T0);
    await expect(refused).rejects.toMatchObject({ code: "unavailable" });
    faults.commit = null;
    expect(store.fleet.workers()).toEqual([]);
  });

  test("found at the commit it is the same", async () => {
    const { store, clock, faults, fatal } = setUp();
    await addReady(store, W);
    await enqueue(store, ["a"]);
    await take(store);
    faults.commit = FULL;
    const refused = expect(store.jobs.enqueue(submission("b"), T0)).rejects.toMatchObject({
      code: "unavailable",
    });
    const kept = store.jobs.finish(stockLease("a"), { kind: "output", outputJson: "1" }, T0);
    await refused;
    faults.commit = null;
    await clock.advance(250);
    expect([(await kept).applied, fatal, store.jobs.find(idOf("b"))]).toEqual([true, [], null]);
    checkCounts(store);
    checkJournal(store);
  });

  test("a store that closes while results wait for room refuses them in words", async () => {
    const { store, clock, faults } = setUp();
    await addReady(store, W);
    await enqueue(store, ["a"]);
    await take(store);
    faults.commit = FULL;
    const kept = expect(
      store.jobs.finish(stockLease("a"), { kind: "output", outputJson: "1" }, T0),
    ).rejects.toMatchObject({ code: "unavailable" });
    await clock.settle();
    await store.close();
    await clock.advance(1_000);
    await kept;
  });
});

describe("F-11 a commit that fails", () => {
  test("ends the process: nothing is answered, announced or begun after it", async () => {
    const { store, clock, faults, fatal, executed } = setUp();
    const heard: unknown[] = [];
    store.onCommit((events) => heard.push(events));
    faults.commit = IO_ERROR;
    let settled = false;
    const answered = () => {
      settled = true;
    };
    for (const name of ["a", "b"]) store.jobs.enqueue(submission(name), T0).then(answered, answered);
    await clock.settle();
    expect([fatal, settled, heard]).toEqual([[IO_ERROR], false, []]);
    faults.commit = null;
    executed.length = 0;
    await expect(store.jobs.enqueue(submission("c"), T0)).rejects.toMatchObject({ code: "unavailable" });
    await clock.advance(10_000);
    expect([executed, fatal.length]).toEqual([[], 1]);
  });
});
