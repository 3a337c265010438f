import type { IncomingHttpHeaders } from "node:http";
import { Readable } from "node:stream";
import type { Method } from "../contract/routes.ts";

/** One request. `path` is encoded already; `query` is not, and its undefined members are left out. */
export type Call = {
  readonly method: Method;
  readonly path: string;
  readonly query?: Readonly<Record<string, string | undefined>>;
  /** JSON text, or the bytes of a bundle; those can be sent again only where a function opens them anew. */
  readonly body?: string | Readable | (() => Readable);
  /** Whether a repeat does no harm when the first may have arrived; absent: GET, PUT and DELETE. */
  readonly isRepeatable?: boolean;
  readonly headers?: Readonly<Record<string, string>>;
  /** Longest silence of the daemon in ms; 0: none is too long. */
  readonly silenceMs?: number;
  readonly signal?: AbortSignal;
};

/** What came back: a status below 400 or not, and a body still to be read. */
export type Reply = {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Readable;
};

/**
 * Sends one request. Rejects with RpxError `unreachable` when no answer came, `timed_out` after the silence, and with the signal's reason
 * when that stopped it; an answer of any status resolves.
 */
export type Send = (call: Call) => Promise<Reply>;

/** Longest silence before an answer unless a call says otherwise. */
export const DEFAULT_SILENCE_MS = 30_000;

/** Whether a call's body can be sent a second time. */
export function isReplayable({ body }: Call): boolean {
  return !(body instanceof Readable);
}

/** Whether a call may be sent again though the first may have arrived. */
export function isRepeatable(call: Call): boolean {
  const byMethod = call.method === "GET" || call.method === "PUT" || call.method === "DELETE";
  return isReplayable(call) && (call.isRepeatable ?? byMethod);
}

/** A call's body for one attempt. */
export function openBody({ body }: Call): string | Readable | undefined {
  return typeof body === "function" ? body() : body;
}
