import { mkdtempSync, rmSync, statSync } from "node:fs";
import { readdir, statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createBallast, freeBytes } from "../../../../src/runtime/adapters/files/ballast.ts";

const BYTES = 3 * 1024 * 1024 + 17;
let dataDir: string;

beforeEach(() => {
  dataDir = mkdtempSync(path.join(tmpdir(), "rpx-ballast-"));
});
afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

test("F-07: it takes up real blocks, gives them back at once, and is held again", async () => {
  const ballast = createBallast({ dataDir, bytes: BYTES });
  expect(ballast.isHeld()).toBe(false);
  expect(ballast.release()).toBe(0);
  expect(await ballast.hold()).toBe(true);
  const { size, blocks, mode } = statSync(path.join(dataDir, "ballast"));
  expect({ size, mode: mode & 0o777 }).toEqual({ size: BYTES, mode: 0o600 });
  expect(blocks * 512).toBeGreaterThanOrEqual(BYTES);

  expect(ballast.release()).toBe(BYTES);
  expect(await readdir(dataDir)).toEqual([]);
  expect(ballast.isHeld()).toBe(false);
  expect(await ballast.hold()).toBe(true);
  expect(ballast.isHeld()).toBe(true);
});

test("two calls fill it once, and one that is there is kept", async () => {
  const ballast = createBallast({ dataDir, bytes: BYTES });
  expect(await Promise.all([ballast.hold(), ballast.hold()])).toEqual([true, true]);
  const { ino } = statSync(path.join(dataDir, "ballast"));
  expect(await createBallast({ dataDir, bytes: BYTES }).hold()).toBe(true);
  expect(statSync(path.join(dataDir, "ballast")).ino).toBe(ino);
});

test("it is never more than a twentieth of the disk", async () => {
  const { blocks, bsize } = await statfs(dataDir);
  const wanted = blocks * bsize;
  const most = Math.floor(wanted * 0.05);
  const ballast = createBallast({ dataDir, bytes: wanted });
  // A machine's disk is too large to fill for a test: then there is nothing to see.
  if (most > 256 * 1024 * 1024) return;
  await ballast.hold();
  expect(statSync(path.join(dataDir, "ballast")).size).toBeLessThanOrEqual(most);
});

test("free bytes are those this user may write", async () => {
  const { bavail, bsize } = await statfs(dataDir);
  const free = await freeBytes(dataDir);
  expect(Math.abs(free - bavail * bsize)).toBeLessThan(1024 ** 3);
});
