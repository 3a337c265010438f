import { statfsSync, statSync, unlinkSync } from "node:fs";
import { open, rename, rm, statfs } from "node:fs/promises";
import path from "node:path";

export type Ballast = {
  /** Fills the file when there is none and the disk has room for it and as much again. Returns whether it is held. */
  hold(): Promise<boolean>;
  /** Gives the space back to the disk at once; returns the bytes, 0 when it was not held. Synchronous: a result waits for it. */
  release(): number;
  isHeld(): boolean;
};

/** 64 MB: room for the results of running jobs on a disk that is full (F-07). */
export const BALLAST_BYTES = 64 * 1024 * 1024;
/** On a small disk it is at most this part of it. */
const SHARE_OF_DISK = 0.05;
const CHUNK_BYTES = 1024 * 1024;
const NAME = "ballast";

/** Bytes that this user may still write on the disk of a folder. */
export async function freeBytes(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
}

/** Bytes of the file system that holds a folder. */
export function totalBytes(folder: string): number {
  const { blocks, bsize } = statfsSync(folder);
  return blocks * bsize;
}

/**
 * A file that takes up space while there is plenty, so that running jobs' results can be saved when there is none: it is released on a
 * full disk and held again when room is back.
 */
export function createBallast(options: { readonly dataDir: string; readonly bytes: number }): Ballast {
  const file = path.join(options.dataDir, NAME);
  let filling: Promise<boolean> | null = null;

  async function fill(): Promise<boolean> {
    const { blocks, bsize } = await statfs(options.dataDir);
    const bytes = Math.min(options.bytes, Math.floor(blocks * bsize * SHARE_OF_DISK));
    if (bytes === 0 || (await freeBytes(options.dataDir)) < 2 * bytes) return false;
    const part = `${file}.part`;
    try {
      await writeBlocks(part, bytes);
      await rename(part, file);
      return true;
    } catch {
      // The disk filled up meanwhile, or refuses: there is none, and the next call tries again.
      await rm(part, { force: true });
      return false;
    }
  }

  return {
    hold() {
      if (sizeOf(file) > 0) return Promise.resolve(true);
      filling ??= fill().finally(() => {
        filling = null;
      });
      return filling;
    },
    release() {
      const bytes = sizeOf(file);
      if (bytes > 0) unlinkSync(file);
      return bytes;
    },
    isHeld: () => sizeOf(file) > 0,
  };
}

/** Real blocks: a hole would take up nothing, and equal bytes next to nothing where the file system compresses. */
async function writeBlocks(file: string, bytes: number): Promise<void> {
  const chunk = incompressible(Math.min(CHUNK_BYTES, bytes));
  await using handle = await open(file, "w", 0o600);
  for (let written = 0; written < bytes; written += chunk.length)
    await handle.write(chunk, 0, Math.min(chunk.length, bytes - written));
  await handle.sync();
}

/** Bytes without a pattern, by xorshift: the same each time. */
function incompressible(bytes: number): Buffer {
  const words = new Uint32Array(Math.ceil(bytes / 4));
  let state = 0x9e3779b9;
  for (let index = 0; index < words.length; index += 1) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[index] = state;
  }
  return Buffer.from(words.buffer, 0, bytes);
}

function sizeOf(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.size ?? 0;
}
