import { fork } from "node:child_process";
import { once } from "node:events";
import { readdirSync, statSync, writeFileSync } from "node:fs";
import { connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { HostedProcess, ProcessSpec } from "../../../src/runtime/ports/process-host.ts";
import { MAX_WAITING_CONNECTIONS } from "../../../src/supervisor/sockets.ts";
import {
  call,
  callJson,
  isAlive,
  makeDataDir,
  type RunningSupervisor,
  report,
  startLoad,
  startSupervisor,
  until,
} from "../../fixtures/supervisor/harness.ts";

const DAEMON = fileURLToPath(new URL("../../fixtures/supervisor/daemon.ts", import.meta.url));

let dataDir: string;
let remove: () => void;
let running: RunningSupervisor[];
beforeEach(() => {
  ({ path: dataDir, remove } = makeDataDir());
  running = [];
});
afterEach(async () => {
  for (const supervisor of running) {
    if (supervisor.process.exitCode !== null || supervisor.process.signalCode !== null) continue;
    supervisor.kill("SIGTERM");
    supervisor.kill("SIGTERM");
    await supervisor.ended;
  }
  remove();
});

function start(options: Partial<Parameters<typeof startSupervisor>[0]> = {}): RunningSupervisor {
  const supervisor = startSupervisor({ dataDir, ...options });
  running.push(supervisor);
  return supervisor;
}

const worker = (id: string, script = "sleep 300"): ProcessSpec => ({
  id,
  file: "/bin/sh",
  args: ["-c", script],
  cwd: dataDir,
  env: { RUNPOD_POD_ID: id, PATH: "/usr/bin:/bin" },
  logPath: join(dataDir, "logs", `${id}.log`),
});
const spawnWorker = (port: number, spec: ProcessSpec) => callJson<HostedProcess>(port, "/spawn", spec);
const pidOf = async (port: number) => (await callJson<{ pid: number }>(port, "/")).pid;
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function connected(port: number): Promise<Socket> {
  const socket = connect({ host: "127.0.0.1", port });
  await once(socket, "connect");
  return socket;
}

describe("one supervisor per data directory (F-37)", () => {
  test("20 starts at once: one runs, the others exit 6 and name its pid", async () => {
    const startedMs = performance.now();
    const all = Array.from({ length: 20 }, () => start());
    await until(
      "19 ended",
      () => all.filter(({ process }) => process.exitCode !== null).length === 19,
      20_000,
    );
    const [winner] = all.filter(({ process }) => process.exitCode === null);
    const losers = all.filter((supervisor) => supervisor !== winner);
    const ends = await Promise.all(losers.map(({ ended }) => ended));
    await winner?.ready();
    report(
      `20 starts: the last of 19 refusals after ${Math.max(...ends.map((end) => end.atMs - startedMs)).toFixed(0)} ms`,
    );
    for (const [index, end] of ends.entries()) {
      expect(end).toMatchObject({ code: 6, signal: null });
      expect(losers[index]?.stderr).toHaveLength(3);
      expect(losers[index]?.stderr[0]).toBe(`Error: another rpx runs on the data directory ${dataDir}`);
    }
  }, 40_000);

  test("the one refused exits within a second, names the holder, and the lock outlives no kill -9", async () => {
    const first = start();
    await first.ready();
    const startedMs = performance.now();
    const second = start();
    const end = await second.ended;
    expect(end).toMatchObject({ code: 6 });
    report(`one refusal after ${(end.atMs - startedMs).toFixed(0)} ms`);
    // A second on a machine that is not busy with other tests (F-37).
    expect(end.atMs - startedMs).toBeLessThan(3000);
    expect(second.stderr).toEqual([
      `Error: another rpx runs on the data directory ${dataDir}`,
      `why: process ${first.process.pid} holds ${join(dataDir, "supervisor.lock")}`,
      `try: kill ${first.process.pid}, or choose another directory with --data-dir`,
    ]);
    first.kill("SIGKILL");
    await first.ended;
    await start().ready();
  });
});

describe("connections", () => {
  test("headersTimeout ends a half-sent header", async () => {
    const { port } = await start({ daemonConfig: { port: 0, headersTimeoutMs: 300 } }).ready();
    const socket = await connected(port);
    socket.write("GET / HTTP/1.1\r\nHo");
    expect(await text(socket)).toMatch(/^HTTP\/1\.1 408 /);
  });

  test("a half-sent header survives the death of the daemon it was offered to", async () => {
    const supervisor = start();
    const { pid, port } = await supervisor.ready();
    process.kill(pid, "SIGSTOP");
    const socket = await connected(port);
    socket.write("GET / HTTP/1.1\r\nHo");
    process.kill(pid, "SIGKILL");
    const next = await supervisor.ready(2);
    socket.write("st: rpx\r\nConnection: close\r\n\r\n");
    expect(await text(socket)).toContain(`{"pid":${next.pid}}`);
  });

  test("F-04 20 kills with -9 under load: nothing hangs, nothing is refused, workers stay", async () => {
    const supervisor = start();
    const { port } = await supervisor.ready();
    const { pid } = await spawnWorker(port, worker("w1"));
    const loads = [
      startLoad({ port, lanes: 16, keepAlive: true }),
      startLoad({ port, lanes: 16, keepAlive: false }),
    ];
    for (let kill = 1; kill <= 20; kill += 1) {
      const daemon = await supervisor.ready(kill);
      await pause(Math.random() * 300);
      process.kill(daemon.pid, "SIGKILL");
    }
    await supervisor.ready(21);
    await pause(200);
    const [kept, closed] = await Promise.all(loads.map((load) => load.stop()));
    report(`20 kills: keep-alive ${JSON.stringify(kept)}, Connection: close ${JSON.stringify(closed)}`);
    expect([kept?.other, closed?.other]).toEqual([[], []]);
    // Only those being answered in that moment: one a lane.
    expect(kept?.reset).toBeLessThanOrEqual(20 * 16);
    expect(closed?.reset).toBeLessThanOrEqual(20 * 16);
    expect(await callJson(port, "/list")).toMatchObject([{ id: "w1", pid, exit: null }]);
  }, 120_000);

  test("F-40 SIGHUP under load replaces the daemon and loses nothing", async () => {
    const supervisor = start();
    const { port } = await supervisor.ready();
    const { pid } = await spawnWorker(port, worker("w1"));
    const loads = [
      startLoad({ port, lanes: 16, keepAlive: false }),
      startLoad({ port, lanes: 8, keepAlive: false, path: "/wait?ms=200" }),
    ];
    for (let hup = 1; hup <= 8; hup += 1) {
      await supervisor.ready(hup);
      await pause(Math.random() * 200);
      supervisor.kill("SIGHUP");
    }
    await supervisor.ready(9);
    const results = await Promise.all(loads.map((load) => load.stop()));
    report(`8 replacements: ${JSON.stringify(results)}`);
    for (const result of results) expect(result).toMatchObject({ reset: 0, other: [] });
    expect(new Set(supervisor.readies.map((ready) => ready.pid)).size).toBe(9);
    expect(supervisor.readies.every((ready) => ready.port === port)).toBe(true);
    expect(await callJson(port, "/list")).toMatchObject([{ id: "w1", pid, exit: null }]);
    expect(supervisor.stderr).toEqual([]);
  }, 60_000);

  test("F-45 without free descriptors existing connections go on, and new ones are served again later", async () => {
    const supervisor = start({ shell: "ulimit -n 256" });
    const { pid, port } = await supervisor.ready();
    const old = await connected(port);
    process.kill(pid, "SIGSTOP");
    const flood = Array.from({ length: 400 }, () =>
      connect({ host: "127.0.0.1", port }).on("error", () => {}),
    );
    await Promise.all(flood.map((socket) => Promise.race([once(socket, "connect"), once(socket, "close")])));
    process.kill(pid, "SIGCONT");
    old.write("GET / HTTP/1.1\r\nHost: rpx\r\nConnection: close\r\n\r\n");
    expect(await text(old)).toContain(`{"pid":${pid}}`);
    for (const socket of flood) socket.destroy();
    await until("new ones are served", () => pidOf(port).catch(() => false as const));
    expect(isAlive(supervisor.process.pid ?? 0)).toBe(true);
  });

  test("no more wait for a daemon than the limit; the newest are closed, the others served", async () => {
    const supervisor = start();
    const { pid, port } = await supervisor.ready();
    process.kill(pid, "SIGSTOP");
    const surplus = 40;
    let closed = 0;
    const sockets: Socket[] = [];
    for (let number = 0; number < MAX_WAITING_CONNECTIONS + surplus; number += 1) {
      const socket = await connected(port);
      socket
        .on("error", () => {})
        .once("close", () => {
          closed += 1;
        });
      socket.resume();
      sockets.push(socket);
    }
    await until("the surplus is closed", () => closed === surplus);
    process.kill(pid, "SIGCONT");
    const last = sockets[MAX_WAITING_CONNECTIONS - 1];
    last?.write("GET / HTTP/1.1\r\nHost: rpx\r\nConnection: close\r\n\r\n");
    await until("the last one is answered", () => (last?.bytesRead ?? 0) > 0);
    expect(await pidOf(port)).toBe(pid);
    expect(supervisor.stderr).toEqual([
      "rpx supervisor: connections are refused: too many wait for the daemon",
    ]);
    for (const socket of sockets) socket.destroy();
  }, 30_000);

  test("a name that is asked for again keeps its socket; a closed one is free", async () => {
    const { port } = await start().ready();
    const second = { name: "second", host: "127.0.0.1", port: 0 };
    const bound = await callJson<{ port: number }>(port, "/listen", second);
    expect(await callJson(port, "/listen", second)).toEqual(bound);
    expect(await text(await connected(bound.port))).toBe("second");
    await callJson(port, "/close?id=second");
    await expect(connected(bound.port)).rejects.toMatchObject({ code: "ECONNREFUSED" });
  });
});

describe("the daemon's end", () => {
  test.each([2, 3, 4, 6])("exit %i during start-up is the supervisor's own", async (code) => {
    expect(await start({ daemonConfig: { port: 0, startCode: code } }).ended).toMatchObject({ code });
  });

  test("F-36 a port in use ends with 6", async () => {
    const taken = createServer().listen(0, "127.0.0.1");
    await once(taken, "listening");
    const { port } = taken.address() as { port: number };
    const supervisor = start({ daemonConfig: { port } });
    expect(await supervisor.ended).toMatchObject({ code: 6 });
    expect(supervisor.stderr.join()).toContain("EADDRINUSE");
    taken.close();
  });

  test.each([70, 6])("exit %i of a serving daemon starts it again", async (code) => {
    const supervisor = start();
    const { pid, port } = await supervisor.ready();
    await expect(call({ port, path: `/exit?code=${code}` })).rejects.toMatchObject({ code: "ECONNRESET" });
    const next = await supervisor.ready(2);
    expect(next).toMatchObject({ port });
    expect(next.pid).not.toBe(pid);
    expect(supervisor.stderr[0]).toMatch(
      new RegExp(`the daemon ended \\(exit ${code}\\); it is started again in \\d+ ms`),
    );
  });

  test("an exit while no daemon runs is listed for the next", async () => {
    const supervisor = start();
    const { pid, port } = await supervisor.ready();
    const hosted = await spawnWorker(port, worker("w1"));
    process.kill(pid, "SIGSTOP");
    process.kill(hosted.pid, "SIGKILL");
    process.kill(pid, "SIGKILL");
    await supervisor.ready(2);
    const listed = await until("the exit is listed", async () => {
      const list = await callJson<HostedProcess[]>(port, "/list");
      return list[0]?.exit ? list : undefined;
    });
    expect(listed).toMatchObject([{ id: "w1", pid: hosted.pid, exit: { signal: "SIGKILL" } }]);
    await callJson(port, "/forget?id=w1");
    expect(await callJson(port, "/list")).toEqual([]);
  });

  test("bye ends the supervisor with the daemon", async () => {
    const supervisor = start();
    const { port } = await supervisor.ready();
    await callJson(port, "/bye");
    expect(await supervisor.ended).toMatchObject({ code: 0 });
  });

  test("a supervisor of another protocol is refused with the reason", async () => {
    const daemon = fork(DAEMON, { stdio: ["ignore", "ignore", "pipe", "ipc"], serialization: "advanced" });
    daemon.send({ kind: "hello", protocol: 99, config: {} });
    const [stderr, [code]] = await Promise.all([
      daemon.stderr ? text(daemon.stderr) : "",
      once(daemon, "exit"),
    ]);
    expect(code).not.toBe(0);
    expect(stderr).toContain("the supervisor speaks protocol 99, the daemon 1 to 1");
  });
});

describe("the supervisor's end", () => {
  test("SIGTERM drains, then stops workers, and leaves only private files", async () => {
    const supervisor = start();
    const { pid, port } = await supervisor.ready();
    const polite = await spawnWorker(port, worker("w1"));
    const deaf = await spawnWorker(port, worker("w2", "trap '' TERM; while :; do sleep 1; done"));
    const inFlight = callJson(port, "/wait?ms=300");
    await pause(100);
    supervisor.kill("SIGTERM");
    expect(await inFlight).toEqual({ pid });
    expect(await supervisor.ended).toMatchObject({ code: 0 });
    expect(supervisor.stdout).toContain(`draining ${pid}`);
    expect([pid, polite.pid, deaf.pid].filter(isAlive)).toEqual([]);
    for (const name of readdirSync(dataDir, { recursive: true, encoding: "utf8" })) {
      expect(`${name} ${(statSync(join(dataDir, name)).mode & 0o077).toString(8)}`).toBe(`${name} 0`);
    }
  });

  test("the second signal stops at once", async () => {
    const supervisor = start({ daemonConfig: { port: 0, stubborn: true } });
    const { pid, port } = await supervisor.ready();
    const hosted = await spawnWorker(port, worker("w1", "trap '' TERM; sleep 300"));
    supervisor.kill("SIGINT");
    await until("it drains", () => supervisor.stdout.includes(`draining ${pid}`));
    supervisor.kill("SIGINT");
    expect(await supervisor.ended).toMatchObject({ code: 130 });
    await until("all are gone", () => ![pid, hosted.pid].some(isAlive));
  });

  test("the end of standard input stops at once when asked to", async () => {
    const supervisor = start({ stopWithParent: true });
    const { pid, port } = await supervisor.ready();
    const hosted = await spawnWorker(port, worker("w1"));
    supervisor.process.stdin?.end();
    expect(await supervisor.ended).toMatchObject({ code: 0 });
    await until("all are gone", () => ![pid, hosted.pid].some(isAlive));
  });

  test("kill -9: the daemon ends by itself, the next start ends the workers left over", async () => {
    const supervisor = start();
    const { pid, port } = await supervisor.ready();
    const hosted = await spawnWorker(port, worker("w1", "sleep 300 & wait"));
    supervisor.kill("SIGKILL");
    await until("the daemon is gone", () => !isAlive(pid));
    expect(isAlive(hosted.pid)).toBe(true);
    const next = start({ daemonConfig: { port } });
    await next.ready();
    expect(isAlive(hosted.pid)).toBe(false);
    expect(next.stderr).toEqual(["rpx supervisor: ended what a supervisor before left running: w1"]);
    expect(await callJson(port, "/list")).toEqual([]);
  });

  test("a data directory that is no directory is refused with 4, missing settings with 2", async () => {
    const file = join(dataDir, "file");
    writeFileSync(file, "");
    const supervisor = start({ dataDir: file });
    expect(await supervisor.ended).toMatchObject({ code: 4 });
    expect(supervisor.stderr[0]).toBe(`Error: cannot use the data directory ${file}`);
  });
});
