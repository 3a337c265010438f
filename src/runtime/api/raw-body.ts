import type { IncomingMessage } from "node:http";
import { Readable } from "node:stream";
import { RpxError } from "../../contract/error.ts";

/** Whether the headers announce a body. */
export function announcesBody(request: IncomingMessage): boolean {
  const { headers } = request;
  if (headers["transfer-encoding"] !== undefined) return true;
  const length = headers["content-length"];
  return length !== undefined && length !== "0";
}

/** Refuses codings: what is counted on the wire is then what is kept, and there is nothing to inflate. */
export function refuseCoded(request: IncomingMessage): void {
  const { headers } = request;
  const transfer = headers["transfer-encoding"];
  if (transfer !== undefined && transfer.toLowerCase() !== "chunked") {
    throw new RpxError("bad_request", "the only transfer coding read here is chunked");
  }
  const coding = headers["content-encoding"];
  if (coding !== undefined && coding.toLowerCase() !== "identity") {
    throw new RpxError("unsupported_media", "compressed bodies are not read", {
      hint: "Send the body without Content-Encoding.",
    });
  }
}

function tooLarge(limitBytes: number): RpxError {
  return new RpxError("too_large", `the body is larger than ${limitBytes} bytes`, {
    hint: "Put large data into object storage and send its URL.",
  });
}

function cutShort(): RpxError {
  return new RpxError("bad_request", "the connection ended before the body did");
}

/** Throws `too_large` before a byte is read when the announced length says so. */
export function refuseAnnounced(request: IncomingMessage, limitBytes: number): void {
  if (Number(request.headers["content-length"] ?? 0) > limitBytes) throw tooLarge(limitBytes);
}

/**
 * The whole body, counted on the wire. Rejects with `too_large` and leaves the rest unread, so that the caller can reply and
 * {@link discardBody}; with `bad_request` when the sender goes away.
 */
export function readBody(request: IncomingMessage, limitBytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    const take = (chunk: Buffer): void => {
      bytes += chunk.length;
      chunks.push(chunk);
      if (bytes <= limitBytes) return;
      request.off("data", take).pause();
      reject(tooLarge(limitBytes));
    };
    // The listeners stay: most bodies are read to their end, after which nothing calls them.
    request.on("data", take);
    request.on("end", () => resolve(joined(chunks, bytes)));
    request.on("error", () => reject(cutShort()));
  });
}

function joined(chunks: readonly Buffer[], bytes: number): Buffer {
  const [only] = chunks;
  return chunks.length === 1 && only !== undefined ? only : Buffer.concat(chunks, bytes);
}

type BodyListeners = {
  readonly take: (chunk: Buffer) => void;
  readonly done: () => void;
  readonly lost: () => void;
};

/** Returns the function that stops listening and reading. A no-op `error` listener stays: a late reset must not be thrown. */
function listen(request: IncomingMessage, { take, done, lost }: BodyListeners): () => void {
  request.on("data", take).on("end", done).on("error", lost).on("close", lost);
  return () => {
    request.off("data", take).off("end", done).off("error", lost).off("close", lost);
    request.on("error", ignore).pause();
  };
}

function ignore(): void {}

/** The body as a stream that fails with `too_large` beyond the limit. Its reader sets the pace of the sender. */
export function streamBody(request: IncomingMessage, limitBytes: number): Readable {
  let bytes = 0;
  const take = (chunk: Buffer): void => {
    bytes += chunk.length;
    if (bytes > limitBytes) body.destroy(tooLarge(limitBytes));
    else if (!body.push(chunk)) request.pause();
  };
  const done = (): void => {
    body.push(null);
  };
  const lost = (): void => {
    if (!request.readableEnded) body.destroy(cutShort());
  };
  const body = new Readable({
    read: () => {
      request.resume();
    },
    destroy: (error, callback) => {
      unlisten();
      callback(error);
    },
  });
  const unlisten = listen(request, { take, done, lost });
  request.pause();
  // Nobody may be listening when the sender goes away before the handler reads.
  body.on("error", ignore);
  return body;
}

/** Reads and drops what is left of the body. Resolves at its end, when the sender is gone, or beyond `capBytes`. */
export async function discardBody(request: IncomingMessage, capBytes: number): Promise<void> {
  if (request.complete || request.destroyed) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  let bytes = 0;
  const take = (chunk: Buffer): void => {
    bytes += chunk.length;
    if (bytes > capBytes) resolve();
  };
  const unlisten = listen(request, { take, done: resolve, lost: resolve });
  request.resume();
  return promise.finally(unlisten);
}
