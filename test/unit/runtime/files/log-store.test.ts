import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createLogStore, type FileLogStore } from "../../../../src/runtime/adapters/files/log-store.ts";
import { createSystemClock } from "../../../../src/runtime/adapters/system/clock.ts";
import type { EndpointId, WorkerId } from "../../../../src/runtime/core/model.ts";
import type { LogLine } from "../../../../src/runtime/ports/log-store.ts";
import { until } from "../../../conformance/worker-pool.ts";

const EP = "ep1" as EndpointId;
const A = "w-a" as WorkerId;
const B = "w-b" as WorkerId;
let dataDir: string;
let logs: FileLogStore;

beforeEach(() => {
  dataDir = mkdtempSync(path.join(tmpdir(), "rpx-logs-"));
  logs = createLogStore({ dataDir, clock: createSystemClock({ newestStoredMs: 0 }) });
  mkdirSync(path.join(dataDir, "logs", EP), { recursive: true });
});
afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

/** As the supervisor writes it. */
const stamped = (tsMs: number, text: string, source: "o" | "e" = "o") => `${tsMs}\t${source}\t${text}\n`;
const append = (workerId: WorkerId, text: string) => appendFileSync(logs.pathOf(EP, workerId), text);
/** As the supervisor rotates: the oldest goes. */
function rotate(workerId: WorkerId): void {
  const file = logs.pathOf(EP, workerId);
  for (const [from, to] of [
    [".1", ".2"],
    ["", ".1"],
  ]) {
    try {
      renameSync(file + from, file + to);
    } catch {
      // There is none yet.
    }
  }
}
const texts = (lines: readonly LogLine[]) => lines.map(({ line }) => line);
const span = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, index) => String(from + index));

describe("read", () => {
  test("lines of one worker, as they were stamped", async () => {
    append(A, stamped(1, "one") + stamped(2, "tab\there", "e") + stamped(3, ""));
    expect(await logs.read({ endpointId: EP, workerId: A, tail: 10 })).toEqual([
      { tsMs: 1, source: "stdout", workerId: A, line: "one" },
      { tsMs: 2, source: "stderr", workerId: A, line: "tab\there" },
      { tsMs: 3, source: "stdout", workerId: A, line: "" },
    ]);
  });

  test("the last lines, over renamed segments and over chunks", async () => {
    const line = (number: string) => stamped(Number(number), number.padEnd(1_000, "."));
    append(A, span(0, 500).map(line).join(""));
    rotate(A);
    append(A, span(500, 1_000).map(line).join(""));
    rotate(A);
    append(A, span(1_000, 1_200).map(line).join(""));
    const numbers = async (tail: number) =>
      (await logs.read({ endpointId: EP, workerId: A, tail })).map(({ tsMs }) => String(tsMs));
    expect(await numbers(3)).toEqual(span(1_197, 1_200));
    expect(await numbers(900)).toEqual(span(300, 1_200));
    expect(await numbers(5_000)).toEqual(span(0, 1_200));
    expect(await numbers(0)).toEqual([]);
  });

  test("lines of several workers in order of time", async () => {
    append(A, stamped(1, "a1") + stamped(4, "a4"));
    append(B, stamped(2, "b2") + stamped(3, "b3") + stamped(5, "b5"));
    expect(texts(await logs.read({ endpointId: EP, tail: 10 }))).toEqual(["a1", "b2", "b3", "a4", "b5"]);
    expect(texts(await logs.read({ endpointId: EP, tail: 2 }))).toEqual(["a4", "b5"]);
  });

  test("a worker whose log ended long ago is not left out when lines are few", async () => {
    const nowMs = Date.now();
    append(A, stamped(nowMs - 100_000, "old"));
    utimesSync(logs.pathOf(EP, A), (nowMs - 100_000) / 1_000, (nowMs - 100_000) / 1_000);
    append(B, stamped(nowMs, "new"));
    expect(texts(await logs.read({ endpointId: EP, tail: 10 }))).toEqual(["old", "new"]);
    expect(texts(await logs.read({ endpointId: EP, tail: 1 }))).toEqual(["new"]);
  });

  test("a span of time, both ends within", async () => {
    append(
      A,
      span(0, 10)
        .map((text) => stamped(Number(text), text))
        .join(""),
    );
    const read = (sinceMs: number, untilMs: number) =>
      logs.read({ endpointId: EP, sinceMs, untilMs, tail: 100 });
    expect(texts(await read(3, 6))).toEqual(["3", "4", "5", "6"]);
    expect(texts(await read(9, 100))).toEqual(["9"]);
    expect(texts(await read(100, 200))).toEqual([]);
  });

  test("a line that is still being written, and what is no line, are left out", async () => {
    append(A, `garbage\n${stamped(1, "whole")}2\to\thal`);
    expect(texts(await logs.read({ endpointId: EP, tail: 10 }))).toEqual(["whole"]);
    append(A, "f\n");
    expect(texts(await logs.read({ endpointId: EP, tail: 10 }))).toEqual(["whole", "half"]);
  });

  test("F-48: megabytes without a line break cost neither memory nor the other lines", async () => {
    append(A, `${stamped(1, "first")}${"x".repeat(3_000_000)}\n${stamped(2, "last")}`);
    expect(texts(await logs.read({ endpointId: EP, tail: 10 }))).toEqual(["first", "last"]);
  });

  test("an endpoint without logs has no lines", async () => {
    expect(await logs.read({ endpointId: "ep2" as EndpointId, tail: 10 })).toEqual([]);
  });

  test.each(["../ep1", "a/b", "", "a\0b", "x".repeat(65)])("T-20: %j is no id", async (id) => {
    const query = { endpointId: id as EndpointId, tail: 10 };
    await expect(logs.read(query)).rejects.toMatchObject({ code: "not_found" });
    expect(() => logs.pathOf(EP, id as WorkerId)).toThrow("there is no log of that name");
  });
});

