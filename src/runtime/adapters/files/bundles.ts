import { createHash } from "node:crypto";
import { createReadStream, createWriteStream, existsSync } from "node:fs";
import { mkdir, mkdtemp, open, readdir, rename, rm } from "node:fs/promises";
import path from "node:path";
import { type Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { Parser, type ReadEntry, Unpack } from "tar";
import { RpxError } from "../../../contract/error.ts";
import { folderBytes } from "../../../folder/bytes.ts";
import { removeFolder } from "../../../folder/remove.ts";
import type { Artifacts } from "../../ports/artifacts.ts";
import { type BundleCaps, createBundleCheck } from "./bundle-check.ts";

export type Bundles = {
  has(digest: string): boolean;
  /**
   * Takes a tar (gzip or plain) whose SHA-256 is `digest`, and unpacks it. Rejects with `bad_request` what does not match or is
   * hostile (T-22), `too_large` what passes the caps; nothing of it is kept. One that is there already is let pass.
   */
  receive(digest: string, stream: Readable): Promise<void>;
  /** Where a bundle lies once it was received. */
  pathOf(digest: string): string;
  /** What was unpacked, and what broken transfers left. One that is under way is not listed. */
  readonly artifacts: Artifacts;
};

/** T-22. */
export const BUNDLE_CAPS: BundleCaps = {
  packedBytes: 2 * 1024 ** 3,
  unpackedBytes: 2 * 1024 ** 3,
  entries: 50_000,
  ratio: 100,
};
const DIGEST = /^[0-9a-f]{64}$/;
const INCOMING = ".incoming-";
/** Of a digest, for people. */
const SHOWN_CHARACTERS = 16;
/** Files synced at a time. */
const SYNC_PARALLEL = 16;

/**
 * Unpacked handler folders under `<dataDir>/bundles/<sha256 of the tar>`. Each is written to a folder of its own and renamed when it is
 * whole and on the disk, so one that is there is complete, also after a power cut.
 */
export function createBundles(deps: { readonly dataDir: string; readonly caps?: BundleCaps }): Bundles {
  const root = path.join(deps.dataDir, "bundles");
  const caps = deps.caps ?? BUNDLE_CAPS;
  const incoming = new Set<string>();

  function pathOf(digest: string): string {
    if (!DIGEST.test(digest)) throw new RpxError("bad_request", "a bundle is named by its SHA-256 in hex");
    return path.join(root, digest);
  }

  async function receive(digest: string, stream: Readable): Promise<void> {
    const target = pathOf(digest);
    if (existsSync(target)) return void stream.resume();
    await mkdir(root, { recursive: true, mode: 0o700 });
    const folder = await mkdtemp(path.join(root, INCOMING));
    incoming.add(path.basename(folder));
    try {
      await unpackInto(folder, digest, stream, caps);
      await renameOnce(path.join(folder, "files"), target);
      await syncPath(root);
    } finally {
      await rm(folder, { recursive: true, force: true });
      incoming.delete(path.basename(folder));
    }
  }

  const artifacts: Artifacts = {
    kind: "bundle",
    list: async () => {
      const names = (await readdir(root).catch(() => [])).filter((name) => !incoming.has(name));
      return Promise.all(
        names.map(async (name) => ({
          id: name,
          name: name.slice(0, SHOWN_CHARACTERS),
          bytes: await folderBytes(path.join(root, name)),
        })),
      );
    },
    remove: async (id) => {
      await removeFolder(path.join(root, path.basename(id)));
      return null;
    },
  };

  return { has: (digest) => existsSync(pathOf(digest)), receive, pathOf, artifacts };
}

/** Leaves the checked and synced tree in `<folder>/files`. */
async function unpackInto(folder: string, digest: string, stream: Readable, caps: BundleCaps): Promise<void> {
  const archive = path.join(folder, "archive");
  const packedBytes = await store(archive, digest, stream, caps);
  const files = path.join(folder, "files");
  await mkdir(files, { mode: 0o700 });
  // Twice through the archive: nothing is unpacked of one that is hostile at its end.
  await readArchive(archive, createBundleCheck(caps, packedBytes));
  await extract(archive, files);
  await syncTree(files);
}

/** Writes the stream to a file and checks its digest; returns its bytes. */
async function store(file: string, digest: string, stream: Readable, caps: BundleCaps): Promise<number> {
  const hash = createHash("sha256");
  let bytes = 0;
  const count = new Transform({
    transform(chunk: Buffer, _, done) {
      bytes += chunk.length;
      hash.update(chunk);
      if (bytes > caps.packedBytes)
        done(new RpxError("too_large", `the bundle is larger than ${caps.packedBytes} bytes`));
      else done(null, chunk);
    },
  });
  await pipeline(stream, count, createWriteStream(file, { flags: "wx", mode: 0o600 }));
  if (hash.digest("hex") === digest) return bytes;
  throw new RpxError("bad_request", "the bundle is not what was announced", {
    why: "its SHA-256 is another: it was cut or changed on the way",
    hint: "deploy it again",
  });
}

/** Shows each entry to `check`, which throws at what it refuses. */
async function readArchive(archive: string, check: (entry: ReadEntry) => void): Promise<void> {
  const source = createReadStream(archive);
  const verdicts: unknown[] = [];
  const parser = new Parser({
    strict: true,
    onReadEntry(entry) {
      try {
        check(entry);
        entry.resume();
      } catch (error) {
        verdicts.push(error);
        source.destroy(error as Error);
      }
    },
  });
  await passThrough(source, parser).catch((error: unknown) => {
    // The parser may stumble over what follows the entry that was refused.
    throw verdicts[0] ?? error;
  });
}

async function extract(archive: string, folder: string): Promise<void> {
  const unpack = new Unpack({
    cwd: folder,
    strict: true,
    // As root the archive would choose whose the files are.
    preserveOwner: false,
    umask: 0o077,
    filter(_, entry) {
      if ("header" in entry) entry.mode = modeOf(entry);
      return true;
    },
  });
  await passThrough(createReadStream(archive), unpack);
}

/** The owner's bits alone; what could be executed still can. */
function modeOf(entry: ReadEntry): number {
  return entry.type === "Directory" || ((entry.mode ?? 0) & 0o100) !== 0 ? 0o700 : 0o600;
}

async function passThrough(source: Readable, parser: Parser): Promise<void> {
  const ended = new Promise<void>((resolve, reject) => {
    parser.on("close", resolve);
    parser.on("error", reject);
    source.on("error", reject);
  });
  source.pipe(parser);
  try {
    await ended;
  } catch (error) {
    throw error instanceof RpxError ? error : unreadable(error);
  } finally {
    source.destroy();
  }
}

function unreadable(error: unknown): unknown {
  const { code, message, tarCode } = error as NodeJS.ErrnoException & { tarCode?: string };
  // The disk's own errors are not the archive's.
  if (tarCode === undefined && typeof code === "string" && /^E[A-Z]+$/.test(code)) return error;
  return new RpxError("bad_request", "the bundle cannot be unpacked", { why: message, cause: error });
}

/** Another transfer of the same bundle may have been first: theirs is as good. */
async function renameOnce(from: string, to: string): Promise<void> {
  await rename(from, to).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error;
  });
}

/** To the disk, files before their folders: the rename that follows must not survive a power cut that they do not. */
async function syncTree(folder: string): Promise<void> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true });
  const paths = entries
    .filter((entry) => entry.isFile() || entry.isDirectory())
    .map((entry) => path.join(entry.parentPath, entry.name));
  const waiting = [...paths, folder].values();
  const work = async () => {
    for (const each of waiting) await syncPath(each);
  };
  await Promise.all(Array.from({ length: SYNC_PARALLEL }, work));
}

async function syncPath(file: string): Promise<void> {
  await using handle = await open(file, "r");
  await handle.sync();
}
