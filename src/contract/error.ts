/**
 * The one catalogue of expected failures: code -> HTTP status -> exit code.
 * Exit codes are documented in rpx(1) and never renumbered.
 */
const CATALOGUE = {
  bad_request: { status: 400, exit: 2 },
  unauthorized: { status: 401, exit: 4 },
  forbidden: { status: 403, exit: 4 },
  not_found: { status: 404, exit: 3 },
  method_not_allowed: { status: 405, exit: 2 },
  conflict: { status: 409, exit: 6 },
  too_large: { status: 413, exit: 2 },
  unsupported_media: { status: 415, exit: 2 },
  misdirected: { status: 421, exit: 4 },
  rate_limited: { status: 429, exit: 8 },
  internal: { status: 500, exit: 1 },
  unavailable: { status: 503, exit: 9 },
  no_capacity: { status: 503, exit: 9 },
  usage: { status: 400, exit: 2 },
  unreachable: { status: 502, exit: 5 },
  version_mismatch: { status: 409, exit: 6 },
  release_failed: { status: 200, exit: 2 },
  job_failed: { status: 200, exit: 7 },
  timed_out: { status: 504, exit: 8 },
  interrupted: { status: 499, exit: 130 },
} as const satisfies Record<string, { status: number; exit: number }>;

/** Every code an {@link RpxError} can carry. */
export type ErrorCode = keyof typeof CATALOGUE;

/** Optional parts of an {@link RpxError}: why it happened, what to try next, and for how long to wait. */
export type ErrorDetails = {
  /** Why it happened: one sentence. */
  readonly why?: string;
  /** What the user can do next: one sentence or a command. */
  readonly hint?: string;
  /** Seconds until a repeat may succeed; becomes `Retry-After`. */
  readonly retryAfterSeconds?: number;
  /** What the program that failed printed last. */
  readonly lines?: readonly string[];
  readonly cause?: unknown;
};

/** An expected failure: what happened, why, and what next. Anything else that is thrown is a bug. */
export class RpxError extends Error {
  override readonly name = "RpxError";
  readonly code: ErrorCode;
  readonly why: string | undefined;
  readonly hint: string | undefined;
  readonly retryAfterSeconds: number | undefined;
  readonly lines: readonly string[];

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.why = details.why;
    this.hint = details.hint;
    this.retryAfterSeconds = details.retryAfterSeconds;
    this.lines = details.lines ?? [];
  }
}

/** The HTTP status of a code. */
export function httpStatus(code: ErrorCode): number {
  return CATALOGUE[code].status;
}

/** The exit code of a code. */
export function exitCode(code: ErrorCode): number {
  return CATALOGUE[code].exit;
}

/** Whether a text names a code of the catalogue: used on errors that arrive over HTTP. */
export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(CATALOGUE, text);
}

/** What happened and why, as part of a sentence. */
export function causeOf(error: unknown): string {
  if (error instanceof RpxError) return error.why ? `${error.message}, ${error.why}` : error.message;
  return error instanceof Error ? error.message : String(error);
}
