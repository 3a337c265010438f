import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { readSettings, type SettingFlags } from "../../../src/cli/settings.ts";
import { RpxError } from "../../../src/contract/error.ts";

const LOCAL = "http://127.0.0.1:4567";
let home = "";

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "rpx-settings-"));
  mkdirSync(join(home, "data/rpx"), { recursive: true });
  mkdirSync(join(home, "config/rpx"), { recursive: true });
});
afterEach(() => rmSync(home, { recursive: true, force: true }));

function read(env: NodeJS.ProcessEnv = {}, flags: SettingFlags = {}) {
  const { url, key, notes } = readSettings(flags, {
    HOME: home,
    XDG_DATA_HOME: join(home, "data"),
    XDG_CONFIG_HOME: join(home, "config"),
    ...env,
  });
  return { url: url.value, urlFrom: url.from, key: key.value, keyFrom: key.from, notes };
}

function localDaemon(mode = 0o600): string {
  const path = join(home, "data/rpx/admin-key");
  writeFileSync(join(home, "data/rpx/daemon.json"), JSON.stringify({ pid: 1, url: LOCAL }));
  writeFileSync(path, "rpxa_local\n");
  chmodSync(path, mode);
  return path;
}

function contexts(current: string | null, all: Record<string, { url: string; key?: string }>): void {
  writeFileSync(join(home, "config/rpx/config.json"), JSON.stringify({ current, contexts: all }));
}

describe("which daemon: flag, environment, context, local daemon, default", () => {
  const ENV = { RPX_URL: "http://env:1", RUNPOD_ENDPOINT_BASE_URL: "http://runpod:2/v2", RPX_CONTEXT: "lab" };

  test("each in its place, and where it came from", () => {
    expect(read()).toMatchObject({ url: "http://127.0.0.1:7790", urlFrom: "default" });
    localDaemon();
    expect(read()).toMatchObject({ url: LOCAL, urlFrom: "daemon.json" });
    contexts("here", { here: { url: "http://here:3" }, lab: { url: "http://lab:4/" } });
    expect(read()).toMatchObject({ url: "http://here:3", urlFrom: "context here" });
    expect(read({ RPX_CONTEXT: "lab" })).toMatchObject({ url: "http://lab:4", urlFrom: "RPX_CONTEXT lab" });
    const { RPX_URL: _, ...runpod } = ENV;
    expect(read(runpod)).toMatchObject({ url: "http://runpod:2", urlFrom: "RUNPOD_ENDPOINT_BASE_URL" });
    expect(read(ENV)).toMatchObject({ url: "http://env:1", urlFrom: "RPX_URL" });
    expect(read(ENV, { context: "lab" })).toMatchObject({ url: "http://lab:4", urlFrom: "--context lab" });
    expect(read(ENV, { url: "http://flag:5/" })).toMatchObject({ url: "http://flag:5", urlFrom: "--url" });
  });

  test("the only rpx dev is found from another terminal; two of them are not guessed between", () => {
    contexts(null, { "dev:hello": { url: "http://127.0.0.1:99", key: "rpxk_dev" } });
    expect(read()).toMatchObject({ url: "http://127.0.0.1:99", key: "rpxk_dev" });
    contexts(null, {
      "dev:hello": { url: "http://127.0.0.1:99" },
      "dev:other": { url: "http://127.0.0.1:98" },
    });
    expect(read().urlFrom).toBe("default");
  });

  test.each(["localhost:7790", "ftp://x", "http://user:pw@x", "nonsense"])("%s is no address", (url) => {
    expect(() => read({}, { url })).toThrow(RpxError);
  });
});

describe("a key goes to the daemon that it belongs to and to no other", () => {
  test("the local admin key: to the address in daemon.json alone", () => {
    const path = localDaemon();
    expect(read()).toMatchObject({ key: "rpxa_local", keyFrom: path });
    expect(read({}, { url: LOCAL }).key).toBe("rpxa_local");
    expect(read({}, { url: "http://127.0.0.1:1" }).key).toBeUndefined();
    expect(read({ RPX_URL: "https://elsewhere.test" }).key).toBeUndefined();
  });

  test("a context's key: to its address alone", () => {
    contexts("lab", { lab: { url: "http://lab:4", key: "rpxk_lab" } });
    expect(read().key).toBe("rpxk_lab");
    expect(read({}, { url: "http://lab:4/" }).key).toBe("rpxk_lab");
    expect(read({}, { url: "http://lab:5" }).key).toBeUndefined();
  });

  test("RPX_API_KEY goes wherever the command goes; RUNPOD_API_KEY not to a local daemon with its own", () => {
    localDaemon();
    expect(read({ RPX_API_KEY: "rpxk_env" })).toMatchObject({ key: "rpxk_env", keyFrom: "RPX_API_KEY" });
    const both = read({ RUNPOD_API_KEY: "rpa_cloud" });
    expect(both.key).toBe("rpxa_local");
    expect(both.notes).toEqual(["RUNPOD_API_KEY is not used for this daemon"]);
    const cloud = { RUNPOD_API_KEY: "rpa_cloud", RUNPOD_ENDPOINT_BASE_URL: "https://api.test/v2" };
    expect(read(cloud)).toMatchObject({
      url: "https://api.test",
      key: "rpa_cloud",
      keyFrom: "RUNPOD_API_KEY",
    });
  });

  test.each([0o644, 0o640, 0o604])("a key file of mode %o is refused (exit 4), with the fix", (mode) => {
    const path = localDaemon(mode);
    expect(() => read()).toThrow(expect.objectContaining({ code: "forbidden", hint: `chmod 600 ${path}` }));
  });
});
