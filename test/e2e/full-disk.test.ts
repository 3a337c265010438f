import { spawnSync } from "node:child_process";
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  rmSync,
  statfsSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually, type RealDaemon, startRealDaemon } from "../support/real-daemon.ts";
import { createFolder, type DeployedEndpoint, deploy, FIXTURES } from "./endpoint.ts";

/** A disk of its own, small enough to fill in a moment. */
const DISK_MIB = 200;
const MIN_FREE_BYTES = 20_000_000;
const RUNNING = 20;
const RESULT_BYTES = 200_000;
/** Four of these are more than the ballast of this disk, a twentieth of it, has room for. */
const LARGE = { count: 4, bytes: 5_000_000 } as const;

/** Only root mounts. CI runs as root, so that a skip there is a mistake. */
const isRoot = process.getuid?.() === 0;
if (!isRoot) console.warn("full-disk.test.ts is skipped: mounting a small disk needs root");

const disk = mkdtempSync(join(tmpdir(), "rpx-disk-"));
const filler = join(disk, "filler");
const gates = createFolder();
let daemon: RealDaemon;
let endpoint: DeployedEndpoint;
const statuses: number[] = [];

/** Fills the disk until so many bytes are free. */
function fill(leaveBytes: number): void {
  const file = openSync(filler, "a");
  const block = Buffer.alloc(256 * 1024);
  try {
    while (freeBytes() > leaveBytes)
      writeSync(file, block, 0, Math.max(1, Math.min(block.length, freeBytes() - leaveBytes)));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
  } finally {
    closeSync(file);
  }
}

function freeBytes(): number {
  const { bavail, bsize } = statfsSync(disk);
  return bavail * bsize;
}

async function submit(value: unknown) {
  const reply = await fetch(`${daemon.url}/v2/odd/run`, {
    method: "POST",
    headers: { authorization: `Bearer ${daemon.key}` },
    body: JSON.stringify({ input: { do: "echo", value } }),
  });
  statuses.push(reply.status);
  const body = (await reply.json()) as { id?: string; error?: string };
  return { ...body, status: reply.status, retryAfter: reply.headers.get("retry-after") };
}

async function until(status: number, what: string) {
  return eventually(
    async () => {
      const reply = await submit("probe");
      return reply.status === status && reply;
    },
    15_000,
    what,
  );
}

test.skipIf(isRoot || process.env.CI !== "true")("CI runs these tests as root", () => {
  expect(isRoot).toBe(true);
});

