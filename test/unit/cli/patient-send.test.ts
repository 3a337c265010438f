import { spawn } from "node:child_process";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { BIN, createSandbox, type Sandbox } from "../../commands/support/rpx.ts";
import { type StandInDaemon, startStandIn } from "../../commands/support/stand-in-daemon.ts";

/** Runs a command in a terminal of its own, and copies what it shows. */
const IN_TERMINAL = `import os, pty, sys
sized = ["sh", "-c", 'stty cols 120 rows 24; exec "$@"', "sh"]
sys.exit(os.waitstatus_to_exitcode(pty.spawn(sized + sys.argv[1:])))`;

let sandbox: Sandbox;
let daemon: StandInDaemon;

beforeAll(() => {
  sandbox = createSandbox();
});
afterAll(() => sandbox?.remove());
beforeEach(async () => {
  daemon = await startStandIn();
});
afterEach(() => daemon.close());

describe("a cold command", () => {
  test("outlasts a daemon that is away for a moment, and says so once", async () => {
    let looks = 0;
    daemon.on("GET /api/endpoints", (response) => {
      looks += 1;
      if (looks < 3) response.socket?.resetAndDestroy();
      else response.end("[]");
    });
    const { code, stdout, stderr } = await sandbox.rpx(["endpoint", "list", "--json", "--url", daemon.url]);
    expect({ code, stdout }).toEqual({ code: 0, stdout: "[]\n" });
    expect(stderr).toBe(
      `no daemon answers at ${daemon.url}: the connection was closed before an answer; trying again\n`,
    );
  });

  test("asks no proxy, whatever the environment says", async () => {
    const asked: (string | undefined)[] = [];
    const proxy = createServer((request, response) => {
      asked.push(request.url);
      response.end("[]");
    });
    await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
    daemon.on("GET /api/endpoints", { json: [] });
    const env = { NODE_USE_ENV_PROXY: "1", HTTP_PROXY: url, http_proxy: url, NO_PROXY: "", no_proxy: "" };
    const { code } = await sandbox.rpx(["endpoint", "list", "--url", daemon.url], { env });
    expect({ code, asked, seen: daemon.seen.length }).toEqual({ code: 0, asked: [], seen: 1 });
    proxy.close();
  });

  test("tells a person at a terminal what it waits for, and takes it back", async () => {
    let answer: (() => void) | undefined;
    daemon.on("GET /api/endpoints", (response) => {
      answer = () => response.end("[]");
    });
    const terminal = spawn("python3", ["-c", IN_TERMINAL, process.execPath, BIN, "endpoint", "list"], {
      env: { ...sandbox.env, RPX_URL: daemon.url },
    });
    let shown = "";
    for await (const part of terminal.stdout) {
      shown += String(part);
      if (shown.includes(`waiting for the daemon at ${daemon.url}`)) answer?.(); // without the words this never ends
    }
    const erased = "\u001b[1G\u001b[0K";
    expect(shown.lastIndexOf(erased)).toBeGreaterThan(shown.lastIndexOf("waiting for the daemon"));
  });
});
