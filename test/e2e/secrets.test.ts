import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { BIN } from "../commands/support/rpx.ts";
import { eventually, type RealDaemon, startRealDaemon } from "../support/real-daemon.ts";
import { attach, createFolder, type DeployedEndpoint, deploy } from "./endpoint.ts";

// A canary goes the whole way: command, API, disk, worker, logs, errors, webhook. Nobody but the worker may see it.

const CANARY = 'canary-8d1f0c-quoth"raven"';
const PEM = "-----BEGIN CANARY-----\nbird-of-one-line\nbird-of-another\n-----END CANARY-----";
const SIGNING = "canary-that-signs-4b2e";
/** Any part of the three that must be nowhere. */
const TRACES = ["canary-8d1f0c", "bird-of-one-line", "bird-of-another", "canary-that-signs"];

const HANDLER = `
import json
import os
import sys

import runpod

print("starts with", os.environ["TOKEN"], flush=True)
if os.environ["TOKEN"].startswith("broken"):
    sys.exit("no access with " + os.environ["TOKEN"])

def handler(event):
    do = event["input"]["do"]
    if do == "print":
        print("raw", os.environ["TOKEN"])
        print(json.dumps({"token": os.environ["TOKEN"], "pem": os.environ["PEM"]}))
        print(os.environ["PEM"], file=sys.stderr, flush=True)
        print("own token", os.environ["RUNPOD_AI_API_KEY"], flush=True)
        return "printed"
    if do == "raise":
        raise ValueError("no access with " + os.environ["TOKEN"])
    return {name: os.environ[name] for name in ("TOKEN", "URL", "PLAIN")}

runpod.serverless.start({"handler": handler})
`;

const code = createFolder();
let daemon: RealDaemon;
let hello: DeployedEndpoint;

beforeAll(async () => {
  daemon = await startRealDaemon({ config: { logLevel: "debug" } });
});
afterAll(async () => {
  expect(await daemon.stop()).toBe(0);
  code.remove();
});

/** The command line as a user types it; what its process showed to others while it ran. */
async function rpx(args: readonly string[], stdin = "") {
  const env = { ...process.env, RPX_URL: daemon.url, RPX_API_KEY: daemon.key };
  const child = spawn(process.execPath, [BIN, ...args], { env });
  const seen = processText(child.pid ?? 0);
  child.stdin.end(stdin);
  const [stdout, stderr, [exitCode]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, "close"),
  ]);
  return { code: exitCode, stdout, stderr, seen: await seen };
}

async function processText(pid: number): Promise<string> {
  const parts = await Promise.all(
    ["cmdline", "environ"].map((name) => readFile(`/proc/${pid}/${name}`, "utf8").catch(() => "")),
  );
  return parts.join("\0");
}

function expectNoTrace(where: string, shown: string): void {
  for (const trace of TRACES) expect(shown.includes(trace), `${trace} in ${where}`).toBe(false);
}

/** All files below a folder but the workers' own logs, which hold what they printed, as they printed it. */
function files(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => join(parentPath, name))
    .filter((path) => !path.startsWith(join(folder, "logs/")));
}

const api = async (path: string) => (await daemon.call("GET", path)).text;