describe("lastLines", () => {
  test("what was printed to stderr, else stdout", () => {
    append(
      A,
      stamped(1, "out") + stamped(2, "first", "e") + stamped(3, "second", "e") + stamped(4, "out again"),
    );
    append(B, stamped(1, "one") + stamped(2, "two"));
    expect(logs.lastLines(EP, A, 1)).toEqual(["second"]);
    expect(logs.lastLines(EP, A, 5)).toEqual(["first", "second"]);
    expect(logs.lastLines(EP, B, 1)).toEqual(["two"]);
    expect(logs.lastLines(EP, "w-none" as WorkerId, 1)).toEqual([]);
  });

  test("a segment that was renamed just now is looked into", () => {
    append(A, stamped(1, "before", "e"));
    rotate(A);
    append(A, "");
    expect(logs.lastLines(EP, A, 1)).toEqual(["before"]);
  });
});

test("endpointOf finds whose log a worker's is", () => {
  append(A, stamped(1, "x"));
  expect(logs.endpointOf(A)).toBe(EP);
  expect(logs.endpointOf(B)).toBeNull();
});

describe("follow", () => {
  /** Follows until the callback's condition holds, then ends. */
  async function collect(
    query: { workerId?: WorkerId; sinceMs?: number; untilMs?: number; tail?: number } = {},
  ) {
    const seen: string[] = [];
    const ended = new AbortController();
    const done = logs.follow(
      { endpointId: EP, tail: 100, ...query },
      (lines) => seen.push(...texts(lines)),
      ended.signal,
    );
    return {
      seen,
      async untilSeen(expected: readonly string[]) {
        await until(`follow shows ${expected.length} lines`, () => seen.length >= expected.length);
        expect(seen).toEqual(expected);
      },
      async end() {
        ended.abort();
        await done;
      },
    };
  }

  test("the backlog, then what comes, each once", async () => {
    append(A, stamped(1, "old") + "2\to\thal");
    const following = await collect();
    await following.untilSeen(["old"]);
    append(A, "f\n");
    await following.untilSeen(["old", "half"]);
    append(A, stamped(3, "new"));
    await following.untilSeen(["old", "half", "new"]);
    await following.end();
  });

  test("a worker that comes later, from its beginning", async () => {
    const following = await collect();
    append(B, stamped(1, "hello"));
    await following.untilSeen(["hello"]);
    await following.end();
  });

  test("a log that is renamed again and again loses and repeats nothing", async () => {
    append(A, stamped(0, "0"));
    const following = await collect();
    await following.untilSeen(["0"]);
    for (let number = 1; number <= 60; number += 1) {
      append(A, stamped(number, String(number)));
      if (number % 7 === 0) rotate(A);
      if (number % 10 === 0) await following.untilSeen(span(0, number + 1));
    }
    await following.end();
  });

  test("a flood is handed on whole, in parts", async () => {
    const line = (number: string) => stamped(Number(number), number.padEnd(1_000, "."));
    append(A, line("0"));
    const following = await collect();
    await until("it follows", () => following.seen.length === 1);
    append(A, span(1, 3_000).map(line).join(""));
    await until("all lines are shown", () => following.seen.length === 3_000);
    expect(following.seen.map((text) => text.replaceAll(".", ""))).toEqual(span(0, 3_000));
    await following.end();
  });

  test("more renames than segments are kept: the gap is told", async () => {
    append(A, stamped(0, "0"));
    const following = await collect();
    await following.untilSeen(["0"]);
    for (const number of [1, 2, 3]) {
      rotate(A);
      append(A, stamped(number, String(number)));
    }
    await until("what is left is shown", () => following.seen.includes("3"));
    expect(following.seen.filter((text) => !text.startsWith("[rpx:"))).toEqual(["0", "1", "2", "3"]);
    expect(following.seen.some((text) => text.startsWith("[rpx: lines are missing"))).toBe(true);
    await following.end();
  });

  test("one worker only, and only its span of time", async () => {
    const following = await collect({ workerId: A, sinceMs: 10 });
    append(B, stamped(20, "other"));
    append(A, stamped(5, "early") + stamped(20, "wanted"));
    await following.untilSeen(["wanted"]);
    append(A, stamped(21, "end"));
    await following.untilSeen(["wanted", "end"]);
    await following.end();
  });

  test("it ends by itself when its span of time is over", async () => {
    append(A, stamped(1, "x"));
    const seen: string[] = [];
    const query = { endpointId: EP, tail: 10, untilMs: 1 };
    await logs.follow(query, (lines) => seen.push(...texts(lines)), new AbortController().signal);
    expect(seen).toEqual(["x"]);
  });

  test("an endpoint whose first worker is yet to start can be followed", async () => {
    rmSync(path.join(dataDir, "logs"), { recursive: true });
    const following = await collect();
    await until(
      "its folder is there",
      () => statSync(path.join(dataDir, "logs", EP), { throwIfNoEntry: false }) !== undefined,
    );
    append(A, stamped(1, "first"));
    await following.untilSeen(["first"]);
    await following.end();
  });
});

