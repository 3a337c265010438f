import { chmodSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { buffer } from "node:stream/consumers";
import { Parser, type ReadEntry } from "tar";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  type BuildContext,
  contextPaths,
  createBuildContext,
  readSmallFolder,
} from "../../../../src/runtime/adapters/docker/build-context.ts";

let scratch = "";
let folder = "";

beforeEach(() => {
  scratch = realpathSync(mkdtempSync(join(tmpdir(), "rpx-context-test-")));
  folder = join(scratch, "folder");
  mkdirSync(folder);
});
afterEach(() => rmSync(scratch, { recursive: true, force: true }));

function put(files: Record<string, string>): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text, { mode: 0o600 });
  }
}

/** Entries of a tar as `path mode`, links with their target. */
async function entriesOf(context: BuildContext): Promise<string[]> {
  const found: string[] = [];
  const parser = new Parser({
    strict: true,
    onReadEntry: (entry: ReadEntry) => {
      found.push(`${entry.path} ${entry.linkpath || (entry.mode ?? 0).toString(8)}`);
      entry.resume();
    },
  });
  parser.end(await buffer(context.open()));
  await new Promise((resolve) => parser.on("close", resolve));
  return found;
}

const context = async (into: string, files = new Map<string, string>()) =>
  createBuildContext({ ...(await contextPaths(folder)), into, files });
const digestOf = async (made: BuildContext) => made.digest(new AbortController().signal);

describe("the tar that an engine builds from", () => {
  test("the folder below its own name, generated files beside it; readable by all, executables kept", async () => {
    put({ "handler.py": "x", "lib/run.sh": "y" });
    chmodSync(join(folder, "lib/run.sh"), 0o700);
    symlinkSync("lib/run.sh", join(folder, "link"));
    const made = await context("source", new Map([["Dockerfile", "FROM scratch\n"]]));
    expect(await entriesOf(made)).toEqual([
      "Dockerfile 644",
      "source/handler.py 644",
      "source/lib/ 755",
      "source/lib/run.sh 755",
      "source/link lib/run.sh",
    ]);
  });

  test(".dockerignore decides, but for what is kept and left", async () => {
    put({
      ".dockerignore": "*.md\nDockerfile\n",
      Dockerfile: "",
      "a.md": "",
      "b.py": "",
      "node_modules/x": "",
    });
    const { paths } = await contextPaths(folder, { kept: ["Dockerfile"], left: ["**/node_modules"] });
    expect(paths).toEqual([".dockerignore", "Dockerfile", "b.py"]);
  });

  test("a link that leads out of the folder is refused (T-21)", async () => {
    put({ "handler.py": "" });
    writeFileSync(join(scratch, "outside"), "secret");
    symlinkSync("../outside", join(folder, "link"));
    await expect(contextPaths(folder)).rejects.toMatchObject({
      code: "usage",
      why: "it is a link that leads out of the folder",
    });
  });

  test("the same content has the same digest, another content or generated file another", async () => {
    put({ "handler.py": "x", "big.bin": "b".repeat(3_000_000) });
    const first = await digestOf(await context(""));
    put({ "handler.py": "x" });
    expect(await digestOf(await context(""))).toBe(first);
    expect(await digestOf(await context("", new Map([["Dockerfile", "x"]])))).not.toBe(first);
    put({ "handler.py": "z" });
    expect(await digestOf(await context(""))).not.toBe(first);
  });

  test("thousands of files and large generated ones pass through", async () => {
    for (let index = 0; index < 3_000; index += 1) writeFileSync(join(folder, `f${index}`), "content");
    const made = await context("source", new Map([["Dockerfile", "y".repeat(2_000_000)]]));
    expect(await entriesOf(made)).toHaveLength(3_001);
  });

  test("a file that goes away while it is sent is an error, not a hang", async () => {
    put({ "a.py": "", "b.py": "" });
    const made = await context("");
    rmSync(join(folder, "b.py"));
    await expect(buffer(made.open())).rejects.toMatchObject({ code: "ENOENT" });
  });

  test("readSmallFolder: texts by their path", async () => {
    put({ "site/a.py": "1", "b.py": "2" });
    expect(await readSmallFolder(folder, "sdk")).toEqual(
      new Map([
        ["sdk/b.py", "2"],
        ["sdk/site/a.py", "1"],
      ]),
    );
  });
});
