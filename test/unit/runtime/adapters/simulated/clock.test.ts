import { describe, expect, test } from "vitest";
import { createSimulatedClock } from "../../../../../src/runtime/adapters/simulated/clock.ts";

describe("createSimulatedClock", () => {
  test("wakes sleepers in order, each at its own moment", async () => {
    const clock = createSimulatedClock(1_000);
    const seen: [string, number][] = [];
    const note = (name: string) => () => void seen.push([name, clock.nowMs()]);
    void clock.sleep(30).then(note("c"));
    void clock.sleep(10).then(note("a"));
    void clock.sleep(10).then(note("b"));
    void clock.sleep(31).then(note("late"));
    await clock.advance(30);
    expect(seen).toEqual([
      ["a", 1_010],
      ["b", 1_010],
      ["c", 1_030],
    ]);
    expect(clock.nowMs()).toBe(1_030);
    expect(clock.sleeping()).toBe(1);
    expect(clock.nextWakeMs()).toBe(1_031);
  });

  test("a loop that sleeps runs once per period", async () => {
    const clock = createSimulatedClock(0);
    const ticks: number[] = [];
    const stop = new AbortController();
    const loop = (async () => {
      while (!stop.signal.aborted) {
        await clock.sleep(100, stop.signal);
        ticks.push(clock.nowMs());
      }
    })();
    await clock.advance(350);
    expect(ticks).toEqual([100, 200, 300]);
    stop.abort();
    await loop;
    expect(clock.sleeping()).toBe(0);
  });

  test("an aborted signal wakes at once and leaves no listener", async () => {
    const clock = createSimulatedClock(0);
    await clock.sleep(1_000, AbortSignal.abort());
    const stop = new AbortController();
    const asleep = clock.sleep(1_000, stop.signal);
    stop.abort();
    await asleep;
    expect(clock.nowMs()).toBe(0);
  });

  test("endOfTurn runs without advancing, after the turn's promise reactions, in order", async () => {
    const clock = createSimulatedClock(0);
    const order: string[] = [];
    const done = new Promise<void>((resolve) => {
      clock.endOfTurn(() => order.push("first"));
      clock.endOfTurn(() => {
        order.push("second");
        resolve();
      });
    });
    void (async () => {
      for (let hop = 0; hop < 20; hop += 1) await Promise.resolve();
      order.push("reactions");
    })();
    await done;
    expect(order).toEqual(["reactions", "first", "second"]);
  });

  test("advance waits for chains of turns before the next sleeper", async () => {
    const clock = createSimulatedClock(0);
    const order: string[] = [];
    void clock.sleep(10).then(() => {
      clock.endOfTurn(() => void Promise.resolve().then(() => clock.endOfTurn(() => order.push("commit"))));
    });
    void clock.sleep(11).then(() => order.push("next"));
    await clock.advance(11);
    expect(order).toEqual(["commit", "next"]);
  });

  test("two advances at once are a mistake", async () => {
    const clock = createSimulatedClock(0);
    const first = clock.advance(1);
    await expect(clock.advance(1)).rejects.toThrow("advancing already");
    await first;
  });
});
