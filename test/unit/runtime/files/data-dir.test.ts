import {
  chmodSync,
  chownSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { exitCode, RpxError } from "../../../../src/contract/error.ts";
import { openDataDir } from "../../../../src/runtime/adapters/files/data-dir.ts";

const umask = process.umask();
let root: string;

beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), "rpx-data-"));
});
afterEach(() => {
  process.umask(umask);
  rmSync(root, { recursive: true, force: true });
});

const modeOf = (file: string) => statSync(file).mode & 0o7777;

function refusalOf(dataDir: string): RpxError {
  try {
    openDataDir(dataDir);
  } catch (error) {
    if (error instanceof RpxError) return error;
  }
  throw new Error("it was not refused");
}

test("T-23: a new one is its owner's alone, and so is what is made later", () => {
  const dataDir = path.join(root, "a/b");
  openDataDir(dataDir);
  expect(modeOf(dataDir)).toBe(0o700);
  writeFileSync(path.join(dataDir, "file"), "", { mode: 0o666 });
  expect(modeOf(path.join(dataDir, "file"))).toBe(0o600);
});

test.each([0o755, 0o770, 0o777])("T-23: mode %o of one that is there is taken back", (mode) => {
  const dataDir = path.join(root, "data");
  mkdirSync(dataDir);
  chmodSync(dataDir, mode);
  openDataDir(dataDir);
  expect(modeOf(dataDir)).toBe(0o700);
});

test("T-23: where anybody may replace it, it is refused; in a sticky folder nobody may", () => {
  chmodSync(root, 0o777);
  const dataDir = path.join(root, "data");
  const error = refusalOf(dataDir);
  expect(error).toMatchObject({ code: "forbidden", hint: `chmod o-w ${root}` });
  chmodSync(root, 0o1777);
  openDataDir(dataDir);
});

test.skipIf(process.getuid?.() !== 0)(
  "another user's is refused with exit code 4 (needs root to make one)",
  () => {
    const dataDir = path.join(root, "data");
    mkdirSync(dataDir);
    chownSync(dataDir, 12345, 12345);
    const error = refusalOf(dataDir);
    expect(exitCode(error.code)).toBe(4);
    expect(error.why).toBe("it belongs to user 12345, this process runs as user 0");
  },
);

test("a link is followed, and its target is what is checked", () => {
  const target = path.join(root, "target");
  mkdirSync(target, { mode: 0o755 });
  symlinkSync(target, path.join(root, "link"));
  openDataDir(path.join(root, "link"));
  expect(modeOf(target)).toBe(0o700);
});

test("a file in its place, or above it, is told", () => {
  writeFileSync(path.join(root, "file"), "");
  for (const dataDir of [path.join(root, "file"), path.join(root, "file/data")])
    expect(refusalOf(dataDir)).toMatchObject({ code: "forbidden", why: "it is no directory" });
});
