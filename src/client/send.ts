import type { IncomingHttpHeaders } from "node:http";
import type { Readable } from "node:stream";
import type { Method } from "../contract/routes.ts";

/** One request. `path` is encoded already; `query` is not, and its undefined members are left out. */
export type Call = {
  readonly method: Method;
  readonly path: string;
  readonly query?: Readonly<Record<string, string | undefined>>;
  /** JSON text, or the bytes of a bundle. */
  readonly body?: string | Readable;
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
