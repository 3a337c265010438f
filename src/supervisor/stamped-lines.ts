/** Stamped lines in bounded files: what a worker's output becomes, whoever reads it. */
import { mkdirSync, renameSync } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

/** A line beyond this many bytes is cut. */
export const MAX_LINE_BYTES = 16 * 1024;
/** A segment never grows beyond this; the two before it are kept as `.1` and `.2`. */
export const MAX_SEGMENT_BYTES = 10 * 1024 * 1024;
const KEPT_SEGMENTS = 2;
/**
 * A worker that prints faster than this is made to wait by its full pipe, so that a flood costs neither memory nor the
 * processor: `yes` prints 4 GB/s where it is let, and at this rate takes a seventh of a core.
 */
export const MAX_OUTPUT_BYTES_PER_S = 2 * 1024 * 1024;
const OUTPUT_BURST_MS = 250;
/** Stamped lines of this time are written at once: a busy worker prints two for each of thousands of jobs a second. */
const GATHER_MS = 10;

/** Read bytes that are stamped and written at once; as empty lines they become 17 times as many. */
export const MAX_BATCH_BYTES = 64 * 1024;

const NEWLINE = 10;
const CARRIAGE_RETURN = 13;

/** Which pipe a line came from: `o`ut or `e`rror. */
export type OutputSource = "o" | "e";

/** Cuts a byte stream into stamped lines, with one buffer of {@link MAX_LINE_BYTES} for the line that is not at its end. */
export function createStamper(
  source: OutputSource,
  nowMs: () => number,
): { push(chunk: Buffer): string; end(): string } {
  const held = Buffer.allocUnsafe(MAX_LINE_BYTES);
  let heldBytes = 0;
  let droppedBytes = 0;

  const hold = (piece: Buffer): void => {
    const copied = piece.copy(held, heldBytes);
    heldBytes += copied;
    droppedBytes += piece.length - copied;
  };
  const finish = (): string => {
    const end = droppedBytes === 0 ? heldBytes : characterEnd(held, heldBytes);
    const cut = droppedBytes + heldBytes - end;
    const text = lineText(held.subarray(0, end));
    heldBytes = 0;
    droppedBytes = 0;
    return cut === 0 ? text : `${text} [line cut: ${cut} bytes dropped]`;
  };
  const push = (chunk: Buffer): string => {
    const stamp = `${nowMs()}\t${source}\t`;
    let text = "";
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      const piece = chunk.subarray(start, end);
      const whole = heldBytes === 0 && piece.length <= MAX_LINE_BYTES;
      if (!whole) hold(piece);
      text += `${stamp}${whole ? lineText(piece) : finish()}\n`;
      start = end + 1;
    }
    hold(chunk.subarray(start));
    return text;
  };
  const end = (): string => (heldBytes + droppedBytes === 0 ? "" : `${nowMs()}\t${source}\t${finish()}\n`);
  return { push, end };
}

/** Bytes to text: invalid UTF-8 becomes U+FFFD, the return of a CRLF goes. */
function lineText(bytes: Buffer): string {
  const end = bytes.at(-1) === CARRIAGE_RETURN ? bytes.length - 1 : bytes.length;
  return bytes.toString("utf8", 0, end);
}

/** The end of the last whole UTF-8 character at or before `end`. */
function characterEnd(bytes: Buffer, end: number): number {
  let lead = end - 1;
  while (lead > 0 && end - lead < 4 && ((bytes[lead] ?? 0) & 0xc0) === 0x80) lead -= 1;
  const first = bytes[lead] ?? 0;
  const length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc0 ? 2 : 1;
  return lead + length > end ? lead : end;
}

/** Waits when more than the allowed rate was written, after a burst that start-up messages never reach. */
export function createPace(maxBytesPerS: number): (bytes: number) => Promise<void> {
  let paidUntilMs = 0;
  return async (bytes) => {
    const nowMs = performance.now();
    paidUntilMs = Math.max(paidUntilMs, nowMs - OUTPUT_BURST_MS) + (bytes / maxBytesPerS) * 1000;
    if (paidUntilMs > nowMs) await sleep(paidUntilMs - nowMs);
  };
}

export type SegmentFile = { append(bytes: Buffer): Promise<void>; close(): Promise<void> };

/**
 * Appends whole batches one after another. `append` resolves at once while little is gathered, so that the next lines are stamped
 * when they come, and after the write when it is much.
 */
export function createSegmentFile(path: string): SegmentFile {
  let handle: FileHandle | null = null;
  let size = 0;
  let lostBytes = 0;
  let gathered: Buffer[] = [];
  let gatheredBytes = 0;
  let queue: Promise<void> = Promise.resolve();

  const openSegment = async (): Promise<FileHandle> => {
    if (handle !== null) return handle;
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    handle = await open(path, "a", 0o600);
    size = (await handle.stat()).size;
    return handle;
  };
  const close = async (): Promise<void> => {
    const closing = handle;
    handle = null;
    await closing?.close();
  };
  const write = async (bytes: Buffer): Promise<void> => {
    let segment = await openSegment();
    if (size > 0 && size + bytes.length > MAX_SEGMENT_BYTES) {
      await close();
      rotate(path);
      segment = await openSegment();
    }
    try {
      await segment.appendFile(bytes);
      size += bytes.length;
    } catch (error) {
      await segment.truncate(size).catch(() => {});
      throw error;
    }
  };
  const writeOrCount = async (bytes: Buffer): Promise<void> => {
    try {
      await write(lostBytes === 0 ? bytes : Buffer.concat([lossNote(lostBytes), bytes]));
      lostBytes = 0;
    } catch {
      lostBytes += bytes.length;
      await close().catch(() => {});
    }
  };
  const writeGathered = async (): Promise<void> => {
    await sleep(GATHER_MS);
    const bytes = Buffer.concat(gathered);
    gathered = [];
    gatheredBytes = 0;
    await writeOrCount(bytes);
  };
  const append = async (bytes: Buffer): Promise<void> => {
    if (bytes.length === 0) return;
    if (gathered.length === 0) queue = queue.then(writeGathered);
    gathered.push(bytes);
    gatheredBytes += bytes.length;
    if (gatheredBytes >= MAX_BATCH_BYTES) await queue;
  };
  return { append, close: () => queue.then(close).catch(() => {}) };
}

function lossNote(bytes: number): Buffer {
  return Buffer.from(`${Date.now()}\te\trpx: ${bytes} bytes of output could not be written and are lost\n`);
}

function rotate(path: string): void {
  for (let number = KEPT_SEGMENTS; number > 0; number -= 1) {
    renameIfThere(number === 1 ? path : `${path}.${number - 1}`, `${path}.${number}`);
  }
}

function renameIfThere(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}
