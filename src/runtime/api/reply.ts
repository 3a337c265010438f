import { httpStatus, type RpxError } from "../../contract/error.ts";
import type { ErrorBody } from "../../contract/schemas/daemon.ts";

export type Headers = Readonly<Record<string, string>>;

/** Where a streamed answer writes. */
export type Sink = {
  /** Resolves true when more can be written, after the peer has read enough; false once it is gone. */
  write(text: string): Promise<boolean>;
  /** Aborted when the peer is gone. */
  readonly closed: AbortSignal;
};

/** What happens once the reply's fate is known; exactly one of the two is called, once. */
export type Delivery = {
  /** The reply was handed to the operating system whole. */
  onSent?(): void;
  /** The connection ended before that: what the reply carried must be put back. */
  onUnsent?(): void;
};

/** What a handler returns. JSON is text already and is sent as it is. */
export type Answer = Delivery &
  (
    | { readonly kind: "json"; readonly status?: number; readonly text: string; readonly headers?: Headers }
    | { readonly kind: "empty"; readonly status: 204; readonly headers?: Headers }
    | {
        readonly kind: "stream";
        readonly status?: number;
        readonly contentType: string;
        readonly headers?: Headers;
        write(sink: Sink): Promise<void>;
      }
  );

/** The answer to an expected failure. */
export function errorAnswer(error: RpxError, headers: Headers = {}): Answer {
  const body: ErrorBody = { error: error.message, code: error.code };
  if (error.why !== undefined) body.why = error.why;
  if (error.hint !== undefined) body.hint = error.hint;
  return {
    kind: "json",
    status: httpStatus(error.code),
    text: JSON.stringify(body),
    headers: { ...failureHeaders(error), ...headers },
  };
}

function failureHeaders(error: RpxError): Headers {
  const headers: Record<string, string> = {};
  if (error.code === "unauthorized") headers["WWW-Authenticate"] = "Bearer";
  if (error.retryAfterSeconds !== undefined) {
    headers["Retry-After"] = String(Math.max(1, Math.ceil(error.retryAfterSeconds)));
  }
  return headers;
}

/** The answer to a bug: it says nothing about the cause, which is in the log. */
export const INTERNAL_ERROR: Answer = { kind: "json", status: 500, text: '{"error":"internal error"}' };

/** The headers that belong to the kind of answer. Lengths are set here: a reply without one would be sent in chunks. */
export function contentHeaders(answer: Answer): Record<string, string | number> {
  if (answer.kind === "json") {
    return { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(answer.text) };
  }
  if (answer.kind === "empty") return {};
  // Proxies must neither keep nor hold back what is written bit by bit.
  return {
    "Content-Type": answer.contentType,
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
  };
}
