/** What the Docker pool does beyond `test/conformance/worker-pool.ts`, with real containers of a real engine. */
import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { RpxError } from "../../src/contract/error.ts";
import { CAPABILITIES } from "../../src/runtime/adapters/docker/container-spec.ts";
import { freezerFiles } from "../../src/runtime/adapters/docker/freezer.ts";
import type { WorkerExit, WorkerStart } from "../../src/runtime/ports/worker-pool.ts";
import { until } from "../conformance/worker-pool.ts";
import { changeImage, craftImage, engineArchitecture } from "../support/engine/craft-image.ts";
import { dockerCommand, ensureImages, findEngine, NODE_IMAGE, skipAloud } from "../support/engine/engine.ts";
import { createTestPool, type TestPool } from "../support/engine/pool.ts";
import { watchEngine } from "../support/engine/watch.ts";
import { registryMissing, startRegistry, type TestRegistry } from "../support/registry.ts";

const isMissing = skipAloud(findEngine());
if (!isMissing) ensureImages([NODE_IMAGE]);
const MIB = 2 ** 20;

describe.skipIf(isMissing)("the Docker pool", { timeout: 60_000 }, () => {
  let made: TestPool;
  let crafted: string[] = [];

  beforeEach(async () => {
    made = await createTestPool();
  });
  afterEach(async () => {
    await made.close();
    for (const tag of crafted) dockerCommand("image", "rm", "--force", tag);
    crafted = [];
  });

  /** An image's tag that goes with the test. */
  function tagFor(name: string): string {
    const tag = `rpx-test-${process.pid}:${name}`;
    crafted.push(tag);
    return tag;
  }

  const linesOf = async ({ endpointId, workerId }: WorkerStart) =>
    (await made.logs.read({ endpointId, workerId, tail: 50_000 })).map(({ line }) => line);
  const printed = (worker: WorkerStart, text: string) =>
    until(`${worker.workerId} prints ${text}`, async () => (await linesOf(worker)).includes(text));
  const exitOf = async ({ workerId }: WorkerStart): Promise<WorkerExit> => {
    await until(`${workerId} ends`, () => made.exits.has(workerId));
    return made.exits.get(workerId) as WorkerExit;
  };
  const listed = async ({ workerId }: WorkerStart) =>
    (await made.pool.list()).find((each) => each.workerId === workerId);

  /** A worker that has printed that it is up. */
  async function up(mode: string, options: Parameters<TestPool["worker"]>[1] = {}) {
    const worker = made.worker(mode, options);
    const id = await made.start(worker);
    await printed(worker, "up");
    return { ...worker, id };
  }

  describe("what a container is held to", () => {
    test("T-14, ACC-18: read back from inside", async () => {
      const worker = await up("confinement", {
        limits: { memoryBytes: 256 * MIB, cpus: 1.5, pids: 99, shmBytes: 32 * MIB },
      });
      const seen = JSON.parse((await linesOf(worker))[0] ?? "null");
      const allowed = CAPABILITIES.reduce((mask, name) => mask | (1n << BigInt(CAPABILITY_BITS[name])), 0n);
      expect(BigInt(`0x${seen.CapEff}`) & ~allowed).toBe(0n);
      expect(BigInt(`0x${seen.CapBnd}`)).toBe(allowed);
      expect(seen).toMatchObject({ NoNewPrivs: "1", Seccomp: "2", pids: "99", shm: String(32 * 1024) });
      expect(seen).toMatchObject({
        memory: String(256 * MIB),
        openFiles: ["16384", "16384"],
        coreFile: ["0", "0"],
      });
      expect(seen.memoryAndSwap === undefined ? seen.swap : seen.memoryAndSwap).toSatisfy(
        (text?: string) => text === undefined || text === String(256 * MIB) || text === "0",
      );
      expect(seen.cpu).toMatch(/^150000( 100000)?$/);
      expect(seen).toMatchObject({ first: "/sbin/docker-init", socket: false, devices: false });
      expect(seen.cgroup).not.toContain(worker.id);
    });

    test("T-13: an image's hostile variables and labels do not get through", async () => {
      const image = changeImage(tagFor("hostile"), NODE_IMAGE, [
        "ENV LD_PRELOAD=./evil.so LD_LIBRARY_PATH=/usr/lib:. NVIDIA_DRIVER_CAPABILITIES=all MINE=1",
        "LABEL rpx.daemon=other rpx.role=holder rpx.worker=w-other theirs=1",
      ]);
      const program =
        'for (const pair of Object.entries(process.env)) console.log(pair.join("=")); console.log("up"); setInterval(Date, 1e6)';
      const built = { image, command: ["node", "-e", program] };
      const worker = await up("", { built, env: { LD_AUDIT: "x", OWN: "$ID a=b" } });
      const env = (await linesOf(worker)).join("\n");
      expect(env).toContain("MINE=1");
      expect(env).toContain("OWN=$ID a=b");
      expect(env).toContain("LD_LIBRARY_PATH=/usr/lib\n");
      expect(env).toContain("NVIDIA_DRIVER_CAPABILITIES=compute,utility");
      expect(env).not.toMatch(/LD_PRELOAD|LD_AUDIT/);
      const labels = JSON.parse(dockerCommand("inspect", "--format", "{{json .Config.Labels}}", worker.id));
      expect(labels).toMatchObject({ "rpx.daemon": made.daemonId, "rpx.role": "worker", theirs: "1" });
      expect(labels).toMatchObject({
        "rpx.worker": worker.workerId,
        "rpx.endpoint": "ep1",
        "rpx.release": "1",
      });
    });
  });

  describe("F-14: memory", () => {
    test("a worker that outgrows its limit is told to have run out of memory", async () => {
      const worker = made.worker("hog", { limits: { memoryBytes: 96 * MIB } });
      await made.start(worker);
      expect(await exitOf(worker)).toMatchObject({
        signal: "SIGKILL",
        cause: "oom",
        reason: "ran out of memory: its limit is 96 MiB",
      });
    });

    test("also where only a process that it started was ended", async () => {
      const worker = made.worker("child-hog", { limits: { memoryBytes: 160 * MIB } });
      await made.start(worker);
      expect(await exitOf(worker)).toMatchObject({
        cause: "oom",
        reason: expect.stringContaining("160 MiB"),
      });
    });

    test("also before its start is over: a fast worker has its job by then", async () => {
      let oom: (container: string) => Promise<unknown> = async () => {};
      const network = { onContainerStarted: (container: string) => oom(container).then(() => {}) };
      made = await replace(await createTestPool({ network }));
      const watch = watchEngine(`rpx.daemon=${made.daemonId}`);
      try {
        oom = (container) =>
          until("the kernel ends the child", () => watch.first(container, ["oom"]) !== undefined);
        const worker = made.worker("child-hog", { limits: { memoryBytes: 160 * MIB } });
        await made.start(worker);
        expect(await exitOf(worker)).toMatchObject({ signal: "SIGKILL", cause: "oom" });
      } finally {
        watch.close();
      }
    });
  });

  describe("F-17: what people do by hand", () => {
    test.each([
      ["stopped or removed", ["rm", "--force"]],
      ["stopped or removed", ["stop", "--time", "1"]],
      ["stopped or removed", ["kill"]],
      ["paused", ["pause"]],
      ["stopped or removed", ["restart", "--time", "0"]],
    ])("%s: docker %j", async (what, command) => {
      const worker = await up("wait");
      await dockerLater(...command, worker.id);
      const exit = await exitOf(worker);
      expect(exit).toMatchObject({ cause: "removed", reason: `its container was ${what} by hand` });
      await made.pool.forget(worker.workerId);
      expect(dockerCommand("ps", "--all", "--quiet", "--no-trunc")).not.toContain(worker.id);
    });

    test("a frozen one that somebody stops hears it", async () => {
      const worker = await up("graceful");
      await made.pool.park(worker.workerId, "frozen");
      await dockerLater("stop", "--time", "10", worker.id);
      expect(await exitOf(worker)).toMatchObject({ cause: "removed", code: 0 });
    });

    test("a sleeping one that somebody removes is told as removed", async () => {
      const worker = await up("graceful");
      await made.pool.park(worker.workerId, "stopped");
      dockerCommand("rm", "--force", worker.id);
      expect(await exitOf(worker)).toMatchObject({ cause: "removed" });
    });
  });

  describe("sleep", () => {
    test("frozen by the kernel: the engine still calls it running", async () => {
      const worker = await up("ticks");
      await made.pool.park(worker.workerId, "frozen");
      expect(statusOf(worker.id)).toBe("running");
      expect(await listed(worker)).toMatchObject({ asleep: "frozen", exit: null });
      made = await made.restarted();
      expect(await listed(worker)).toMatchObject({ asleep: "frozen", exit: null });
      await made.pool.kill(worker.workerId);
      expect(await exitOf(worker)).toMatchObject({ signal: "SIGKILL", reason: "killed by rpx" });
    });

    test("thawed by the kernel in the turn in which it is woken: a commit holds up the next one", async () => {
      const worker = await up("graceful");
      const pid = dockerCommand("inspect", "--format", "{{.State.Pid}}", worker.id);
      const [groups = "", mounts = ""] = [`/proc/${pid}/cgroup`, "/proc/self/mountinfo"].map((file) =>
        readFileSync(file, "utf8"),
      );
      const files = freezerFiles(groups, mounts, worker.id);
      const control = () => readFileSync(files?.control ?? "", "utf8").trim();
      await made.pool.park(worker.workerId, "frozen");
      expect(control()).toBe(files?.frozen);
      const woken = made.pool.wake(worker.workerId);
      expect(await new Promise((resolve) => setImmediate(() => resolve(control())))).toBe(files?.thawed);
      await woken;
    });

    test("frozen by the engine, where the kernel's freezer is out of reach", async () => {
      made = await replace(await createTestPool({ withoutFreezer: true }));
      const worker = await up("graceful");
      await made.pool.park(worker.workerId, "frozen");
      expect(statusOf(worker.id)).toBe("paused");
      made = await made.restarted();
      expect(await listed(worker)).toMatchObject({ asleep: "frozen", exit: null });
      await made.pool.wake(worker.workerId);
      expect(statusOf(worker.id)).toBe("running");
      await made.pool.park(worker.workerId, "frozen");
      await made.pool.stop(worker.workerId);
      expect(await exitOf(worker)).toMatchObject({ code: 0, reason: "stopped by rpx" });
    });

    test("stopped: the container and its files are kept, also by a daemon that has just started", async () => {
      const worker = await up("graceful");
      await made.pool.park(worker.workerId, "frozen");
      await made.pool.park(worker.workerId, "stopped");
      expect(statusOf(worker.id)).toBe("exited");
      made = await made.restarted();
      expect(await listed(worker)).toMatchObject({ asleep: "stopped", exit: null, handle: worker.id });
      await made.pool.wake(worker.workerId);
      await until(
        "it is up again",
        async () => (await linesOf(worker)).filter((line) => line === "up").length === 2,
      );
      expect(await listed(worker)).toMatchObject({ asleep: null, exit: null });
      await made.pool.park(worker.workerId, "stopped");
      await made.pool.kill(worker.workerId);
      expect(await exitOf(worker)).toMatchObject({ signal: "SIGKILL", reason: "killed by rpx" });
      await made.pool.forget(worker.workerId);
      expect(await made.pool.list()).toEqual([]);
    });
  });

  describe("output", () => {
    test("nothing twice and nothing left out over restarts of the daemon", async () => {
      const worker = await up("count");
      for (let restarts = 0; restarts < 3; restarts += 1) {
        const before = (await linesOf(worker)).length;
        await until("more lines come", async () => (await linesOf(worker)).length > before + 50);
        made = await made.restarted();
        await made.pool.list();
      }
      await until("more lines come", async () => (await linesOf(worker)).length > 500);
      const lines = await linesOf(worker);
      const numbers = lines.filter((line) => line.startsWith("o")).map((line) => Number(line.slice(1)));
      expect(numbers).toEqual(numbers.map((_, index) => index + 1));
      const errors = lines.filter((line) => line.startsWith("e")).map((line) => Number(line.slice(1)));
      expect(errors).toEqual(errors.map((_, index) => (index + 1) * 2));
    });

    test("a line over 16 KiB is cut and says so", async () => {
      const worker = await up("long");
      const [long, after] = await linesOf(worker);
      expect(long).toMatch(/^x{16384} \[line cut: 23616 bytes dropped\]$/);
      expect(after).toBe("after");
    });
  });

  describe("starts", () => {
    test("F-13: a program that is not there ends with a reason", async () => {
      const worker = made.worker("", { built: { command: ["/nonexistent/program"] } });
      await made.start(worker);
      expect((await exitOf(worker)).reason).toMatch(
        /^its program could not be run: .*\/nonexistent\/program/,
      );
    });

    test("an image for another processor is refused before the start", async () => {
      const image = craftImage(tagFor("foreign"), "s390x");
      const worker = made.worker("", { built: { image, reference: "foreign:1" } });
      await expect(made.start(worker)).rejects.toMatchObject({
        message: "the image foreign:1 cannot run here",
        why: expect.stringMatching(/^it is for linux\/s390x, this engine runs linux\//),
      });
      expect(await made.pool.list()).toEqual([]);
    });

    test("one that is given up leaves nothing behind, at each step", async () => {
      for (const phase of ["create", "boot"]) {
        const giveUp = new AbortController();
        const worker = made.worker("wait");
        const starting = made.pool.start(
          worker,
          (at) => at.phase === phase && giveUp.abort(new Error("given up")),
          giveUp.signal,
        );
        await expect(starting).rejects.toThrow("given up");
        await until("no container is left", () => !dockerCommand("ps", "--all").includes(worker.workerId));
        expect(await made.pool.list()).toEqual([]);
      }
      expect(made.exits.size).toBe(0);
    });

    test("one that runs already when its start fails leaves nothing behind", async () => {
      const refuses = async (): Promise<never> => {
        expect(dockerCommand("ps", "--filter", `label=rpx.daemon=${made.daemonId}`, "--quiet")).not.toBe("");
        throw new RpxError("unavailable", "no rules for it");
      };
      made = await replace(await createTestPool({ network: { onContainerStarted: refuses } }));
      await expect(made.start(made.worker("wait"))).rejects.toMatchObject({ message: "no rules for it" });
      expect(dockerCommand("ps", "--all", "--filter", `label=rpx.daemon=${made.daemonId}`, "--quiet")).toBe(
        "",
      );
    });

    test("T-12: a folder that would show the host to the worker is refused", async () => {
      for (const source of ["/", "/etc", "/proc/1", "/var/run", "/root", "/var/lib/docker"]) {
        const built = { mounts: [{ source, target: "/seen", readOnly: true }] };
        await expect(made.start(made.worker("wait", { built })), source).rejects.toMatchObject({
          code: "forbidden",
        });
      }
    });

    test("a missing image is pulled by its digest, and the percent grows", async () => {
      expect(registryMissing()).toBe(null);
      const registry = await startRegistry();
      try {
        const image = await pushed(registry);
        const phases: unknown[] = [];
        const worker = made.worker("", { built: { image } });
        await made.pool.start(worker, (phase) => phases.push(phase), new AbortController().signal);
        expect(phases[0]).toEqual({ phase: "pull", percent: null });
        expect(phases).toContainEqual({ phase: "pull", percent: 100 });
        expect(phases.slice(-2)).toEqual([{ phase: "create" }, { phase: "boot" }]);
        const gone = { image: `${registry.host}/pulled@sha256:${"1".repeat(64)}`, reference: "pulled:2" };
        await expect(made.start(made.worker("", { built: gone }))).rejects.toMatchObject({
          code: "not_found",
          message: expect.stringMatching(/^cannot pull .*\/pulled \(sha256:1/),
        });
      } finally {
        await registry.stop();
      }
    });

    test("a private registry's image is pulled with its login, and not without", async () => {
      expect(registryMissing()).toBe(null);
      const user = { username: "ada", password: "canary" };
      const registry = await startRegistry(user);
      const config = mkdtempSync(path.join(tmpdir(), "rpx-docker-config-"));
      try {
        execFileSync(
          "docker",
          ["--config", config, "login", "--username=ada", "--password-stdin", registry.host],
          {
            input: user.password,
            stdio: ["pipe", "pipe", "pipe"],
          },
        );
        const image = await pushed(registry, ["--config", config]);
        made = await replace(
          await createTestPool({
            logins: {
              mine: { ...user, name: "mine", server: registry.host },
              wrong: { ...user, name: "wrong", password: "x", server: registry.host },
            },
          }),
        );
        const start = (name: string | null) =>
          made.start(made.worker("", { built: { image, registry: name } }));
        for (const name of [null, "wrong", "unknown"]) {
          const failure = await start(name).catch((error: RpxError) => error);
          expect(failure).toBeInstanceOf(RpxError);
          expect(JSON.stringify(failure)).not.toContain("canary");
        }
        await start("mine");
      } finally {
        rmSync(config, { recursive: true });
        await registry.stop();
      }
    });
  });

  /** An image by its digest in a registry that alone has it. */
  async function pushed(registry: TestRegistry, options: readonly string[] = []): Promise<string> {
    const id = craftImage(tagFor("pulled"), engineArchitecture());
    const name = `${registry.host}/pulled`;
    dockerCommand("tag", id, `${name}:1`);
    dockerCommand(...options, "push", `${name}:1`);
    const image = `${name}@${await registry.digestOf("pulled", "1")}`;
    dockerCommand("image", "rm", "--force", id);
    crafted = [image];
    return image;
  }

  test("a worker that outgrows its disk is ended with the size it had", async () => {
    const worker = made.worker("disk", { limits: { diskBytes: 32 * MIB } });
    await made.start(worker);
    const { reason, cause } = await exitOf(worker);
    expect(cause).toBe("disk");
    expect(reason).toMatch(/^wrote more than its disk limit: \d+ MiB, the limit is 32 MiB$/);
  });

  /** Another pool in place of the one that was made for the test. */
  async function replace(other: TestPool): Promise<TestPool> {
    await made.close();
    return other;
  }
});

/** While the pool goes on in this process. */
async function dockerLater(...args: string[]): Promise<void> {
  await promisify(execFile)("docker", args);
}

function statusOf(id: string): string {
  return dockerCommand("inspect", "--format", "{{.State.Status}}", id);
}

/** Bits of the kernel's masks (capabilities(7)). */
const CAPABILITY_BITS: Readonly<Record<(typeof CAPABILITIES)[number], number>> = {
  ...{ CHOWN: 0, DAC_OVERRIDE: 1, FOWNER: 3, FSETID: 4, KILL: 5, SETGID: 6, SETUID: 7, NET_BIND_SERVICE: 10 },
};
