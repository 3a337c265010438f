import { spawn } from "node:child_process";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { BIN, createSandbox, type Sandbox } from "./support/rpx.ts";
import { type StandInDaemon, startStandIn } from "./support/stand-in-daemon.ts";

const ON_TERMINAL = join(import.meta.dirname, "../fixtures/commands/on-terminal.py");
const STORED = {
  name: "hf_token",
  owner: "ada",
  createdAt: "2030-01-01T00:00:00.000Z",
  updatedAt: "2030-01-01T00:00:00.000Z",
  endpoints: ["hello"],
  outcome: "created",
  workers: [],
};

let sandbox: Sandbox;
let daemon: StandInDaemon;
let env: NodeJS.ProcessEnv;

beforeAll(async () => {
  sandbox = createSandbox();
  daemon = await startStandIn();
  daemon.on("PUT /api/secrets/hf_token", { json: STORED });
  env = { RPX_URL: daemon.url, RPX_API_KEY: "rpxk_any" };
});
afterEach(() => void daemon.seen.splice(0));
afterAll(async () => {
  await daemon.close();
  sandbox.remove();
});

const rpx = (args: readonly string[], stdin?: string) =>
  sandbox.rpx(args, { env, ...(stdin !== undefined && { stdin }) });
const sent = () => daemon.seen.map(({ body }) => JSON.parse(body));

describe("secret set", () => {
  test.each([
    ["hunter2", "hunter2"],
    ["hunter2\n", "hunter2"],
    ["hunter2\n\n", "hunter2\n"],
    [" two\nlines \r\n", " two\nlines \r"],
    ["\ufeffwith a mark", "\ufeffwith a mark"],
    ['"ü" \\ \u0001', '"ü" \\ \u0001'],
  ])("sends standard input byte for byte, one newline dropped: %j", async (stdin, value) => {
    const { code, stdout, stderr } = await rpx(["secret", "set", "hf_token"], stdin);
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: "secret hf_token is set\n", stderr: "" });
    expect(sent()).toEqual([{ value }]);
  });

  test.each([
    ["nothing", "", "the value is empty"],
    ["a newline alone", "\n", "the value is empty"],
    ["more than 64 KiB", "x".repeat(65_537), "the value is over 65536 bytes"],
  ])("refuses %s before it asks a daemon", async (_, stdin, message) => {
    const { code, stdout, stderr } = await rpx(["secret", "set", "hf_token"], stdin);
    expect([code, stdout]).toEqual([2, ""]);
    expect(stderr).toContain(`Error: ${message}`);
    expect(daemon.seen).toEqual([]);
  });

  test("refuses what is no text", async () => {
    const child = sandbox.spawn(["secret", "set", "hf_token"], env);
    child.stdin.end(Buffer.from([0x61, 0xff, 0xfe]));
    const [stderr, code] = await Promise.all([
      text(child.stderr),
      new Promise((resolve) => child.once("close", resolve)),
    ]);
    expect(code).toBe(2);
    expect(stderr).toContain("why: a variable of a worker holds text");
  });

  test("takes no value as an argument or a flag, and does not repeat it", async () => {
    for (const args of [["hunter2"], ["--value", "hunter2"]]) {
      const { code } = await rpx(["secret", "set", "hf_token", ...args], "x");
      expect(code).toBe(2);
    }
    expect(daemon.seen).toEqual([]);
  });

  test("says on stderr which workers keep the old value; --json is one document", async () => {
    daemon.on("PUT /api/secrets/changed", {
      json: { ...STORED, name: "changed", outcome: "changed", workers: ["w1", "w2"] },
    });
    const plain = await rpx(["secret", "set", "changed", "--owner", "ada"], "new");
    expect(plain.stdout).toBe("secret changed is changed\n");
    expect(plain.stderr).toBe(
      "workers of hello keep the old value until they are replaced; others take their place:\nrpx worker stop w1\nrpx worker stop w2\n",
    );
    expect(sent()).toEqual([{ value: "new", owner: "ada" }]);
    const { stdout, stderr } = await rpx(["secret", "set", "changed", "--json"], "new");
    expect([JSON.parse(stdout).workers, stderr]).toEqual([["w1", "w2"], ""]);
  });

  test("asks on a terminal and does not show what is typed; Ctrl-C is exit 130", async () => {
    const { shown, code } = await onTerminal("hunt\u007fter2 ü\r");
    expect(code, shown).toBe(0);
    expect(shown).toContain("secret hf_token is set");
    expect(shown).not.toContain("hun");
    expect(sent()).toEqual([{ value: "hunter2 ü" }]);
    expect((await onTerminal("hunter2\u0003")).code).toBe(130);
    expect(daemon.seen).toHaveLength(1);
  });

  test("a terminal that says no width shows no spinner, and keeps nobody waiting", async () => {
    daemon.on("PUT /api/secrets/hf_token", (response) => {
      setTimeout(() => response.end(JSON.stringify(STORED)), 300);
    });
    const { shown, code } = await onTerminal("hunter2\r", 0);
    expect(code, shown).toBe(0);
    expect(shown).toContain("secret hf_token is set");
  });
});

/** `secret set` on a terminal, with what is typed there once it asks. */
async function onTerminal(typed: string, columns = 80): Promise<{ shown: string; code: unknown }> {
  const command = [process.execPath, BIN, "secret", "set", "hf_token"];
  const child = spawn("python3", [ON_TERMINAL, String(columns), "value of hf_token: ", typed, ...command], {
    env: { ...sandbox.env, ...env },
    cwd: sandbox.folder,
    stdio: ["ignore", "pipe", "inherit"],
    timeout: 15_000,
  });
  const closed = new Promise((resolve) => child.once("close", resolve));
  return { shown: await text(child.stdout), code: await closed };
}

test("secret list shows names, never a value", async () => {
  const { outcome: _, workers: __, ...secret } = STORED;
  daemon.on("GET /api/secrets", { json: [secret] });
  const { stdout } = await rpx(["secret", "list"]);
  expect(stdout).toMatch(/^NAME +OWNER +AGE +CHANGED +ENDPOINTS\nhf_token +ada +\S+ +- +hello\n$/);
  expect(JSON.parse((await rpx(["secret", "list", "--json"])).stdout)).toEqual([secret]);
  daemon.on("GET /api/secrets", { json: [] });
  expect((await rpx(["secret", "list"])).stdout).toBe("no secrets\n");
});

test("secret unset asks, and passes --force and --owner on", async () => {
  const unasked = await rpx(["secret", "unset", "hf_token"]);
  expect(unasked.code).toBe(2);
  expect(unasked.stderr).toContain("try: add --yes");
  expect(daemon.seen).toEqual([]);
  daemon.on("DELETE /api/secrets/hf_token", { json: { ...STORED, unset: true } });
  const { code, stdout } = await rpx(["secret", "unset", "hf_token", "--yes", "--force", "--owner", "ada"]);
  expect([code, stdout]).toEqual([0, "secret hf_token is forgotten\n"]);
  expect(daemon.seen.map(({ query }) => String(query))).toEqual(["force=1&owner=ada"]);
});
