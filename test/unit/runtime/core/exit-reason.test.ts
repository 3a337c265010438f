import { constants } from "node:os";
import { expect, test } from "vitest";
import { exitReason } from "../../../../src/runtime/core/exit-reason.ts";

const none = { code: null, signal: null, asked: null, lastLines: [], signalNumbers: constants.signals };

test.each([
  [{ code: 0 }, "exited by itself with code 0"],
  [{ code: 0, lastLines: ["done"] }, "exited by itself with code 0"],
  [{ code: 1 }, "exited with code 1"],
  [{ code: 1, lastLines: ["Traceback", "ValueError: no", "  "] }, "exited with code 1: ValueError: no"],
  [{ code: 137 }, "exited with code 137, which says SIGKILL (out of memory?)"],
  [{ code: 200 }, "exited with code 200"],
  [{ signal: "SIGKILL", lastLines: ["loading"] }, "killed by SIGKILL (out of memory?): loading"],
  [{ signal: "SIGSEGV" }, "killed by SIGSEGV (a crash in native code)"],
  [{ signal: "SIGHUP" }, "killed by SIGHUP"],
  [{}, "ended in a way nobody saw"],
  [{ code: 0, asked: "stop" as const }, "stopped by rpx"],
  [{ signal: "SIGTERM", asked: "stop" as const, lastLines: ["bye"] }, "stopped by rpx"],
  [{ code: 1, asked: "stop" as const }, "stopped by rpx, ended by exit code 1"],
  [{ signal: "SIGSEGV", asked: "stop" as const }, "stopped by rpx, ended by SIGSEGV"],
  [{ signal: "SIGKILL", asked: "kill" as const, lastLines: ["x"] }, "killed by rpx"],
])("%j: %s", (end, reason) => {
  expect(exitReason({ ...none, ...end })).toBe(reason);
});

test("last words are cut, and cannot steer a terminal", () => {
  const reason = exitReason({ ...none, code: 1, lastLines: [`\u001b[2J${"x".repeat(500)}`] });
  expect(reason).toBe(`exited with code 1: ${"x".repeat(200)}...`);
});
