import {
  chmodSync,
  copyFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { inspect } from "node:util";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createSecretBox } from "../../../../src/runtime/adapters/files/secret-box.ts";
import { makeSecretKey, readSecretKey } from "../../../../src/runtime/adapters/files/secret-key.ts";
import { refusalOf, secretBoxSuite } from "../../../conformance/secret-box.ts";

const CONTEXT = "secret:ada:token";
let dataDir: string;
let keyFile: string;

beforeEach(() => {
  dataDir = mkdtempSync(path.join(tmpdir(), "rpx-box-"));
  keyFile = path.join(dataDir, "secret-key");
});
afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

const open = () => createSecretBox({ dataDir });

secretBoxSuite(open);

test("T-23: the key is made at the first seal, whole and its owner's alone; the next daemon reads it", () => {
  const box = open();
  expect(readdirSync(dataDir)).toEqual([]);
  const sealed = box.seal("hunter2", CONTEXT);
  expect(readdirSync(dataDir)).toEqual(["secret-key"]);
  expect(statSync(keyFile).mode & 0o777).toBe(0o600);
  expect(readFileSync(keyFile, "utf8")).toMatch(/^[A-Za-z0-9_-]{43}\n$/);
  expect(open().open(sealed, CONTEXT)).toBe("hunter2");
  expect(open().seal("other", CONTEXT).slice(0, 12)).toBe(sealed.slice(0, 12));
});

test("opening makes no key: without one it is refused", () => {
  const sealed = open().seal("hunter2", CONTEXT);
  rmSync(keyFile);
  expect(refusalOf(() => open().open(sealed, CONTEXT))).toMatchObject({
    code: "conflict",
    why: "its key is missing from the data directory",
  });
  expect(readdirSync(dataDir)).toEqual([]);
});

test("another key's text is told from a changed one", () => {
  const sealed = open().seal("hunter2", CONTEXT);
  rmSync(keyFile);
  open().seal("with a new key", CONTEXT);
  expect(refusalOf(() => open().open(sealed, CONTEXT)).why).toBe(
    "it was sealed with another key than the data directory has",
  );
});

test("each changed byte is seen", () => {
  const box = open();
  const bytes = Buffer.from(box.seal("hunter2", CONTEXT), "base64");
  for (let index = 0; index < bytes.length; index += 1) {
    const changed = Buffer.from(bytes);
    changed[index] = (changed[index] ?? 0) ^ 1;
    expect(refusalOf(() => box.open(changed.toString("base64"), CONTEXT)).code).toBe("conflict");
  }
  const short = bytes.subarray(0, -1).toString("base64");
  expect(refusalOf(() => box.open(short, CONTEXT)).code).toBe("conflict");
});

test("a key that is there is never replaced, and half a one left by a kill is no hindrance", () => {
  writeFileSync(`${keyFile}.new`, "half");
  const sealed = open().seal("hunter2", CONTEXT);
  const before = readFileSync(keyFile, "utf8");
  expect(refusalOf(() => makeSecretKey(dataDir))).toMatchObject({ code: "unavailable", why: "EEXIST" });
  expect(readFileSync(keyFile, "utf8")).toBe(before);
  rmSync(`${keyFile}.new`, { force: true });
  expect(open().open(sealed, CONTEXT)).toBe("hunter2");
});

test("a damaged key file is told, not replaced", () => {
  const sealed = open().seal("hunter2", CONTEXT);
  truncateSync(keyFile, 20);
  for (const call of [() => open().open(sealed, CONTEXT), () => open().seal("new", CONTEXT)])
    expect(refusalOf(call).message).toBe(`the key file ${keyFile} is damaged`);
  expect(statSync(keyFile).size).toBe(20);
});

test("T-23: a link in its place is refused, and bits for others are taken away", () => {
  const sealed = open().seal("hunter2", CONTEXT);
  chmodSync(keyFile, 0o644);
  expect(open().open(sealed, CONTEXT)).toBe("hunter2");
  expect(statSync(keyFile).mode & 0o777).toBe(0o600);
  copyFileSync(keyFile, `${keyFile}.moved`);
  rmSync(keyFile);
  symlinkSync(`${keyFile}.moved`, keyFile);
  expect(refusalOf(() => open().open(sealed, CONTEXT)).code).toBe("forbidden");
});

test("T-24: a printed key shows nothing of itself", () => {
  makeSecretKey(dataDir);
  const text = readFileSync(keyFile, "utf8").trim();
  const key = readSecretKey(dataDir);
  const bytes = Buffer.from(text, "base64url");
  for (const printed of [inspect(key, { depth: 9, showHidden: true }), JSON.stringify(key), String(key)])
    for (const spelling of [text, bytes.toString("hex"), bytes.toString("base64")])
      expect(printed).not.toContain(spelling);
});
