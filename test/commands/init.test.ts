import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { runCommand } from "@oclif/test";
import { afterEach, beforeEach, expect, test } from "vitest";
import { loadProject } from "../../src/project/load.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const bin = join(root, "bin/run.js");
const run = promisify(execFile);
let scratch = "";

beforeEach(() => {
  scratch = realpathSync(mkdtempSync(join(tmpdir(), "rpx-init-")));
});

afterEach(() => {
  rmSync(scratch, { recursive: true, force: true });
});

test.each([
  ["python", "handler.py"],
  ["node", "handler.mjs"],
] as const)("init --lang %s writes a folder that loads", async (language, handler) => {
  const { stdout, error } = await runCommand(["init", join(scratch, "My_Endpoint"), "--lang", language], {
    root,
  });
  expect(error).toBeUndefined();
  expect(stdout.trim().split("\n")).toHaveLength(4);
  expect(await loadProject(join(scratch, "My_Endpoint"))).toMatchObject({
    name: "my-endpoint",
    handler,
    warnings: [],
    testInput: expect.stringContaining("Ada"),
  });
});

test.each([
  ["python", ["python3", "handler.py"]],
  ["node", [process.execPath, "--import", join(root, "sdk/node/hook.js"), "handler.mjs"]],
] as const)("the handler of --lang %s answers its test_input.json", async (language, [file, ...args]) => {
  await runCommand(["init", scratch, "--lang", language], { root });
  const env = { ...process.env, PYTHONPATH: join(root, "sdk/python/site"), PYTHONDONTWRITEBYTECODE: "1" };
  const { stdout } = await run(file ?? "", args, { cwd: scratch, env });
  expect(stdout).toContain("Hello, Ada!");
});

test("never overwrites: exit 6 naming the file, nothing written; --force replaces", async () => {
  writeFileSync(join(scratch, "rpx.toml"), "mine");
  const refused = await run(process.execPath, [bin, "init", scratch]).catch((error: unknown) => error);
  expect(refused).toMatchObject({
    code: 6,
    stdout: "",
    stderr: expect.stringContaining(`${scratch} has rpx.toml`),
  });
  expect(readFileSync(join(scratch, "rpx.toml"), "utf8")).toBe("mine");
  await expect(loadProject(scratch)).rejects.toMatchObject({ code: "usage" });
  await run(process.execPath, [bin, "init", scratch, "--force"]);
  expect((await loadProject(scratch)).handler).toBe("handler.py");
});
