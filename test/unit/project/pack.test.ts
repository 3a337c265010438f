import { execFileSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { buffer } from "node:stream/consumers";
import { t as listTar } from "tar";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { MAX_FOLDER_BYTES } from "../../../src/folder/list.ts";
import { packFolder } from "../../../src/project/pack.ts";

let scratch = "";
let folder = "";

beforeEach(() => {
  scratch = realpathSync(mkdtempSync(join(tmpdir(), "rpx-pack-test-")));
  folder = join(scratch, "folder");
  mkdirSync(folder);
});

afterEach(() => {
  rmSync(scratch, { recursive: true, force: true });
});

function put(files: Record<string, string>): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
}

async function pack(): Promise<{ digest: string; bytes: number; tar: Buffer }> {
  const packed = await packFolder(folder);
  try {
    return { digest: packed.digest, bytes: packed.bytes, tar: await buffer(packed.open()) };
  } finally {
    await packed.dispose();
  }
}

async function packedPaths(): Promise<string[]> {
  const file = join(scratch, "out.tar");
  writeFileSync(file, (await pack()).tar);
  const paths: string[] = [];
  await listTar({ file, onReadEntry: (entry) => paths.push(entry.path) });
  return paths;
}

describe("what is packed", () => {
  test("everything but history, caches and environments, in one order; node_modules stays", async () => {
    put({
      "handler.py": "",
      "a/b.txt": "",
      "a.txt": "",
      "@scope.txt": "",
      ".git/HEAD": "",
      "a/__pycache__/x.pyc": "",
      "x.pyc": "",
      ".venv/bin/python": "",
      "node_modules/left-pad/index.js": "",
    });
    expect(await packedPaths()).toEqual([
      "@scope.txt",
      "a/",
      "a.txt",
      "a/b.txt",
      "handler.py",
      "node_modules/",
      "node_modules/left-pad/",
      "node_modules/left-pad/index.js",
    ]);
  });

  test(".dockerignore as Docker reads it: from the root, the last line decides, ! takes back from a left-out folder", async () => {
    put({
      ".dockerignore": "# models\n/models\n*.log\n**/*.tmp\nnode_modules\nnotes\n!notes/keep.md\n!.venv\n",
      "handler.py": "",
      "models/big.bin": "",
      "deep/models/small.bin": "",
      "root.log": "",
      "deep/kept.log": "",
      "deep/gone.tmp": "",
      "node_modules/x.js": "",
      "notes/drop.md": "",
      "notes/keep.md": "",
      ".venv/pyvenv.cfg": "",
    });
    expect((await packedPaths()).filter((path) => !path.endsWith("/"))).toEqual([
      ".dockerignore",
      ".venv/pyvenv.cfg",
      "deep/kept.log",
      "deep/models/small.bin",
      "handler.py",
      "notes/keep.md",
    ]);
  });

  test("content, links and the executable bit come back", async () => {
    put({ "run.sh": "#!/bin/sh\necho packed\n", "sub/x": "" });
    chmodSync(join(folder, "run.sh"), 0o755);
    symlinkSync("../run.sh", join(folder, "sub/link"));
    writeFileSync(join(scratch, "out.tar"), (await pack()).tar);
    mkdirSync(join(scratch, "out"));
    execFileSync("tar", ["-xf", join(scratch, "out.tar"), "-C", join(scratch, "out")]);
    expect(execFileSync(join(scratch, "out/sub/link"), { encoding: "utf8" })).toBe("packed\n");
    expect(lstatSync(join(scratch, "out/sub/link")).isSymbolicLink()).toBe(true);
  });
});

describe("the digest", () => {
  test("is that of the same content elsewhere, at another time, with hard links", async () => {
    put({ "handler.py": "x", "a/one": "same", "a/two": "same" });
    const before = await pack();
    utimesSync(join(folder, "handler.py"), 1, 1);
    rmSync(join(folder, "a/two"));
    linkSync(join(folder, "a/one"), join(folder, "a/two"));
    const after = await pack();
    expect(after.digest).toBe(before.digest);
    expect(after.bytes).toBe(after.tar.length);
    put({ "handler.py": "y" });
    expect((await pack()).digest).not.toBe(before.digest);
  });

  test("the file is private and gone after dispose", async () => {
    put({ "handler.py": "" });
    const packed = await packFolder(folder);
    const stream = packed.open();
    await buffer(stream);
    const path = String("path" in stream ? stream.path : "");
    expect(lstatSync(path).mode & 0o777).toBe(0o600);
    await packed.dispose();
    expect(existsSync(dirname(path))).toBe(false);
  });
});

describe("refused", () => {
  test.each([
    ["out of the folder", "../outside"],
    ["by an absolute path", "/etc/passwd"],
    ["through another link", "inner/../../outside"],
  ])("T-21: a link that leads %s", async (_, target) => {
    writeFileSync(join(scratch, "outside"), "secret");
    put({ "handler.py": "", "inner/x": "" });
    symlinkSync(target, join(folder, "link"));
    await expect(packFolder(folder)).rejects.toMatchObject({
      code: "usage",
      message: `cannot send ${join(folder, "link")}`,
      why: "it is a link that leads out of the folder",
    });
  });

  test("T-22: more than 2 GB", async () => {
    put({ "model.bin": "" });
    truncateSync(join(folder, "model.bin"), MAX_FOLDER_BYTES + 1);
    await expect(packFolder(folder)).rejects.toMatchObject({ code: "too_large" });
    put({ ".dockerignore": "model.bin" });
    expect(await packedPaths()).toEqual([".dockerignore"]);
  });

  test("a pipe", async () => {
    execFileSync("mkfifo", [join(folder, "pipe")]);
    await expect(packFolder(folder)).rejects.toMatchObject({
      code: "usage",
      why: expect.stringContaining("neither"),
    });
  });
});
