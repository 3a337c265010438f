import type { ClientRequest, IncomingMessage } from "node:http";
import { Readable } from "node:stream";
import { RpxError } from "../contract/error.ts";
import { type Call, DEFAULT_SILENCE_MS, openBody, type Reply, type Send } from "./send.ts";

/** `url`: base of the daemon without a slash at its end. `key`: sent as Bearer; undefined: none is sent. */
export type HttpTarget = { readonly url: string; readonly key: string | undefined };

/**
 * Sends by Node's own HTTP, loaded without the module loader and without a connection pool: what a command that makes one or two
 * requests needs (23 ms less than a client library).
 */
export function createHttpSend(target: HttpTarget): Send {
  return (call) =>
    new Promise((resolve, reject) => {
      call.signal?.throwIfAborted();
      const request = openRequest(target, call);
      const silenceMs = call.silenceMs ?? DEFAULT_SILENCE_MS;
      if (silenceMs > 0) request.setTimeout(silenceMs, () => request.destroy(silent(target, silenceMs)));
      request.once("response", (response) => resolve(toReply(response, call)));
      request.once("error", (error) =>
        reject(call.signal?.aborted ? call.signal.reason : explain(error, target)),
      );
      writeBody(request, call);
    });
}

function openRequest(target: HttpTarget, call: Call): ClientRequest {
  const url = callUrl(target, call);
  const { request } =
    url.protocol === "https:"
      ? process.getBuiltinModule("node:https")
      : process.getBuiltinModule("node:http");
  // No signal here: Node would hide its reason behind an AbortError.
  return request(url, { method: call.method, agent: false, headers: callHeaders(target, call) });
}

/** The headers of a call, with the key. */
export function callHeaders(target: HttpTarget, call: Call): Record<string, string> {
  return {
    ...(target.key === undefined ? {} : { authorization: `Bearer ${target.key}` }),
    ...(typeof call.body === "string"
      ? { "content-type": "application/json", "content-length": String(Buffer.byteLength(call.body)) }
      : {}),
    ...call.headers,
  };
}

/** The address of a call with its query. */
export function callUrl(target: HttpTarget, call: Call): URL {
  const url = new URL(target.url + call.path);
  for (const [name, value] of Object.entries(call.query ?? {})) {
    if (value !== undefined) url.searchParams.set(name, value);
  }
  return url;
}

function writeBody(request: ClientRequest, call: Call): void {
  const stop = (): void => void request.destroy(toError(call.signal?.reason));
  call.signal?.addEventListener("abort", stop, { once: true });
  request.once("close", () => call.signal?.removeEventListener("abort", stop));
  const body = openBody(call);
  if (!(body instanceof Readable)) {
    request.end(body);
    return;
  }
  body.once("error", (error) => request.destroy(error));
  body.pipe(request);
}

function toError(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error(String(reason));
}

/** A body that is cut off by the signal ends with the signal's reason. */
function toReply(response: IncomingMessage, call: Call): Reply {
  const { signal } = call;
  const stop = (): void => void response.destroy(toError(signal?.reason));
  signal?.addEventListener("abort", stop, { once: true });
  response.once("close", () => signal?.removeEventListener("abort", stop));
  return { status: response.statusCode ?? 0, headers: response.headers, body: response };
}

/** What is said when the daemon sent nothing for too long. */
export function silent(target: HttpTarget, silenceMs: number): RpxError {
  return new RpxError("timed_out", `the daemon at ${target.url} does not answer`, {
    why: `nothing came for ${silenceMs / 1_000} s`,
    hint: "rpx doctor",
  });
}

const CONNECTION_FAILURES: Readonly<Record<string, string>> = {
  ECONNREFUSED: "nothing listens there",
  ENOTFOUND: "its host name is unknown",
  EAI_AGAIN: "its host name cannot be looked up now",
  ECONNRESET: "the connection was closed before an answer",
  EHOSTUNREACH: "its host cannot be reached",
  ETIMEDOUT: "its host does not answer",
};

/** A failure of the connection in words. An RpxError stays as it is. */
export function explain(error: unknown, target: HttpTarget): RpxError {
  if (error instanceof RpxError) return error;
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const message = error instanceof Error ? error.message : String(error);
  return new RpxError("unreachable", `no daemon answers at ${target.url}`, {
    why: CONNECTION_FAILURES[code] ?? (message || code),
    hint: code === "ECONNREFUSED" ? "start it with: rpx serve" : "rpx doctor",
    cause: error,
  });
}
