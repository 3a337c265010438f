import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createInProcessHost } from "../../../src/runtime/adapters/process/in-process-host.ts";
import type { ProcessExit, ProcessSpec } from "../../../src/runtime/ports/process-host.ts";
import { endLeftovers, recordProcesses } from "../../../src/supervisor/leftovers.ts";
import { readStartTime } from "../../../src/supervisor/process-identity.ts";
import { call, isAlive, makeDataDir, until } from "../../fixtures/supervisor/harness.ts";
import { serveHandedOver } from "../../support/handed-over-server.ts";

let folder: ReturnType<typeof makeDataDir>;
let host: ReturnType<typeof createInProcessHost>;
beforeEach(() => {
  folder = makeDataDir();
  host = createInProcessHost();
});
afterEach(async () => {
  await host.close();
  folder.remove();
});

const logPath = (id: string) => join(folder.path, `${id}.log`);
const shell = (id: string, script: string, extra: Partial<ProcessSpec> = {}): ProcessSpec => ({
  id,
  file: "/bin/sh",
  args: ["-c", script],
  cwd: folder.path,
  env: { RUNPOD_POD_ID: id, PATH: "/usr/bin:/bin" },
  logPath: logPath(id),
  ...extra,
});
const exitOf = (id: string): Promise<ProcessExit> =>
  new Promise((resolve) => {
    const unsubscribe = host.processHost.onExit((exit) => {
      if (exit.id !== id) return;
      unsubscribe();
      resolve(exit);
    });
  });
const log = (id: string) => (existsSync(logPath(id)) ? readFileSync(logPath(id), "utf8") : "");
const logged = (id: string) =>
  log(id)
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => line.split("\t").slice(1).join(" "));

describe("worker processes", () => {
  test("have the given environment and nothing else", async () => {
    const exit = exitOf("w1");
    await host.processHost.spawn({ ...shell("w1", ""), file: "/usr/bin/env", args: [], env: { A: "1" } });
    expect(await exit).toMatchObject({ id: "w1", code: 0, signal: null });
    expect(logged("w1")).toEqual(["o A=1"]);
  });

  test("an exit is told once its last partial line is in the log, and listed until forgotten", async () => {
    const exit = exitOf("w1");
    const started = await host.processHost.spawn(shell("w1", "echo out; printf last >&2; exit 3"));
    expect(started).toMatchObject({ id: "w1", exit: null, startTime: expect.stringMatching(/^\d+$/) });
    expect(await exit).toMatchObject({ id: "w1", pid: started.pid, code: 3, signal: null });
    expect(logged("w1").sort()).toEqual(["e last", "o out"]);
    expect(await host.processHost.list()).toMatchObject([{ id: "w1", exit: { code: 3 } }]);
    await expect(host.processHost.spawn(shell("w1", ""))).rejects.toThrow("worker w1 was started before");
    await host.processHost.forget("w1");
    expect(await host.processHost.list()).toEqual([]);
    expect(await host.processHost.signal("w1", "SIGTERM")).toBe(false);
  });

  test("what the leader leaves in its group is killed with it", async () => {
    const exit = exitOf("w1");
    await host.processHost.spawn(shell("w1", "sleep 300 & echo $!"));
    await exit;
    const orphan = Number(logged("w1")[0]?.split(" ")[1]);
    expect(orphan).toBeGreaterThan(1);
    await until("the orphan is gone", () => !isAlive(orphan));
  });

  test("a process that left the group and holds the pipes does not hold up the exit", async () => {
    const exit = exitOf("w1");
    await host.processHost.spawn(shell("w1", "setsid sleep 300 & echo $!"));
    expect(await exit).toMatchObject({ code: 0 });
    const escaped = Number(logged("w1")[0]?.split(" ")[1]);
    process.kill(escaped, "SIGKILL");
  });

  test("a signal reaches the whole group", async () => {
    const exit = exitOf("w1");
    const { pid } = await host.processHost.spawn(shell("w1", "sleep 300 & echo up; wait"));
    await until("it is up", () => log("w1").includes("up"));
    expect(await host.processHost.signal("w1", "SIGTERM")).toBe(true);
    expect(await exit).toMatchObject({ pid, code: null, signal: "SIGTERM" });
  });

  test("a start that fails says which file or folder is missing", async () => {
    await expect(host.processHost.spawn(shell("w1", "", { file: "/no/such" }))).rejects.toThrow(
      "/no/such ENOENT",
    );
    await expect(host.processHost.spawn(shell("w2", "", { cwd: "/no/folder" }))).rejects.toThrow(
      "no such folder: /no/folder",
    );
    expect(await host.processHost.list()).toEqual([]);
  });
});

describe("leftovers", () => {
  test("are killed by pid and start time; a stranger with the pid is not; the file is emptied", async () => {
    const ours = await host.processHost.spawn(shell("w1", "trap '' TERM; sleep 300"));
    const stranger = await host.processHost.spawn(shell("w2", "sleep 300"));
    const file = join(folder.path, "workers.json");
    recordProcesses(file, [ours, { ...stranger, startTime: "1" }, { id: "w3", pid: 0, startTime: "1" }]);
    expect(await endLeftovers(file)).toEqual(["w1"]);
    await until("it is gone", () => !isAlive(ours.pid));
    expect(isAlive(stranger.pid)).toBe(true);
    expect(JSON.parse(readFileSync(file, "utf8")).processes).toEqual([]);
  });

  test.runIf(process.platform === "linux")(
    "orphans of a dead leader are found by group and environment",
    async () => {
      const leader = await host.processHost.spawn(
        shell("w1", "sleep 300 & sleep 301 & echo $!; kill -STOP $$"),
      );
      await until("it is up", () => log("w1").includes("\n"));
      const orphan = Number(logged("w1")[0]?.split(" ")[1]);
      const file = join(folder.path, "workers.json");
      recordProcesses(file, [{ ...leader, id: "another" }]);
      recordProcesses(file, [leader]);
      expect(await readStartTime(orphan)).not.toBeNull();
      expect(await endLeftovers(file)).toEqual(["w1"]);
      await until("the orphan is gone", () => !isAlive(orphan));
    },
  );

  test("a file that is damaged or missing names nobody", async () => {
    const file = join(folder.path, "workers.json");
    mkdirSync(join(folder.path, "sub"));
    expect(await endLeftovers(file)).toEqual([]);
    expect(await endLeftovers(join(folder.path, "sub", "workers.json"))).toEqual([]);
  });
});

describe("sockets in process", () => {
  test("serve an HTTP server that never listens", async () => {
    const server = createServer((_request, response) => response.end("hello"));
    const clock = { nowMs: Date.now, sleep: async () => {}, endOfTurn: setImmediate };
    const served = serveHandedOver({ server, clock });
    const { port } = await host.socketHost.listen({ name: "a", host: "127.0.0.1", port: 0 }, served.accept);
    expect(await call({ port, path: "/" })).toEqual({ status: 200, body: "hello" });
    await expect(
      host.socketHost.listen({ name: "b", host: "127.0.0.1", port }, served.accept),
    ).rejects.toMatchObject({
      code: "EADDRINUSE",
    });
    await host.socketHost.close("a");
    await expect(call({ port, path: "/" })).rejects.toMatchObject({ code: "ECONNREFUSED" });
    await served.finish();
  });
});
