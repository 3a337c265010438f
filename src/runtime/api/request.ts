import { isUtf8 } from "node:buffer";
import type { IncomingHttpHeaders } from "node:http";
import type { Readable } from "node:stream";
import { RpxError } from "../../contract/error.ts";
import { type Exchange, signalOf } from "./exchange.ts";

/** One request as a handler sees it. `Principal` is who calls; null on open routes. */
export type Call<Principal> = {
  /** Path parameters by name, decoded. */
  readonly params: Readonly<Record<string, string>>;
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
  /** The raw body; empty when none came, and on routes that stream it. */
  readonly bytes: Buffer;
  readonly principal: Principal;
  /** The peer's address; empty when it is gone already. */
  readonly remoteAddress: string;
  /** Aborted when the client's connection ends before the reply has been sent, also when the server is closed. */
  readonly signal: AbortSignal;
  /** The body of a route that streams it: it fails with `too_large` beyond the route's limit. */
  readonly body?: Readable;
  /** The body as text. Throws `bad_request` when it is no UTF-8. */
  text(): string;
};

/**
 * A {@link Call} over an exchange: what only some handlers read is made when it is read. A class because an object literal defines
 * its accessors anew each time: 1.9 µs against 0.1 (measured), and far more garbage.
 */
export class IncomingCall<Principal> implements Call<Principal> {
  readonly params: Readonly<Record<string, string>>;
  readonly principal: Principal;
  readonly bytes: Buffer;
  declare readonly body?: Readable;
  readonly #exchange: Exchange;
  #query: URLSearchParams | null = null;

  constructor(
    exchange: Exchange,
    params: Readonly<Record<string, string>>,
    principal: Principal,
    bytes: Buffer,
  ) {
    this.#exchange = exchange;
    this.params = params;
    this.principal = principal;
    this.bytes = bytes;
  }

  get headers(): IncomingHttpHeaders {
    return this.#exchange.request.headers;
  }

  get query(): URLSearchParams {
    this.#query ??= readQuery(this.#exchange.request.url ?? "");
    return this.#query;
  }

  get remoteAddress(): string {
    return this.#exchange.request.socket.remoteAddress ?? "";
  }

  get signal(): AbortSignal {
    return signalOf(this.#exchange);
  }

  text(): string {
    return readText(this.bytes);
  }
}

function readQuery(target: string): URLSearchParams {
  const mark = target.indexOf("?");
  return new URLSearchParams(mark < 0 ? "" : target.slice(mark + 1));
}

/** Strict: a replaced character would change a job's input without a word. */
function readText(bytes: Buffer): string {
  if (isUtf8(bytes)) return bytes.toString("utf8");
  throw new RpxError("bad_request", "the body is not UTF-8", { hint: "Send JSON encoded as UTF-8." });
}
