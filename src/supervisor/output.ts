/** A worker's pipes become stamped lines in bounded files. */
import type { Readable } from "node:stream";
import {
  createPace,
  createSegmentFile,
  createStamper,
  MAX_BATCH_BYTES,
  MAX_OUTPUT_BYTES_PER_S,
  type OutputSource,
} from "./stamped-lines.ts";

export type Capture = {
  /** Resolves when both pipes ended and every line is written. Never rejects. */
  readonly done: Promise<void>;
  /** Stops reading: a process that left its group may hold the pipes open for ever. */
  abandon(): void;
};

/**
 * Writes `<epoch ms>\t<o|e>\t<text>\n` lines into `logPath` until both pipes end. Invalid UTF-8 is replaced; a line is
 * stamped when its end arrives. A disk that refuses drops lines and says later how many bytes.
 */
export function captureOutput(options: {
  logPath: string;
  stdout: Readable;
  stderr: Readable;
  nowMs: () => number;
  /** Written bytes per second after a burst; {@link MAX_OUTPUT_BYTES_PER_S} unless told. */
  maxBytesPerS?: number;
}): Capture {
  const file = createSegmentFile(options.logPath);
  const pace = createPace(options.maxBytesPerS ?? MAX_OUTPUT_BYTES_PER_S);
  const pump = async (stream: Readable, source: OutputSource): Promise<void> => {
    const stamper = createStamper(source, options.nowMs);
    try {
      for await (const chunk of stream) {
        for (let start = 0; start < chunk.length; start += MAX_BATCH_BYTES) {
          const text = Buffer.from(stamper.push(chunk.subarray(start, start + MAX_BATCH_BYTES)));
          await file.append(text);
          await pace(text.length);
        }
      }
    } catch {
      // The pipe was abandoned: what came is kept.
    }
    await file.append(Buffer.from(stamper.end()));
  };
  const done = Promise.all([pump(options.stdout, "o"), pump(options.stderr, "e")]).then(() => file.close());
  const abandon = (): void => {
    options.stdout.destroy();
    options.stderr.destroy();
  };
  return { done, abandon };
}
