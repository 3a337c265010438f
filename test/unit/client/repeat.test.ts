import { Readable } from "node:stream";
import { describe, expect, test } from "vitest";
import { type Outcome, pauseBeforeRepeat } from "../../../src/client/repeat.ts";
import type { Call } from "../../../src/client/send.ts";

const GET: Call = { method: "GET", path: "/" };
const POST: Call = { method: "POST", path: "/", body: "{}" };
const REFUSED: Outcome = { kind: "refused", error: new Error("no") };
const LOST: Outcome = { kind: "lost", error: new Error("cut") };

function answer(status: number, headers: Record<string, string> = {}): Outcome {
  return { kind: "reply", reply: { status, headers, body: Readable.from([]) } };
}

function pauseOf(call: Call, outcome: Outcome, more: { repeats?: number; chance?: number } = {}) {
  const { repeats = 0, chance = 0 } = more;
  return pauseBeforeRepeat(call, outcome, { repeats, random: () => chance, isRefusalFinal: false });
}

test("pauses double, are capped, differ by chance within half of them, and end after five", () => {
  const shortest = [0, 1, 2, 3, 4, 5].map((repeats) => pauseOf(GET, REFUSED, { repeats }));
  expect(shortest).toEqual([100, 200, 400, 800, 1_000, null]);
  const longest = [0, 1, 2, 3, 4, 5].map((repeats) => pauseOf(GET, REFUSED, { repeats, chance: 0.999_999 }));
  expect(longest).toEqual([200, 400, 800, 1_600, 2_000, null]);
});

describe("what is repeated", () => {
  test("a refused connection: whatever the call, as nothing arrived", () => {
    expect(pauseOf(POST, REFUSED)).toBe(100);
  });

  test("a refused connection is final where nothing says that there is a daemon", () => {
    const state = { repeats: 0, random: () => 0, isRefusalFinal: true };
    expect(pauseBeforeRepeat(GET, REFUSED, state)).toBeNull();
    expect(pauseBeforeRepeat(GET, LOST, state)).toBe(100);
  });

  test.each<[string, Call, number | null]>([
    ["GET", GET, 100],
    ["DELETE", { method: "DELETE", path: "/" }, 100],
    ["PUT of what can be opened again", { method: "PUT", path: "/", body: () => Readable.from([]) }, 100],
    ["PUT of a stream that was read", { method: "PUT", path: "/", body: Readable.from([]) }, null],
    ["POST", POST, null],
    ["PATCH", { method: "PATCH", path: "/", body: "{}" }, null],
    ["a GET that hands out each chunk once", { ...GET, isRepeatable: false }, null],
  ])("a lost answer: %s", (_, call, pauseMs) => {
    expect(pauseOf(call, LOST)).toBe(pauseMs);
    expect(pauseOf(call, answer(502))).toBe(pauseMs);
  });

  test.each<[string, Outcome, number | null]>([
    ["503 of the daemon with Retry-After", answer(503, { "x-rpx-version": "1", "retry-after": "3" }), 3_000],
    ["503 of the daemon without: there is no room", answer(503, { "x-rpx-version": "1" }), null],
    ["503 of something before the daemon", answer(503), 100],
    ["Retry-After that is no time", answer(503, { "retry-after": "soon" }), 100],
    ["Retry-After in the past", answer(503, { "retry-after": "Thu, 01 Jan 1970 00:00:00 GMT" }), 100],
    ["Retry-After of an hour: the answer as it is", answer(503, { "retry-after": "3600" }), null],
    ["500", answer(500, { "retry-after": "1" }), null],
    ["404", answer(404), null],
    ["a failure that a repeat does not cure", { kind: "failed", error: new Error("x") }, null],
  ])("%s", (_, outcome, pauseMs) => {
    expect(pauseOf(GET, outcome)).toBe(pauseMs);
  });

  test("Retry-After as a date", () => {
    const at = new Date(Date.now() + 5_000).toUTCString();
    const pauseMs = pauseOf(GET, answer(503, { "retry-after": at }));
    expect(pauseMs).toBeGreaterThan(2_000);
    expect(pauseMs).toBeLessThanOrEqual(5_000);
  });
});
