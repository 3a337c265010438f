import { expect, test } from "vitest";
import { createSimulatedClock } from "../../../src/runtime/adapters/simulated/clock.ts";
import { createLoop } from "../../../src/runtime/loop.ts";

/** A loop that notes when it runs. `nudgeAt`: passes during which it is nudged. */
function setUp(nudgeAt: readonly number[] = []) {
  const clock = createSimulatedClock(0);
  const passesAtMs: number[] = [];
  const loop = createLoop({
    clock,
    tick: async () => {
      passesAtMs.push(clock.nowMs());
      if (nudgeAt.includes(passesAtMs.length)) loop.nudge();
      return null;
    },
    maxPauseMs: 1_000,
    minPauseMs: 10,
    log: { error: () => {} },
    name: "test",
  });
  return { clock, loop, passesAtMs };
}

test("nudges of one moment make one pass, and the next nudge another", async () => {
  const { clock, loop, passesAtMs } = setUp();
  loop.start();
  await clock.advance(100);
  for (let time = 0; time < 5; time += 1) loop.nudge();
  await clock.advance(100);
  loop.nudge();
  await clock.advance(100);
  expect(passesAtMs).toEqual([0, 100, 200]);
});

test("a nudge during a pass makes another after the shortest pause", async () => {
  const { clock, loop, passesAtMs } = setUp([1]);
  loop.start();
  await clock.advance(500);
  expect(passesAtMs).toEqual([0, 10]);
});

test("what a nudge came with goes first, and what that brings about at the end of its turn", async () => {
  const { clock, loop, passesAtMs } = setUp();
  loop.start();
  await clock.advance(100);
  const passesThen: number[] = [];
  clock.endOfTurn(() => {
    loop.nudge();
    // As a request does that is read in the next turn, and commits at its end.
    clock.endOfTurn(() => clock.endOfTurn(() => passesThen.push(passesAtMs.length)));
  });
  await clock.advance(10);
  expect([passesThen, passesAtMs]).toEqual([[1], [0, 100]]);
});

test("without a nudge it runs after the longest pause, and not after its stop", async () => {
  const { clock, loop, passesAtMs } = setUp();
  loop.start();
  await clock.advance(2_500);
  const stopped = loop.stop();
  await clock.advance(2_500);
  await stopped;
  expect(passesAtMs).toEqual([0, 1_000, 2_000]);
});
