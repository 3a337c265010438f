import { createHash } from "node:crypto";
import { once } from "node:events";
import { readFile, realpath } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { Header, Pack, ReadEntry, type WriteEntry } from "tar";
import { readIgnoreFile } from "../../../folder/ignore-file.ts";
import { listFolder } from "../../../folder/list.ts";
import { tarOptions } from "../../../folder/tar-options.ts";

/** What an engine gets to build from, as a tar that is made while it is sent. */
export type BuildContext = {
  /** SHA-256 of the tar in hex. The same content gives the same digest, whenever and wherever it was written. */
  digest(signal: AbortSignal): Promise<string>;
  open(): Readable;
};

export type ContextParts = {
  /** Absolute, without links. */
  readonly folder: string;
  /** Paths in the folder, each with the folders above it before it. */
  readonly paths: readonly string[];
  /** Folder of the tar that they go into; empty: none. */
  readonly into: string;
  /** Further files by their path in the tar. */
  readonly files: ReadonlyMap<string, string>;
};

/** Files of the folder belong to this user alone; in an image any user may have to read them. */
const FILE_MODE = 0o644;
const EXECUTABLE_MODE = 0o755;
const OWNER_EXECUTES = 0o100;

/**
 * What of a folder is sent to an engine: as for a bundle, .dockerignore decides, `kept` goes with it whatever that says, `left` never.
 * Throws RpxError `usage` for a link that leads out of it (T-21), `too_large` beyond the caps (T-22).
 */
export async function contextPaths(
  folder: string,
  { kept = [], left = [] }: { readonly kept?: readonly string[]; readonly left?: readonly string[] } = {},
): Promise<{ readonly folder: string; readonly paths: string[] }> {
  const root = await realpath(folder);
  const ignored = await readIgnoreFile(root, [...left, ...kept.map((path) => `!${path}`)]);
  return { folder: root, paths: await listFolder(root, ignored) };
}

/** The text files of a small folder of ours, by their path below `into`. */
export async function readSmallFolder(folder: string, into: string): Promise<Map<string, string>> {
  const { folder: root, paths } = await contextPaths(folder);
  const files = new Map<string, string>();
  for (const path of paths) {
    const text = await readFile(join(root, path), "utf8").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "EISDIR") return null;
      throw error;
    });
    if (text !== null) files.set(`${into}/${path}`, text);
  }
  return files;
}

export function createBuildContext(parts: ContextParts): BuildContext {
  const open = (): Readable => Readable.from(pack(parts));
  return {
    open,
    digest: async (signal) => {
      const hash = createHash("sha256");
      for await (const chunk of open()) {
        signal.throwIfAborted();
        hash.update(chunk as Buffer);
      }
      return hash.digest("hex");
    },
  };
}

async function* pack(parts: ContextParts): AsyncGenerator<Buffer> {
  const tar = new Pack({
    cwd: parts.folder,
    ...tarOptions(),
    onWriteEntry: (entry) => place(entry, parts.into),
  });
  const fed = feed(tar, parts);
  fed.catch((error: unknown) => tar.emit("error", error));
  yield* tar as AsyncIterable<Buffer>;
  await fed;
}

async function feed(tar: Pack, { paths, files }: ContextParts): Promise<void> {
  for (const [path, text] of files) {
    const content = Buffer.from(text);
    const header = new Header({
      path,
      mode: FILE_MODE,
      size: content.length,
      type: "File",
      mtime: new Date(0),
    });
    const entry = new ReadEntry(header);
    const more = tar.write(entry);
    entry.end(content);
    if (!more) await once(tar, "drain");
  }
  for (const path of paths) if (!tar.write(path)) await once(tar, "drain");
  tar.end();
}

/** Entries of the folder go below `into`, readable by all. Those of other files (which have no `stat`) are as they were made. */
function place(entry: WriteEntry, into: string): void {
  if (!entry.stat) return;
  if (into !== "") entry.path = `${into}/${entry.path}`;
  const executes = entry.type === "Directory" || (entry.stat.mode & OWNER_EXECUTES) !== 0;
  entry.stat.mode = executes ? EXECUTABLE_MODE : FILE_MODE;
}
