import { execFile } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { daemonSettings, isLoopback, type ServeFlags } from "../../src/cli/serve/daemon-flags.ts";
import { RpxError } from "../../src/contract/error.ts";
import { DEFAULT_CONFIG } from "../../src/project/defaults.ts";
import { daemonConfigSchema } from "../../src/runtime/config.ts";
import { DEFAULT_SETTINGS, presentConfig } from "../../src/runtime/core/settings.ts";

const bin = fileURLToPath(new URL("../../bin/run.js", import.meta.url));
const run = promisify(execFile);
let scratch = "";

beforeEach(() => {
  scratch = realpathSync(mkdtempSync(join(tmpdir(), "rpx-serve-")));
});

afterEach(() => {
  rmSync(scratch, { recursive: true, force: true });
});

const FLAGS: ServeFlags = {
  host: "127.0.0.1",
  port: 7790,
  workerPort: 7791,
  pool: "auto",
  grace: "10s",
  insecureHttp: false,
  trustedCode: false,
  minFreeDisk: "1GB",
  logLevel: "info",
  stopWorkers: false,
};

function refusal(flags: Partial<ServeFlags>): RpxError {
  try {
    daemonSettings({ ...FLAGS, ...flags }, scratch);
  } catch (error) {
    if (error instanceof RpxError) return error;
    throw error;
  }
  throw new Error("not refused");
}

describe("T-01: what is open to other machines", () => {
  test.each(["0.0.0.0", "::", "192.168.1.5", "example.com"])("%s is refused without TLS", (host) => {
    const error = refusal({ host, trustedCode: true });
    expect(error.code).toBe("usage");
    expect(error.message).toContain(`--host ${host}`);
    expect(error.hint).toMatch(/--tls-cert.*--insecure-http/);
  });

  test.each(["auto", "process", "docker"])(
    "with TLS settled, the %s pool is refused without --trusted-code",
    (pool) => {
      expect(refusal({ host: "0.0.0.0", insecureHttp: true, pool }).hint).toContain("--trusted-code");
      const accepted = daemonSettings(
        { ...FLAGS, host: "0.0.0.0", insecureHttp: true, trustedCode: true, pool },
        scratch,
      );
      expect(accepted.host).toBe("0.0.0.0");
    },
  );

  test("loopback in all its spellings needs neither", () => {
    for (const host of [
      "127.0.0.1",
      "127.8.8.8",
      "localhost",
      "LOCALHOST",
      "::1",
      "[::1]",
      "0:0:0:0:0:0:0:1",
    ]) {
      expect(isLoopback(host), host).toBe(true);
    }
    for (const host of [
      "0.0.0.0",
      "::",
      "::ffff:10.0.0.1",
      "127.0.0.1.example.com",
      "localhost.example.com",
      "",
    ]) {
      expect(isLoopback(host), host).toBe(false);
    }
  });
});

