import type { OutputSource } from "../../../supervisor/stamped-lines.ts";

/** One piece of output as the engine keeps it: a line with its break, or a part of a long one without. */
export type LogPiece = { readonly source: OutputSource; readonly tsMs: number; readonly bytes: Buffer };

/** Stream number, three zeroes, length (big endian). */
const HEADER_BYTES = 8;
/** The engine cuts output at 16 KiB and puts a time before each piece. More is none of an engine's. */
const MAX_PAYLOAD_BYTES = 1024 * 1024;
const STDERR = 2;
const SPACE = 32;

/**
 * Cuts the engine's stream of a container's output, asked for with times, into pieces. The reader holds at most one piece. Throws on what
 * is no such stream.
 */
export function createFrameReader(): (chunk: Buffer) => LogPiece[] {
  let held: Buffer = Buffer.alloc(0);
  return (chunk) => {
    held = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
    const pieces: LogPiece[] = [];
    for (
      let length = frameLength(held);
      length !== null && held.length >= length;
      length = frameLength(held)
    ) {
      pieces.push(pieceOf(held[0] === STDERR ? "e" : "o", held.subarray(HEADER_BYTES, length)));
      held = held.subarray(length);
    }
    return pieces;
  };
}

/** Of the frame that begins the bytes, header included; null while the header is not there. */
function frameLength(bytes: Buffer): number | null {
  if (bytes.length < HEADER_BYTES) return null;
  const payloadBytes = bytes.readUInt32BE(4);
  if (payloadBytes > MAX_PAYLOAD_BYTES || (bytes[0] ?? 0) > STDERR)
    throw new Error("the engine's log stream cannot be read");
  return HEADER_BYTES + payloadBytes;
}

function pieceOf(source: OutputSource, payload: Buffer): LogPiece {
  const space = payload.indexOf(SPACE);
  const tsMs = Date.parse(payload.toString("latin1", 0, Math.max(space, 0)));
  if (space < 0 || Number.isNaN(tsMs)) throw new Error("the engine's log stream has a line without its time");
  return { source, tsMs, bytes: payload.subarray(space + 1) };
}
