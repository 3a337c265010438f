import { createHash } from "node:crypto";
import { createReadStream, createWriteStream } from "node:fs";
import { mkdtemp, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Readable, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { Pack } from "tar";
import { readIgnoreFile } from "../folder/ignore-file.ts";
import { listFolder } from "../folder/list.ts";
import { tarOptions } from "../folder/tar-options.ts";

/** A folder as a tar in a private file, which is gone after `dispose`. */
export type PackedFolder = {
  /** SHA-256 of the tar in hex. The same content gives the same digest, whenever and by whomever it was written. */
  readonly digest: string;
  readonly bytes: number;
  open(): Readable;
  dispose(): Promise<void>;
};

/**
 * Packs a folder as Docker would send it: .dockerignore decides, links stay links. Throws RpxError `usage` for a link that
 * leads out of the folder (T-21), for what is no file, folder or link, and `too_large` beyond the caps. `kept` are files that go with it
 * whatever .dockerignore says: the Dockerfile.
 */
export async function packFolder(folder: string, kept: readonly string[] = []): Promise<PackedFolder> {
  const root = await realpath(folder);
  const ignored = await readIgnoreFile(
    root,
    kept.map((path) => `!${path}`),
  );
  const paths = await listFolder(root, ignored);
  const scratch = await mkdtemp(join(tmpdir(), "rpx-pack-"));
  const dispose = (): Promise<void> => rm(scratch, { recursive: true, force: true });
  const file = join(scratch, "folder.tar");
  try {
    const { digest, bytes } = await writeTar({ root, paths, file });
    return { digest, bytes, open: () => createReadStream(file), dispose };
  } catch (error) {
    await dispose();
    throw error;
  }
}

async function writeTar(job: {
  root: string;
  paths: readonly string[];
  file: string;
}): Promise<{ digest: string; bytes: number }> {
  const pack = new Pack({ cwd: job.root, ...tarOptions() });
  const hash = createHash("sha256");
  let bytes = 0;
  const count = new Transform({
    transform: (chunk: Buffer, _encoding, done) => {
      hash.update(chunk);
      bytes += chunk.length;
      done(null, chunk);
    },
  });
  const written = pipeline(pack, count, createWriteStream(job.file, { flags: "wx", mode: 0o600 }));
  for (const path of job.paths) pack.write(path);
  pack.end();
  await written;
  return { digest: hash.digest("hex"), bytes };
}
