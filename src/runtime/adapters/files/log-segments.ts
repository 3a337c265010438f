import type { Stats } from "node:fs";
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { type FileHandle, open, stat } from "node:fs/promises";
import type { WorkerId } from "../../core/model.ts";
import type { LogLine } from "../../ports/log-store.ts";

/** A worker's log: the current segment and the older ones it was renamed to, newest first. */
export const SEGMENT_SUFFIXES = ["", ".1", ".2"] as const;
/** Read at a time, from the end backwards. */
const CHUNK_BYTES = 64 * 1024;
/** A longer line is none of the supervisor's, which cuts at 16 KiB: its end is dropped. */
const MAX_LINE_BYTES = 64 * 1024;
const NEWLINE = 10;
const LINE = /^(\d{1,15})\t([oe])\t(.*)$/s;

export type TailOptions = {
  readonly lines: number;
  readonly bytes: number;
  readonly sinceMs: number;
  readonly untilMs: number;
  /** Reads each segment, named by {@link segmentId}, up to this offset, and no others. Null: all there is. */
  readonly limits: ReadonlyMap<string, number> | null;
};

/** Names a segment whatever it is renamed to. The time of its making tells it from a later file that got its inode. */
export function segmentId(stats: Stats): string {
  return `${stats.ino}-${stats.birthtimeMs}`;
}

/** A wall clock that steps back leaves stamps out of order: reading on this far finds the lines before the step. */
const STEP_BACK_MS = 5_000;

/** Reads `<epoch ms>\t<o|e>\t<text>`; null for anything else. */
export function parseLine(text: string, workerId: WorkerId): LogLine | null {
  const parts = LINE.exec(text);
  if (parts === null) return null;
  const source = parts[2] === "o" ? "stdout" : "stderr";
  return { tsMs: Number(parts[1]), source, workerId, line: parts[3] ?? "" };
}

/**
 * The last lines of a worker within a span of time, in the order they were written. Reads backwards and stops when it has enough,
 * so 100 lines of a 30 MB log cost one chunk. Safe while the supervisor renames segments: each file is read once.
 */
export async function readTail(path: string, workerId: WorkerId, options: TailOptions): Promise<LogLine[]> {
  const newestFirst: LogLine[] = [];
  const seen = new Set<string>();
  let leftBytes = options.bytes;
  for (const suffix of SEGMENT_SUFFIXES) {
    const handle = await openIfThere(path + suffix);
    if (handle === null) continue;
    await using segment = handle;
    const stats = await segment.stat();
    const id = segmentId(stats);
    if (seen.has(id)) continue;
    seen.add(id);
    const end = options.limits === null ? stats.size : Math.min(stats.size, options.limits.get(id) ?? 0);
    for await (const text of linesBackward(segment, end)) {
      const line = parseLine(text, workerId);
      if (line === null || line.tsMs > options.untilMs) continue;
      if (line.tsMs < options.sinceMs - STEP_BACK_MS) return newestFirst.reverse();
      if (line.tsMs < options.sinceMs) continue;
      newestFirst.push(line);
      leftBytes -= text.length;
      if (newestFirst.length >= options.lines || leftBytes <= 0) return newestFirst.reverse();
    }
  }
  return newestFirst.reverse();
}

/** Every whole line before `end`, last one first. What follows the last line break is still being written, and left out. */
async function* linesBackward(handle: FileHandle, end: number): AsyncGenerator<string> {
  let position = await lineEnd(handle, end);
  let rest: Buffer = Buffer.alloc(0);
  if (position === 0) return;
  // Without the last line break, so that what is held always is an unended line.
  position -= 1;
  while (position > 0) {
    const length = Math.min(CHUNK_BYTES, position);
    position -= length;
    rest = Buffer.concat([await readAt(handle, position, length), rest]);
    for (let at = rest.lastIndexOf(NEWLINE); at !== -1; at = rest.lastIndexOf(NEWLINE)) {
      yield rest.toString("utf8", at + 1);
      rest = rest.subarray(0, at);
    }
    rest = rest.subarray(0, MAX_LINE_BYTES);
  }
  yield rest.toString("utf8");
}

/** The offset behind the last line break before `end`; 0 when there is none within the last chunks. */
export async function lineEnd(handle: FileHandle, end: number): Promise<number> {
  for (let position = end; position > 0; ) {
    const length = Math.min(CHUNK_BYTES, position);
    position -= length;
    const at = (await readAt(handle, position, length)).lastIndexOf(NEWLINE);
    if (at !== -1) return position + at + 1;
  }
  return 0;
}

/** Up to `length` bytes at an offset; fewer at the end of the file. */
export async function readAt(handle: FileHandle, position: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  const { bytesRead } = await handle.read(buffer, 0, length, position);
  return buffer.subarray(0, bytesRead);
}

/** Null when there is no such file. */
export async function openIfThere(path: string): Promise<FileHandle | null> {
  return open(path, "r").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    throw error;
  });
}

export type Segment = { readonly path: string; readonly id: string; readonly size: number };

/** Each segment that exists, newest first; one that is being renamed meanwhile is found once. */
export async function segmentsOf(path: string): Promise<Segment[]> {
  const found = new Map<string, Segment>();
  for (const suffix of SEGMENT_SUFFIXES) {
    const stats = await stat(path + suffix).catch(() => null);
    const id = stats === null ? "" : segmentId(stats);
    if (stats !== null && !found.has(id)) found.set(id, { path: path + suffix, id, size: stats.size });
  }
  return [...found.values()];
}

/** The end of a worker's newest segment that has something, as lines. Synchronous: at most `bytes` are read. */
export function readEndSync(path: string, workerId: WorkerId, bytes: number): LogLine[] {
  for (const suffix of SEGMENT_SUFFIXES) {
    const text = endTextSync(path + suffix, bytes);
    if (text === "") continue;
    return text.split("\n").flatMap((line) => parseLine(line, workerId) ?? []);
  }
  return [];
}

function endTextSync(path: string, bytes: number): string {
  let descriptor: number;
  try {
    descriptor = openSync(path, "r");
  } catch {
    return "";
  }
  try {
    const { size } = fstatSync(descriptor);
    const buffer = Buffer.alloc(Math.min(bytes, size));
    const read = readSync(descriptor, buffer, 0, buffer.length, size - buffer.length);
    return buffer.toString("utf8", 0, read);
  } finally {
    closeSync(descriptor);
  }
}