describe.skipIf(!isRoot)("a full disk", () => {
  beforeAll(async () => {
    const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", `size=${DISK_MIB}m`, "rpx-test", disk]);
    expect(mounted.status, String(mounted.stderr)).toBe(0);
    daemon = await startRealDaemon({
      dataDir: join(disk, "data"),
      config: { minFreeBytes: MIN_FREE_BYTES, logLevel: "info" },
    });
    endpoint = await deploy(
      daemon,
      "odd",
      { folder: FIXTURES, handler: "gates.py" },
      { workers: { min: 1, max: 1, idle_timeout: "60s" } },
    );
  });

  afterAll(async () => {
    const code = await daemon?.stop();
    spawnSync("umount", ["-l", disk]);
    rmSync(disk, { recursive: true, force: true });
    gates.remove();
    expect(code).toBe(0);
  });

  test("F-07, ACC-09: refuses new jobs, saves results of running ones, and goes on by itself", {
    timeout: 50_000,
  }, async () => {
    const gate = join(gates.path, "gate");
    const later = join(gates.path, "later");
    const last = join(gates.path, "last");
    const start = (path: string, count: number, bytes = RESULT_BYTES) =>
      Promise.all(Array.from({ length: count }, () => endpoint.submit({ do: "wait", path, bytes })));
    const first = await start(gate, 8);
    const second = await start(later, 8);
    const large = await start(last, LARGE.count, LARGE.bytes);
    await eventually(
      async () =>
        (await daemon.call("GET", "/v2/odd/health")).json<{ jobs: { inProgress: number } }>().jobs
          .inProgress === RUNNING,
      20_000,
      `${RUNNING} jobs run`,
    );
    const waiting = await submit("waited").then(({ id = "" }) => id);

    fill(MIN_FREE_BYTES / 2);
    const refused = await until(503, "new jobs are refused");
    expect(refused.error).toContain("disk");
    expect(Number(refused.retryAfter)).toBeGreaterThan(0);
    expect((await daemon.call("GET", "/api/status")).json<{ health: string }>().health).toContain("disk");
    writeFileSync(gate, "");
    for (const id of first) {
      const done = await endpoint.end(id);
      expect(done.status).toBe("COMPLETED");
      expect(String(done.output)).toHaveLength(RESULT_BYTES);
    }

    // To the last byte: nothing is left but what the daemon gives back.
    fill(0);
    expect(freeBytes()).toBeLessThan(5_000);
    expect((await submit("no room")).status).toBe(503);
    expect((await daemon.call("GET", "/v2/odd/health")).status).toBe(200);
    expect((await endpoint.status(first[0] ?? "")).status).toBe("COMPLETED");
    writeFileSync(later, "");
    for (const id of second) {
      const done = await endpoint.end(id);
      expect(done.status).toBe("COMPLETED");
      expect(String(done.output)).toHaveLength(RESULT_BYTES);
    }
    // And more than fits, whatever is given back: these results wait for room.
    writeFileSync(last, "");
    await eventually(async () => !existsSync(join(disk, "data/ballast")), 10_000, "the ballast is released");
    for (let n = 0; n < 20; n += 1) expect((await submit(n)).status).toBe(503);
    fill(0);
    const held = await Promise.all(large.map((id) => endpoint.status(id)));
    expect(held.map(({ status }) => status)).toContain("IN_PROGRESS");

    rmSync(filler);
    const accepted = await until(200, "new jobs are accepted again");
    expect(await endpoint.end(accepted.id ?? "")).toMatchObject({ status: "COMPLETED", output: "probe" });
    expect(await endpoint.end(waiting)).toMatchObject({ status: "COMPLETED", output: "waited" });
    for (const id of large) {
      const done = await endpoint.end(id);
      expect(done).toMatchObject({ status: "COMPLETED" });
      expect(done.retries, "kept from its first delivery").toBeUndefined();
      expect(String(done.output)).toHaveLength(LARGE.bytes);
    }
    expect(new Set(statuses)).toEqual(new Set([200, 503]));
    for (const id of [...first, ...second]) expect((await endpoint.status(id)).status).toBe("COMPLETED");
    expect(daemon.stderr()).not.toContain('"level":50');
    expect(daemon.stderr()).not.toContain("started again");
  });

  test("a daemon child that dies on a full disk comes back, reads, and goes on once there is room", {
    timeout: 50_000,
  }, async () => {
    const kept = await endpoint.run({ do: "echo", value: "kept" });
    const gate = join(gates.path, "full");
    const running = await endpoint.submit({ do: "wait", path: gate, bytes: 10 });
    await endpoint.until(running, ["IN_PROGRESS"]);
    fill(0);
    const pid = await daemon.childPid();
    process.kill(pid, "SIGKILL");
    await eventually(
      async () => (await daemon.childPid().catch(() => pid)) !== pid,
      10_000,
      "another child is started",
    );
    expect((await daemon.call("GET", "/healthz")).status).toBe(200);
    expect(await endpoint.status(kept.id)).toMatchObject({ status: "COMPLETED", output: "kept" });
    expect((await submit("no room")).status).toBe(503);
    writeFileSync(gate, "");
    rmSync(filler);
    expect(await endpoint.end(running)).toMatchObject({ status: "COMPLETED", output: "x".repeat(10) });
    await until(200, "new jobs are accepted again");
    expect(daemon.stderr().split("it is started again").length - 1, "started once").toBe(1);
  });
});