describe("prune", () => {
  const DAY_MS = 86_400_000;
  const writtenAt = (workerId: WorkerId, suffix: string, tsMs: number, bytes: number) => {
    const file = logs.pathOf(EP, workerId) + suffix;
    writeFileSync(file, "x".repeat(bytes));
    utimesSync(file, tsMs / 1_000, tsMs / 1_000);
  };
  const names = () => readdir(path.join(dataDir, "logs", EP));
  const C = "w-c" as WorkerId;

  test("logs of gone workers go by age, with all their segments", async () => {
    writtenAt(A, ".1", DAY_MS, 10);
    writtenAt(A, "", 2 * DAY_MS, 20);
    writtenAt(B, ".1", DAY_MS, 30);
    writtenAt(B, "", 9 * DAY_MS, 40);
    const freed = await logs.prune({ keepWorkers: new Set(), beforeMs: 3 * DAY_MS, maxBytes: 1_000 });
    expect(freed).toBe(30);
    expect(await names()).toEqual(["w-b.log", "w-b.log.1"]);
  });

  test("then the oldest, until the rest fits", async () => {
    writtenAt(A, "", 5 * DAY_MS, 100);
    writtenAt(B, "", 4 * DAY_MS, 100);
    writtenAt(C, "", 6 * DAY_MS, 100);
    expect(await logs.prune({ keepWorkers: new Set(), beforeMs: 0, maxBytes: 250 })).toBe(100);
    expect(await names()).toEqual(["w-a.log", "w-c.log"]);
  });

  test("logs of present workers are kept, whatever their age and size", async () => {
    writtenAt(A, "", DAY_MS, 1_000);
    const keepWorkers = new Set([A]);
    expect(await logs.prune({ keepWorkers, beforeMs: 3 * DAY_MS, maxBytes: 0 })).toBe(0);
    expect(await names()).toEqual(["w-a.log"]);
  });

  test("folders left empty go; without any logs there is nothing to do", async () => {
    writtenAt(A, "", DAY_MS, 10);
    await logs.prune({ keepWorkers: new Set(), beforeMs: 3 * DAY_MS, maxBytes: 0 });
    expect(await readdir(path.join(dataDir, "logs"))).toEqual([]);
    rmSync(path.join(dataDir, "logs"), { recursive: true });
    expect(await logs.prune({ keepWorkers: new Set(), beforeMs: 0, maxBytes: 0 })).toBe(0);
  });
});