describe("every refusal names its flag", () => {
  test.each<[Partial<ServeFlags>, string]>([
    [{ tlsCert: "cert.pem" }, "--tls-key"],
    [{ tlsKey: "key.pem" }, "--tls-cert"],
    [{ tlsCert: "/absent.pem", tlsKey: "/absent.pem" }, "--tls-cert"],
    [{ pool: "swarm" }, "--pool swarm"],
    [{ budgetCpus: "some" }, "--budget-cpus"],
    [{ budgetCpus: "0" }, "--budget-cpus"],
    [{ budgetMemory: "48G" }, "--budget-memory"],
    [{ budgetDisk: "0" }, "--budget-disk"],
    [{ workerUrl: "host.example:7791" }, "--worker-url"],
    [{ port: 9000, workerPort: 9000 }, "--worker-port"],
    [{ grace: "soon" }, "--grace"],
    [{ minFreeDisk: "much" }, "--min-free-disk"],
    [{ publicUrl: "ftp://host" }, "--public-url"],
    [{ python: "/absent/python" }, "--python"],
  ])("%o", (flags, flag) => {
    const error = refusal(flags);
    expect(error.code).toBe("usage");
    expect(error.message).toContain(flag);
  });

  test("a certificate that is none", () => {
    writeFileSync(join(scratch, "x.pem"), "no certificate");
    const path = join(scratch, "x.pem");
    expect(refusal({ tlsCert: path, tlsKey: path }).message).toContain("--tls-cert");
  });

  test("before the data directory is touched", async () => {
    const dataDir = join(scratch, "data");
    const refused = await run(process.execPath, [
      bin,
      "serve",
      "--host",
      "0.0.0.0",
      "--data-dir",
      dataDir,
    ]).catch((error: unknown) => error);
    expect(refused).toMatchObject({
      code: 2,
      stdout: "",
      stderr: expect.stringMatching(/^Error: --host 0\.0\.0\.0 .*\nwhy: .*\ntry: /),
    });
    expect(existsSync(dataDir)).toBe(false);
  });
});

test("F-36: a port in use is refused with its owner, before any data is there", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const dataDir = join(scratch, "data");
  try {
    for (const flag of ["--port", "--worker-port"]) {
      const ports = flag === "--port" ? ["--worker-port", "0"] : ["--port", "0"];
      const args = [bin, "serve", flag, String(port), ...ports, "--data-dir", dataDir];
      expect(await run(process.execPath, args).catch((error: unknown) => error)).toMatchObject({
        code: 6,
        stderr: expect.stringContaining(
          `Error: ${flag} ${port} is in use\nwhy: process ${process.pid} listens there`,
        ),
      });
    }
    expect(existsSync(dataDir)).toBe(false);
  } finally {
    server.close();
  }
});

test("--detach: prints the URL when the daemon answers; a second one is refused; SIGTERM ends it", async () => {
  const args = [bin, "serve", "--detach", "--pool", "process", "--port", "0", "--worker-port", "0"];
  args.push("--data-dir", scratch);
  const { stdout } = await run(process.execPath, [...args, "--json"]);
  const { url, pid } = JSON.parse(stdout) as { url: string; pid: number };
  try {
    expect((await fetch(`${url}/healthz`)).status).toBe(200);
    expect(await run(process.execPath, args).catch((error: unknown) => error)).toMatchObject({
      code: 6,
      stdout: "",
      stderr: expect.stringContaining(`process ${pid} holds`),
    });
  } finally {
    process.kill(pid, "SIGTERM");
  }
  const isThere = (): boolean => {
    try {
      return process.kill(pid, 0);
    } catch {
      return false;
    }
  };
  await expect.poll(isThere, { timeout: 10_000 }).toBe(false);
});

test("what is accepted is what the daemon reads", () => {
  const settings = daemonSettings(
    {
      ...FLAGS,
      ...{ pool: "docker", stopWorkers: true, budgetCpus: "3.5", budgetMemory: "48GiB" },
      ...{ publicUrl: "https://gpu.example/", rateLimits: false, workerUrl: "http://10.0.0.5:7791/" },
    },
    scratch,
  );
  expect(daemonConfigSchema.parse(settings)).toMatchObject({
    dataDir: scratch,
    graceMs: 10_000,
    minFreeBytes: 1e9,
    publicUrl: "https://gpu.example",
    rateLimits: false,
    pool: "docker",
    stopWorkers: true,
    budget: { cpus: 3.5, memoryBytes: 48 * 2 ** 30 },
    workerUrl: "http://10.0.0.5:7791",
  });
  expect(daemonConfigSchema.parse(daemonSettings(FLAGS, scratch)).budget).toBeUndefined();
});

test("the defaults that rpx dev sends are the daemon's own", () => {
  expect(presentConfig(DEFAULT_SETTINGS, {})).toEqual(DEFAULT_CONFIG);
});
