import { RpxError } from "../../../contract/error.ts";
import { sanitizeLine } from "../../../text/sanitize.ts";

/** What an engine says is somebody else's text (T-32): longer is cut. */
const MAX_TEXT_CHARACTERS = 500;

/** The engine answered, and said no. Its text is safe to show and on one line. */
export class EngineRefusal extends Error {
  override readonly name = "EngineRefusal";
  /** HTTP status of the answer. */
  readonly status: number;

  constructor(status: number, text: string, cause: unknown) {
    super(text, { cause });
    this.status = status;
  }
}

/** An answer did not come in time. */
export class EngineSilence extends Error {
  override readonly name = "EngineSilence";

  constructor(limitMs: number) {
    super(`no reply within ${Math.round(limitMs / 1_000)} s`);
  }
}

/** Text of the engine's, or of a container's, made safe for a line of ours. */
export function safeText(text: string): string {
  const safe = sanitizeLine(text).trim();
  return safe.length > MAX_TEXT_CHARACTERS ? `${safe.slice(0, MAX_TEXT_CHARACTERS)}...` : safe;
}

/** The engine's own refusal as such; everything else as it came. */
export function asRefusal(error: unknown): unknown {
  const { statusCode, json, message } = (error ?? {}) as {
    statusCode?: unknown;
    json?: { message?: unknown } | null;
    message?: unknown;
  };
  if (typeof statusCode !== "number") return error;
  const text = typeof json?.message === "string" ? json.message : String(message ?? "it gave no reason");
  return new EngineRefusal(statusCode, safeText(text), error);
}

/** HTTP status of a refusal; null when it is none. */
export function refusalOf(error: unknown): number | null {
  return error instanceof EngineRefusal ? error.status : null;
}

/** Whether nobody is known to have answered: the connection failed, or the answer did not come in time. */
export function isUnanswered(error: unknown): boolean {
  if (error instanceof EngineSilence) return true;
  const { code } = (error ?? {}) as NodeJS.ErrnoException;
  return typeof code === "string" && UNANSWERED.has(code);
}

const UNANSWERED: ReadonlySet<string> = new Set([
  ...["ECONNREFUSED", "ECONNRESET", "ENOENT", "EPIPE", "EACCES", "EPERM", "ETIMEDOUT"],
  ...["EHOSTUNREACH", "ENETUNREACH", "ENOTFOUND", "EAI_AGAIN", "EAGAIN"],
]);

/** Why the engine cannot be reached, as a sentence. */
export function awaySentence(endpoint: string, error: unknown): string {
  if (error instanceof EngineSilence)
    return `the Docker engine at ${endpoint} does not answer: ${error.message}`;
  const { code, message } = (error ?? {}) as NodeJS.ErrnoException;
  if (code === "EACCES" || code === "EPERM")
    return `this user may not use the Docker engine at ${endpoint} (add it to the group docker)`;
  if (code === "ENOENT" || code === "ECONNREFUSED") return `no Docker engine answers at ${endpoint}`;
  return `the Docker engine at ${endpoint} cannot be used: ${safeText(String(message ?? error))}`;
}

/** What callers get while there is no engine. */
export function awayError(sentence: string, cause?: unknown): RpxError {
  return new RpxError("unavailable", sentence, {
    hint: "start Docker, or name another engine with DOCKER_HOST: rpx doctor",
    ...(cause === undefined ? {} : { cause }),
  });
}
