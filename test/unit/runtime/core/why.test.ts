import { expect, test } from "vitest";
import { type WaitingFacts, whyWaiting } from "../../../../src/runtime/core/why.ts";

const NOW_MS = 1_000_000;

type Change = { [Key in keyof WaitingFacts]?: Partial<WaitingFacts[Key]> };
function facts({ job, daemon, endpoint, workers }: Change): WaitingFacts {
  return {
    job: { availableAtMs: 0, lowPriority: false, ahead: 0, ...job },
    daemon: { draining: false, diskFull: false, ...daemon },
    endpoint: {
      name: "hello",
      workersMax: 3,
      paused: false,
      notLive: null,
      desiredReason: "1 job waiting and no worker up: wants 1",
      ...endpoint,
    },
    workers: { busy: 0, free: 0, draining: 0, waiting: null, starting: null, failed: null, ...workers },
  };
}

const boot = { count: 1, phase: "boot", sinceMs: NOW_MS - 2_500 };
const failed = {
  how: "the handler exits with code 1",
  lastLine: "ModuleNotFoundError: No module named 'torch'\n",
  retryAtMs: NOW_MS + 20_000,
  inARow: 3,
};

test.each<[string, Change, string]>([
  [
    "the daemon drains",
    { daemon: { draining: true }, workers: { free: 1 } },
    "the daemon is stopping and hands out no more jobs; this one waits for its next start",
  ],
  ["max 0", { endpoint: { workersMax: 0 } }, "workers.max of hello is 0: jobs wait until it is raised"],
  [
    "paused, whatever is up",
    { endpoint: { paused: true }, workers: { free: 1 } },
    "hello is paused: jobs wait until it is resumed",
  ],
  [
    "no release serves yet",
    { endpoint: { notLive: "release 1 does not serve yet: its first worker has to become ready" } },
    "release 1 does not serve yet: its first worker has to become ready",
  ],
  [
    "a worker that waits for its part of the machine",
    {
      workers: {
        waiting: "waits for memory: needs 4 GiB, 1 GiB of 8 GiB are free; held by llama (2 workers)",
      },
    },
    "a worker waits for memory: needs 4 GiB, 1 GiB of 8 GiB are free; held by llama (2 workers)",
  ],
  [
    "one that starts beside one that waits",
    { workers: { starting: boot, waiting: "waits for memory" } },
    "starting a worker (boot) since 2.5 s",
  ],
  [
    "backoff",
    { job: { availableAtMs: NOW_MS + 30_000 }, workers: { free: 1 } },
    "put off until a retry in 30.0 s",
  ],
  ["a start", { workers: { starting: boot } }, "starting a worker (boot) since 2.5 s"],
  [
    "several starts",
    { workers: { starting: { ...boot, count: 2 } } },
    "starting 2 workers (boot), the first since 2.5 s",
  ],
  [
    "a handler that does not start",
    { workers: { failed } },
    "the handler exits with code 1 before it takes a job (3 times in a row): ModuleNotFoundError: No module named 'torch'; next start in 20.0 s",
  ],
  [
    "a handler that is tried again",
    { workers: { failed: { ...failed, inARow: 1, lastLine: null }, starting: boot } },
    "the handler exits with code 1 before it takes a job; starting again now",
  ],
  ["no room", { daemon: { diskFull: true } }, "the disk is full: no worker can start until there is room"],
  [
    "all busy",
    { job: { ahead: 3 }, workers: { busy: 3 } },
    "behind 3 jobs; no worker slot is free: 3 workers busy, max 3",
  ],
  [
    "all busy, more starting",
    { job: { ahead: 1 }, workers: { busy: 1, starting: boot } },
    "behind 1 job; no worker slot is free: 1 worker busy, max 3; starting a worker (boot) since 2.5 s",
  ],
  ["a free worker", { workers: { free: 1 } }, "next in line; a worker is free and takes next"],
  [
    "draining workers",
    { workers: { draining: 2 } },
    "2 workers draining and none of them takes another job; a new one follows",
  ],
  [
    "low priority",
    { job: { lowPriority: true } },
    "of low priority: it starts no worker and waits for one that another job starts",
  ],
  ["nothing yet", {}, "no worker is up: 1 job waiting and no worker up: wants 1"],
])("%s", (_, change, sentence) => {
  expect(whyWaiting(facts(change), NOW_MS)).toBe(sentence);
});

test("a worker's last line is quoted in part only", () => {
  const lastLine = "x".repeat(10_000);
  const sentence = whyWaiting(facts({ workers: { failed: { ...failed, lastLine } } }), NOW_MS);
  expect(sentence.length).toBeLessThan(400);
});
