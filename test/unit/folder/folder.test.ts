import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { folderBytes } from "../../../src/folder/bytes.ts";
import { checkHandler } from "../../../src/folder/handler.ts";
import { REMOVED_PREFIX, removeFolder } from "../../../src/folder/remove.ts";
import { dataDirId } from "../../../src/runtime/adapters/files/data-dir-id.ts";

let scratch = "";
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "rpx-folder-"));
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

test("folderBytes: what files take, links not followed, nothing for what is not there", async () => {
  expect(await folderBytes(join(scratch, "nothing"))).toBe(0);
  mkdirSync(join(scratch, "a/b"), { recursive: true });
  writeFileSync(join(scratch, "a/b/file"), "x".repeat(100_000));
  const bytes = await folderBytes(join(scratch, "a"));
  expect(bytes).toBeGreaterThanOrEqual(100_000);
  symlinkSync("../a/b/file", join(scratch, "a/link"));
  expect((await folderBytes(join(scratch, "a"))) - bytes).toBeLessThan(50_000);
});

test("removeFolder: the name goes first, what it links to stays, and a second time is let pass", async () => {
  writeFileSync(join(scratch, "outside"), "kept");
  mkdirSync(join(scratch, "whole"));
  symlinkSync("../outside", join(scratch, "whole/link"));
  mkdirSync(join(scratch, `${REMOVED_PREFIX}old`));
  await removeFolder(join(scratch, "whole"));
  await removeFolder(join(scratch, "whole"));
  await removeFolder(join(scratch, `${REMOVED_PREFIX}old`));
  expect(readdirSync(scratch)).toEqual(["outside"]);
});

test("checkHandler: inside the folder, of a kind that runs, and there", async () => {
  writeFileSync(join(scratch, "handler.py"), "");
  writeFileSync(join(scratch, "-x.py"), "");
  expect(await checkHandler(scratch, "./handler.py")).toBe("handler.py");
  expect(await checkHandler(scratch, "-x.py")).toBe("./-x.py");
  for (const [name, message] of [
    ["../handler.py", "outside"],
    ["handler.sh", "cannot run"],
    ["missing.py", "there is no handler"],
  ] as const) {
    await expect(checkHandler(scratch, name)).rejects.toMatchObject({
      code: "bad_request",
      message: expect.stringContaining(message),
    });
  }
});

test("dataDirId: made once, the same from then on; what is damaged is made anew", () => {
  const id = dataDirId(scratch);
  expect(id).toMatch(/^[0-9a-f]{12}$/);
  expect(dataDirId(scratch)).toBe(id);
  writeFileSync(join(scratch, "id"), "half");
  expect(dataDirId(scratch)).not.toBe(id);
  expect(existsSync(join(scratch, "id.new"))).toBe(false);
});
