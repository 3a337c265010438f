import type { Readable } from "node:stream";
import { type ErrorCode, isErrorCode, RpxError } from "../contract/error.ts";
import type { Reply } from "./send.ts";

/** Longest body that is read whole: the largest result (20 MB) with its input and what stands around them, and room. */
const MAX_BODY_BYTES = 100_000_000;
/** Longest line of a stream of lines: a log line has 16 KiB at most. */
const MAX_LINE_CHARS = 1_000_000;

const CODE_OF_STATUS: Readonly<Record<number, ErrorCode>> = {
  400: "bad_request",
  401: "unauthorized",
  403: "forbidden",
  404: "not_found",
  405: "method_not_allowed",
  409: "conflict",
  413: "too_large",
  415: "unsupported_media",
  421: "misdirected",
  429: "rate_limited",
  500: "internal",
  503: "unavailable",
  504: "timed_out",
};

const HINT_OF_CODE: Partial<Record<ErrorCode, string>> = {
  unauthorized: "set RPX_API_KEY to a key of this daemon, or rpx context add NAME --url URL",
  forbidden: "ask for a key of a wider scope: rpx key create NAME --scope deploy",
};

/** The whole body as text. */
export async function readText(body: Readable): Promise<string> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of body) {
    bytes += part.length;
    if (bytes > MAX_BODY_BYTES)
      throw new RpxError("too_large", `the daemon's answer is over ${MAX_BODY_BYTES} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString("utf8");
}

/** Resolves when the reply is a success; else throws what its body says, as an RpxError of the catalogue. */
export async function expectSuccess(reply: Reply): Promise<void> {
  if (reply.status >= 200 && reply.status < 300) return;
  const text = await readText(reply.body);
  throw toRpxError(reply, readErrorBody(text));
}

/** What an error body holds, none of it sure. */
export type ErrorParts = {
  readonly error?: unknown;
  readonly code?: unknown;
  readonly why?: unknown;
  readonly hint?: unknown;
};

function readErrorBody(text: string): ErrorParts {
  try {
    const body: unknown = JSON.parse(text);
    return typeof body === "object" && body !== null ? body : {};
  } catch {
    return {};
  }
}

function toRpxError(reply: Reply, body: ErrorParts): RpxError {
  const retryAfterSeconds = Number(reply.headers["retry-after"]);
  return refusalOf(body, {
    status: reply.status,
    ...(Number.isFinite(retryAfterSeconds) ? { retryAfterSeconds } : {}),
  });
}

/** An error body as an RpxError; without a code of the catalogue the status decides. */
export function refusalOf(
  body: ErrorParts,
  { status, retryAfterSeconds }: { readonly status?: number; readonly retryAfterSeconds?: number } = {},
): RpxError {
  const code =
    typeof body.code === "string" && isErrorCode(body.code)
      ? body.code
      : (CODE_OF_STATUS[status ?? 500] ?? ((status ?? 500) >= 500 ? "internal" : "bad_request"));
  const message = typeof body.error === "string" ? body.error : `the daemon answered ${status}`;
  const hint = typeof body.hint === "string" ? body.hint : HINT_OF_CODE[code];
  return new RpxError(code, message, {
    ...(typeof body.why === "string" ? { why: body.why } : {}),
    ...(hint === undefined ? {} : { hint }),
    ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
  });
}

/** The lines of a body as they come, without their breaks; empty ones are left out. */
export async function* readLines(body: Readable): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const part of body) {
    rest += decoder.decode(part, { stream: true });
    const lines = rest.split("\n");
    rest = lines.pop() ?? "";
    if (rest.length > MAX_LINE_CHARS)
      throw new RpxError("too_large", "the daemon sent a line without an end");
    for (const line of lines) if (line.trim() !== "") yield line;
  }
  if (rest.trim() !== "") yield rest;
}