describe("a secret on its way (T-24)", () => {
  test("is set from standard input, and shown by nobody", async () => {
    const shown = [
      await rpx(["secret", "set", "token"], `${CANARY}\n`),
      await rpx(["secret", "set", "PEM_file", "--json"], PEM),
      await rpx(["secret", "set", "hook"], SIGNING),
      await rpx(["secret", "list"]),
      await rpx(["secret", "list", "--json"]),
    ];
    for (const { code, stdout, stderr, seen } of shown) {
      expect(code, stderr).toBe(0);
      expectNoTrace("a command", stdout + stderr + seen);
    }
    expect(JSON.parse(shown[4]?.stdout ?? "").map(({ name }: { name: string }) => name)).toEqual([
      "PEM_file",
      "hook",
      "token",
    ]);
  });

  test("reaches the worker: a value, a part of one, many lines", async () => {
    const env = {
      TOKEN: "secret:token",
      PEM: "{{ RUNPOD_SECRET_PEM_file }}",
      URL: "https://u:{{RUNPOD_SECRET_token}}@host",
      PLAIN: "plain",
    };
    const folder = code.write({ "handler.py": HANDLER });
    const config = { env, workers: { max: 1, idle_timeout: "60s" }, webhook: { secret: "secret:hook" } };
    hello = await deploy(daemon, "hello", { folder, handler: "handler.py" }, config);
    const { output } = await hello.run({ do: "return" });
    expect(output).toEqual({ TOKEN: CANARY, URL: `https://u:${CANARY}@host`, PLAIN: "plain" });
    const shown = await rpx(["endpoint", "get", "hello", "--json"]);
    expect(JSON.parse(shown.stdout).config).toMatchObject({ env, webhook: { secret: "secret:hook" } });
    expectNoTrace("endpoint get", shown.stdout);
  });

  test("is redacted in logs, read and followed, and in a failed job's error", async () => {
    await hello.run({ do: "print" });
    const failed = await hello.run({ do: "raise" });
    expect(failed.error).toContain("no access with [redacted]");
    const lines = await eventually(
      async () => {
        const { stdout } = await rpx(["endpoint", "logs", "hello", "-n", "100"]);
        return stdout.includes("own token") && stdout;
      },
      15_000,
      "the lines are there",
    );
    for (const line of [
      "starts with [redacted]",
      "raw [redacted]",
      '{"token": "[redacted]", "pem": "[redacted]"}',
    ])
      expect(lines).toContain(line);
    expect(lines).toContain("own token [redacted]");
    const { id = "" } = (await hello.workers())[0] ?? {};
    for (const path of [
      "/api/endpoints/hello/logs?tail=1000",
      `/api/workers/${id}/logs?tail=1000`,
      `/api/endpoints/hello/logs?grep=${encodeURIComponent(TRACES[0] ?? "")}`,
      "/api/jobs",
      `/api/jobs/${failed.id}`,
      `/v2/hello/status/${failed.id}`,
      "/api/endpoints",
      "/api/workers?all=1",
      "/api/secrets",
    ])
      expectNoTrace(path, await api(path));
    expectNoTrace("endpoint logs", lines);
  });

  test("signs a webhook, whose body does not hold it", async () => {
    const posts: { readonly signature: unknown; readonly signed: string }[] = [];
    const receiver = createServer(async (request, response) => {
      const { headers } = request;
      const signed = `${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${await text(request)}`;
      posts.push({ signature: headers["webhook-signature"], signed });
      response.end();
    });
    await new Promise<void>((resolve) => receiver.listen(0, "127.0.0.1", resolve));
    const { port } = receiver.address() as AddressInfo;
    await hello.submit({ do: "raise" }, { webhook: `http://127.0.0.1:${port}/` });
    await eventually(async () => posts.length > 0, 15_000, "the webhook arrives");
    const [post] = posts;
    const signature = createHmac("sha256", SIGNING)
      .update(post?.signed ?? "")
      .digest("base64");
    expect(post?.signature).toBe(`v1,${signature}`);
    expectNoTrace("the webhook", post?.signed ?? "");
    receiver.close();
  });

  test("stays redacted after a change; the new worker has the new value, and dies with it unseen", async () => {
    const [before] = await hello.workers();
    const changed = await rpx(["secret", "set", "token"], "broken-canary-8d1f0c");
    expect(changed.stdout).toBe("secret token is changed\n");
    expect(changed.stderr).toContain(`rpx worker stop ${before?.id}`);
    expectNoTrace("logs of before", await api("/api/endpoints/hello/logs?tail=1000"));
    await rpx(["worker", "stop", before?.id ?? "", "--yes"]);
    await hello.submit({ do: "return" });
    const reason = await eventually(
      async () => {
        const workers = await api("/api/workers?all=1&endpoint=hello");
        return workers.includes("no access with") && workers;
      },
      30_000,
      "a worker has ended with the new value",
    );
    expect(reason).toContain("no access with [redacted]");
    expectNoTrace("workers", reason);
    expectNoTrace("logs of after", await api("/api/endpoints/hello/logs?tail=1000"));
  });

  test("a daemon that takes over, and one that is killed, know it still", async () => {
    const first = await daemon.childPid();
    daemon.signal("SIGHUP");
    const isAnother = async () => (await daemon.childPid().catch(() => first)) !== first;
    await eventually(isAnother, 20_000, "another daemon");
    expect((await rpx(["secret", "set", "token"], CANARY)).code).toBe(0);
    process.kill(await daemon.childPid(), "SIGKILL");
    const again = attach(daemon, "hello");
    const { output } = await eventually(
      async () => {
        const body = await again.run({ do: "return" }).catch(() => null);
        return body?.status === "COMPLETED" && body;
      },
      60_000,
      "a job after the kill",
    );
    expect(output).toMatchObject({ TOKEN: CANARY });
  });

  test("is nowhere on the disk but sealed, and nowhere in the processes but the worker's", async () => {
    // An output holds what the handler gave away: the jobs that returned it are not what is looked at here.
    const database = files(daemon.dataDir).filter((path) => /rpx\.db/.test(path));
    expect(database.length).toBeGreaterThan(0);
    for (const path of files(daemon.dataDir)) {
      const { mode } = statSync(path);
      expect(mode & 0o077, path).toBe(0);
      const bytes = readFileSync(path, "latin1");
      for (const trace of ["bird-of-one-line", "bird-of-another", "canary-that-signs", "broken-canary"])
        expect(bytes.includes(trace), `${trace} in ${path}`).toBe(false);
    }
    for (const pid of [daemon.supervisorPid, await daemon.childPid()])
      expectNoTrace(`process ${pid}`, await processText(pid));
    expectNoTrace("the daemon's log", daemon.stderr());
    const events = await firstEvents();
    expect(events).toContain("secret.set");
    expectNoTrace("the journal", events);
  });

  test("is not taken away from an endpoint by accident, and its next start says what is missing", async () => {
    const refused = await rpx(["secret", "unset", "token", "--yes"]);
    expect([refused.code, refused.stdout]).toEqual([6, ""]);
    expect(refused.stderr).toContain('Error: secret "token" is in use');
    expect((await rpx(["secret", "unset", "token", "--yes", "--force"])).code).toBe(0);
    const create = await daemon.call("PATCH", "/api/endpoints/hello", {
      config: { env: { TOKEN: "secret:token" } },
    });
    expect([create.status, create.json()]).toMatchObject([
      400,
      { error: 'variable TOKEN asks for secret "token", which is not set' },
    ]);
    const [worker] = await hello.workers();
    await rpx(["worker", "stop", worker?.id ?? "", "--yes"]);
    await hello.submit({ do: "return" });
    await eventually(
      async () =>
        (await api("/api/endpoints/hello")).includes('asks for secret \\"token\\", which is not set'),
      30_000,
      "the failed start says why",
    );
    expectNoTrace("logs at the end", await api("/api/endpoints/hello/logs?tail=1000"));
  });
});

/** The journal from its beginning, as far as it is sent at once. */
async function firstEvents(): Promise<string> {
  const leaving = new AbortController();
  const reply = await fetch(`${daemon.url}/api/events?after=0`, {
    headers: { authorization: `Bearer ${daemon.key}` },
    signal: leaving.signal,
  });
  let shown = "";
  for await (const part of reply.body ?? []) {
    shown += Buffer.from(part).toString();
    if (shown.includes(": waiting")) break;
  }
  leaving.abort();
  return shown;
}
