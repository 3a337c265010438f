import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createSandbox, type Sandbox } from "./support/rpx.ts";

const HANDLER = `
import os
import runpod

def handler(event):
    print("has", os.environ["TOKEN"])
    return [len(os.environ["TOKEN"]), [name for name in os.environ if name.startswith("RPX_SECRET_")]]

runpod.serverless.start({"handler": handler})
`;
let sandbox: Sandbox;
let folder: string;

beforeEach(() => {
  sandbox = createSandbox();
  folder = join(sandbox.folder, "hello");
  mkdirSync(folder);
  writeFileSync(join(folder, "handler.py"), HANDLER);
  writeFileSync(join(folder, "rpx.toml"), '[env]\nTOKEN = "secret:hf_token"\n');
});
afterEach(() => sandbox.remove());

test("dev takes the secrets of a folder from RPX_SECRET_name, keeps them, and shows none", async () => {
  const dev = (env: NodeJS.ProcessEnv = {}) => sandbox.rpx(["dev", folder, "--input", "{}"], { env });
  const without = await dev();
  expect([without.code, without.stdout]).toEqual([2, ""]);
  expect(without.stderr).toContain('Error: rpx.toml asks for secret "hf_token", which rpx dev was not given');
  expect(without.stderr).toContain("try: set the variable RPX_SECRET_hf_token for rpx dev, once");

  const given = await dev({ RPX_SECRET_hf_token: "hunter2-of-dev" });
  expect([given.code, given.stdout], given.stderr).toEqual([0, "[14, []]\n"]);
  expect(given.stderr).toContain("has [redacted]");
  expect(given.stderr).not.toContain("hunter2");

  expect((await dev()).stdout).toBe("[14, []]\n");
  expect((await dev({ RPX_SECRET_hf_token: "new" })).stdout).toBe("[3, []]\n");
}, 60_000);
