/** `rpx serve` by a user who is not root but may use the engine's socket, as a member of its group. */
import { chownSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ContainerDaemon, startContainerDaemon } from "../support/container-daemon.ts";
import { ensureImages, findEngine, NODE_IMAGE, PYTHON_IMAGE, skipAloud } from "../support/engine/engine.ts";
import { eventually } from "../support/real-daemon.ts";
import { attach } from "./endpoint.ts";

const LIMIT_MS = 120_000;
const WAIT_MS = 60_000;
/** nobody, who owns nothing and is in no group of this machine. */
const USER = 65_534;
const SOCKET = "/var/run/docker.sock";
const PARTIAL =
  /^workers cannot reach each other, but other ports of this machine and its networks: .*need root: sudo rpx serve/;

/** The command that becomes that user; the socket's group is its own. */
const AS_USER = (gid: number) =>
  ["setpriv", `--reuid=${USER}`, `--regid=${gid}`, "--clear-groups", "--inh-caps=-all"] as const;
const POOL_SUITE = "test/unit/runtime/docker/pool-conformance.test.ts";

const isMissing = skipAloud(
  process.platform === "linux" && process.getuid?.() === 0
    ? findEngine()
    : { missing: "to become a user of the docker group this needs Linux and root" },
);

describe.skipIf(isMissing)("a daemon of a user in the docker group", { timeout: LIMIT_MS }, () => {
  let on: ContainerDaemon;

  beforeAll(async () => {
    ensureImages([PYTHON_IMAGE, NODE_IMAGE]);
    const { gid } = statSync(SOCKET);
    on = await startContainerDaemon({
      command: AS_USER(gid),
      chown: (folder) => chownSync(folder, USER, gid),
    });
  }, 600_000);
  afterAll(() => on?.close());

  test("builds, runs jobs, and says with its reason that the isolation is partial", async () => {
    const endpoint = await on.create("plain", "1");
    expect(statSync(`/proc/${await on.daemon().childPid()}`).uid).toBe(USER);
    expect(await endpoint.run({ do: "nothing" })).toMatchObject({ status: "COMPLETED" });
    const partial = { isolation: "partial", isolationReason: expect.stringMatching(PARTIAL) };
    expect(await on.endpoint("plain")).toMatchObject(partial);
    expect(await endpoint.workers()).toMatchObject([partial]);
    await on.agree();
  });

  test("what every pool must do, the Docker pool does for this user too", async () => {
    const { gid } = statSync(SOCKET);
    const home = mkdtempSync(path.join(tmpdir(), "rpx-engine-user-"));
    chownSync(home, USER, gid);
    const [file, ...args] = AS_USER(gid);
    // The configuration is read in place: this user writes nothing into the checkout.
    const vitest = ["node_modules/vitest/vitest.mjs", "run", "--configLoader=native", POOL_SUITE];
    const { PATH = "", CI = "" } = process.env;
    const ran = await execa(file, [...args, process.execPath, ...vitest], {
      env: { PATH, CI, HOME: home },
      extendEnv: false,
      reject: false,
      all: true,
    });
    rmSync(home, { recursive: true, force: true });
    expect(ran.exitCode, ran.all).toBe(0);
    expect(ran.all).toMatch(/Tests .*\d+ passed/);
  });

  test("an idle worker is frozen by the engine's pause, where the kernel's freezer is not for it, and thawed", async () => {
    const endpoint = await on.create("sleeping", "1", { workers: { max: 1, idle_timeout: "1s" } });
    const first = await endpoint.run({ do: "nothing" });
    const asleep = await eventually(
      async () => (await endpoint.workers()).find(({ asleep: depth }) => depth === "frozen"),
      WAIT_MS,
      "the worker sleeps",
    );
    const isPaused = async () =>
      (await on.docker("inspect", "--format", "{{.State.Status}}", asleep.container ?? "")) === "paused";
    await eventually(isPaused, WAIT_MS, "the engine has paused it");
    expect(await endpoint.run({ do: "nothing" })).toMatchObject({
      workerId: first.workerId,
      output: { done: 2 },
    });
  });

  test("adopts its workers after a kill, busy and asleep", async () => {
    const endpoint = await on.create("kept", "1", { workers: { max: 2 } });
    const { id, worker } = await on.busy(endpoint);
    const sleeping = attach(on, "sleeping");
    const sleeper = async () => (await sleeping.workers()).find(({ asleep }) => asleep === "frozen");
    const before = await eventually(sleeper, WAIT_MS, "the other endpoint's worker sleeps again");
    await on.killChild();
    expect(await sleeper()).toMatchObject({ id: before.id, container: before.container });
    expect(await sleeping.run({ do: "nothing" })).toMatchObject({ workerId: before.id, output: { done: 3 } });
    await on.openGate(worker.container ?? "");
    expect(await endpoint.end(id, WAIT_MS)).toMatchObject({
      status: "COMPLETED",
      output: { worker: worker.id },
    });
    expect(await endpoint.detail(id)).toMatchObject({ attempts: 1 });
    await on.agree();
  });
});
