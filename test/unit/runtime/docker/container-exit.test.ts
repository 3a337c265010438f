import { expect, test } from "vitest";
import { containerExit, type EndFacts } from "../../../../src/runtime/adapters/docker/container-exit.ts";
import type { ContainerDetails } from "../../../../src/runtime/adapters/docker/containers.ts";
import type { WorkerId } from "../../../../src/runtime/core/model.ts";

const ENDED: ContainerDetails = {
  status: "exited",
  pid: 0,
  startedAt: "",
  exitCode: 0,
  oomKilled: false,
  error: "",
  memoryBytes: null,
  diskBytes: null,
};
const workerId = "w1" as WorkerId;

function told(details: Partial<ContainerDetails> | null, facts: Partial<EndFacts> = {}) {
  const { workerId: _, ...exit } = containerExit({
    ...{ workerId, asked: null, byHand: null, oom: false, overDisk: null, unseen: false, lastLines: [] },
    details: details === null ? null : { ...ENDED, ...details },
    ...facts,
  });
  return exit;
}

test.each([
  [told({}), { code: 0, signal: null, reason: "exited by itself with code 0" }],
  [told({ exitCode: 3 }, { lastLines: ["oh"] }), { code: 3, signal: null, reason: "exited with code 3: oh" }],
  [told({ exitCode: 137 }), { code: null, signal: "SIGKILL", reason: "killed by SIGKILL (out of memory?)" }],
  [told({ exitCode: 200 }), { code: 200, signal: null, reason: "exited with code 200" }],
  [told({ exitCode: 143 }, { asked: "stop" }), { code: null, signal: "SIGTERM", reason: "stopped by rpx" }],
  [told({ exitCode: 137 }, { asked: "kill" }), { code: null, signal: "SIGKILL", reason: "killed by rpx" }],
  [told(null, { asked: "kill" }), { code: null, signal: "SIGKILL", reason: "killed by rpx" }],
  [told(null, { asked: "stop" }), { code: 0, signal: null, reason: "stopped by rpx" }],
])("told as %j", (exit, expected) => expect(exit).toEqual(expected));

test("F-14: out of memory, with its limit or the machine's", () => {
  expect(told({ exitCode: 137, oomKilled: true, memoryBytes: 2 ** 26 })).toEqual({
    ...{ code: null, signal: "SIGKILL", cause: "oom" },
    reason: "ran out of memory: its limit is 64 MiB",
  });
  expect(told({ exitCode: 137 }, { oom: true }).reason).toBe("ran out of memory: the machine had none left");
  expect(told({ exitCode: 137, oomKilled: true }, { asked: "kill" })).not.toHaveProperty("cause");
});

test("F-17: what somebody did by hand, and a container that is gone", () => {
  expect(told({ exitCode: 137 }, { byHand: "paused" })).toMatchObject({
    cause: "removed",
    reason: "its container was paused by hand",
  });
  expect(told(null)).toEqual({
    ...{ code: null, signal: null, cause: "removed" },
    reason: "its container was removed by hand",
  });
});

test("over its disk, while the engine was away, and a program that is not there", () => {
  expect(told({ exitCode: 137 }, { overDisk: "wrote too much" })).toMatchObject({
    cause: "disk",
    reason: "wrote too much",
  });
  expect(told({ exitCode: 137 }, { unseen: true }).reason).toBe(
    "ended while the Docker engine was away: killed by SIGKILL (out of memory?)",
  );
  expect(told({ exitCode: 127 }, { lastLines: ["exec /x failed"] }).reason).toBe(
    "its program could not be run: exited with code 127: exec /x failed",
  );
  expect(told({ exitCode: 128, error: "no such device" }).reason).toBe("could not run: no such device");
});
