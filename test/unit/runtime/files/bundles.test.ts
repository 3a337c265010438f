import { createHash } from "node:crypto";
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { readdir, readlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { Readable } from "node:stream";
import { gzipSync } from "node:zlib";
import { create, Header } from "tar";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { BUNDLE_CAPS, createBundles } from "../../../../src/runtime/adapters/files/bundles.ts";

let dataDir: string;
beforeEach(() => {
  dataDir = mkdtempSync(path.join(tmpdir(), "rpx-bundles-"));
});
afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

const digestOf = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");
const names = () => readdir(path.join(dataDir, "bundles")).catch(() => []);

type Entry = {
  path: string;
  type?: string;
  linkpath?: string;
  mode?: number;
  text?: string;
  /** What the header says, where it is not the text's. */
  size?: number;
};

/** A tar as no honest tool would write it. */
function tarOf(...entries: readonly Entry[]): Buffer {
  const blocks = entries.flatMap(
    ({ path: name, type = "File", linkpath = "", mode = 0o644, text = "", size }) => {
      const header = new Header({
        path: name,
        type: type as "File",
        linkpath,
        mode,
        size: size ?? Buffer.byteLength(text),
        uid: 12345,
        gid: 12345,
        mtime: new Date(1_000_000),
      });
      const block = Buffer.alloc(512);
      header.encode(block, 0);
      const body = Buffer.alloc(Math.ceil(Buffer.byteLength(text) / 512) * 512);
      body.write(text);
      return [block, body];
    },
  );
  return Buffer.concat([...blocks, Buffer.alloc(1024)]);
}

async function receive(bytes: Buffer, caps = BUNDLE_CAPS) {
  const bundles = createBundles({ dataDir, caps });
  const digest = digestOf(bytes);
  await bundles.receive(digest, Readable.from([bytes.subarray(0, 100), bytes.subarray(100)]));
  return { bundles, digest, folder: bundles.pathOf(digest) };
}

describe("what is taken", () => {
  test("a packed folder comes out as it was, for its owner alone", async () => {
    const source = path.join(dataDir, "source");
    mkdirSync(path.join(source, "lib"), { recursive: true });
    writeFileSync(path.join(source, "handler.py"), "print('hi')\n");
    writeFileSync(path.join(source, "run.sh"), "#!/bin/sh\n");
    chmodSync(path.join(source, "run.sh"), 0o755);
    writeFileSync(path.join(source, "lib/data"), "x".repeat(200_000));
    linkSync(path.join(source, "lib/data"), path.join(source, "lib/same"));
    symlinkSync("../handler.py", path.join(source, "lib/link.py"));
    const packed = path.join(dataDir, "packed.tgz");
    create({ gzip: true, cwd: source, file: packed, sync: true }, ["."]);
    const { bundles, digest, folder } = await receive(readFileSync(packed));

    expect(bundles.has(digest)).toBe(true);
    expect(folder).toBe(path.join(dataDir, "bundles", digest));
    expect(readFileSync(path.join(folder, "handler.py"), "utf8")).toBe("print('hi')\n");
    expect(readFileSync(path.join(folder, "lib/same"))).toHaveLength(200_000);
    expect(await readlink(path.join(folder, "lib/link.py"))).toBe("../handler.py");
    const mode = (name: string) => statSync(path.join(folder, name)).mode & 0o7777;
    expect([".", "lib", "handler.py", "run.sh", "lib/data"].map(mode)).toEqual([
      0o700, 0o700, 0o600, 0o700, 0o600,
    ]);
    expect(await names()).toEqual([digest]);
  });

  test("owners and modes of the archive do not count", async () => {
    const { folder } = await receive(
      tarOf({ path: "d", type: "Directory", mode: 0o2777 }, { path: "d/f", mode: 0o666, text: "x" }),
    );
    const found = statSync(path.join(folder, "d/f"));
    expect({ uid: found.uid, mode: found.mode & 0o7777 }).toEqual({ uid: process.getuid?.(), mode: 0o600 });
    expect(statSync(path.join(folder, "d")).mode & 0o7777).toBe(0o700);
  });

  test("one that is there already is let pass; two at once end well", async () => {
    const bytes = tarOf({ path: "handler.py", text: "1" });
    const [{ bundles, digest, folder }] = await Promise.all([receive(bytes), receive(bytes)]);
    const { ino } = statSync(folder);
    await bundles.receive(digest, Readable.from([bytes]));
    expect(statSync(folder).ino).toBe(ino);
    expect(await names()).toEqual([digest]);
  });
});

describe("T-22: what is refused, with nothing kept", () => {
  const link = (name: string, linkpath: string): Entry => ({ path: name, type: "SymbolicLink", linkpath });

  test.each<[string, Entry[]]>([
    ["an absolute path", [{ path: "/etc/rpx-test" }]],
    ["a climbing path", [{ path: "../outside" }]],
    ["a path that climbs later", [{ path: "a/../../outside" }]],
    ["a backslash path", [{ path: "..\\outside" }]],
    ["an absolute link", [link("l", "/etc/passwd")]],
    ["a link that climbs out", [link("a/l", "../../outside")]],
    ["a link to the folder above", [link("l", "..")]],
    ["a link that climbs behind a name", [link("a/root", "../.."), link("b/l", "x/../../..")]],
    ["a link through a link", [link("a/b/root", "../.."), link("p", "a/b/root/../z")]],
    ["a file written through a link", [link("l", "sub"), { path: "l/f", text: "x" }]],
    ["a file in a link's place", [link("l", "sub"), { path: "l", text: "x" }]],
    ["a file through a link by another spelling", [link("L", "sub"), { path: "l/f", text: "x" }]],
    ["a link in a folder's place", [{ path: "d/f", text: "x" }, link("d", "other")]],
    ["a hard link out", [{ path: "h", type: "Link", linkpath: "/etc/passwd" }]],
    ["a hard link that climbs", [{ path: "h", type: "Link", linkpath: "../x" }]],
    ["a hard link to nothing", [{ path: "h", type: "Link", linkpath: "none" }]],
    ["a hard link to a link", [link("l", "x"), { path: "h", type: "Link", linkpath: "l" }]],
    ["a device", [{ path: "dev", type: "CharacterDevice" }]],
    ["a block device", [{ path: "dev", type: "BlockDevice" }]],
    ["a pipe", [{ path: "fifo", type: "FIFO" }]],
    ["a set-uid file", [{ path: "su", mode: 0o4755, text: "x" }]],
    ["a set-gid file", [{ path: "sg", mode: 0o2755, text: "x" }]],
  ])("%s", async (_, entries) => {
    const bytes = tarOf({ path: "handler.py", text: "first, and harmless" }, ...entries);
    await expect(receive(bytes)).rejects.toMatchObject({ code: "bad_request" });
    await expect(receive(gzipSync(bytes))).rejects.toMatchObject({ code: "bad_request" });
    expect(await names()).toEqual([]);
    expect(existsSync(path.join(dataDir, "outside"))).toBe(false);
    expect(existsSync("/etc/rpx-test")).toBe(false);
  });

  test("bytes that are not what was announced", async () => {
    const bundles = createBundles({ dataDir });
    const bytes = tarOf({ path: "handler.py", text: "x" });
    const other = digestOf(Buffer.from("other"));
    await expect(bundles.receive(other, Readable.from([bytes]))).rejects.toMatchObject({
      code: "bad_request",
    });
    expect(bundles.has(other)).toBe(false);
    expect(await names()).toEqual([]);
  });

  test.each(["../../etc", "abc", "A".repeat(64), ""])("a digest that is none: %j", async (digest) => {
    const bundles = createBundles({ dataDir });
    await expect(bundles.receive(digest, Readable.from([]))).rejects.toMatchObject({ code: "bad_request" });
    expect(() => bundles.has(digest)).toThrow("a bundle is named by its SHA-256");
  });

  test("what is no archive, and an archive that was cut", async () => {
    const whole = gzipSync(tarOf({ path: "f", text: "x".repeat(5_000) }));
    for (const bytes of [
      Buffer.from("not a tar at all"),
      whole.subarray(0, 60),
      tarOf({ path: "f", size: 9_999, text: "x" }),
    ])
      await expect(receive(bytes)).rejects.toMatchObject({ code: "bad_request" });
    expect(await names()).toEqual([]);
  });

  test("the sender's own error comes through", async () => {
    const broken = new Readable({
      read() {
        this.destroy(new Error("connection lost"));
      },
    });
    await expect(createBundles({ dataDir }).receive("0".repeat(64), broken)).rejects.toThrow(
      "connection lost",
    );
    expect(await names()).toEqual([]);
  });

  test("more packed bytes, entries or unpacked bytes than the caps", async () => {
    const small = { packedBytes: 10_000, unpackedBytes: 1_000, entries: 3, ratio: 100 };
    const refused = { code: "too_large" };
    await expect(receive(tarOf({ path: "f", text: "x".repeat(20_000) }), small)).rejects.toMatchObject(
      refused,
    );
    const many = ["a", "b", "c", "d"].map((name) => ({ path: name }));
    await expect(receive(tarOf(...many), small)).rejects.toMatchObject(refused);
    const sizes = [
      { path: "a", text: "x".repeat(600) },
      { path: "b", text: "x".repeat(600) },
    ];
    await expect(receive(tarOf(...sizes), small)).rejects.toMatchObject(refused);
    expect(await names()).toEqual([]);
    await receive(tarOf(...many.slice(0, 3)), small);
  });

  test("a bomb: a hundred times its size and more", async () => {
    const bomb = gzipSync(tarOf({ path: "zeros", text: "\0".repeat(32 * 1024 * 1024) }));
    expect(bomb.length * 100).toBeLessThan(32 * 1024 * 1024);
    await expect(receive(bomb)).rejects.toMatchObject({ code: "too_large" });
    expect(await names()).toEqual([]);
  });
});

test("artifacts: what was unpacked and what a broken transfer left, not what is under way", async () => {
  const { bundles, digest } = await receive(tarOf({ path: "a" }));
  const { digest: unused } = await receive(tarOf({ path: "b" }));
  mkdirSync(path.join(dataDir, "bundles/.incoming-old"));
  const slow = new Readable({ read() {} });
  const bytes = tarOf({ path: "c" });
  const third = digestOf(bytes);
  const receiving = bundles.receive(third, slow);
  slow.push(bytes.subarray(0, 100));
  await expect.poll(names).toHaveLength(4);
  const listed = await bundles.artifacts.list();
  expect(listed.map(({ id }) => id).sort()).toEqual([".incoming-old", digest, unused].sort());
  expect(listed.find(({ id }) => id === digest)?.bytes).toBeGreaterThanOrEqual(0);
  for (const id of [".incoming-old", unused, "e".repeat(64)]) {
    expect(await bundles.artifacts.remove(id)).toBeNull();
  }
  slow.push(bytes.subarray(100));
  slow.push(null);
  await receiving;
  expect((await names()).sort()).toEqual([digest, third].sort());
  expect(bundles.has(unused)).toBe(false);
});
