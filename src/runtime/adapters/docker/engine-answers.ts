import { RpxError } from "../../../contract/error.ts";
import { sanitizeLine } from "../../../text/sanitize.ts";

/** A line of JSON that is longer than this is none of the engine's. */
const MAX_LINE_BYTES = 16 * 1024 * 1024;
const MAX_TEXT_CHARACTERS = 500;

/** The engine's answers that come line by line (build, pull, push), one JSON object each. */
export async function* readMessages(stream: NodeJS.ReadableStream): AsyncGenerator<Record<string, unknown>> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of stream) {
    rest = rest.length === 0 ? Buffer.from(chunk as Buffer) : Buffer.concat([rest, chunk as Buffer]);
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
      const line = rest.subarray(0, end);
      rest = rest.subarray(end + 1);
      if (line.length > 1) yield messageOf(line);
    }
    if (rest.length > MAX_LINE_BYTES) throw new Error("the engine sent a line without an end");
  }
  if (rest.toString().trim() !== "") yield messageOf(rest);
}

function messageOf(line: Buffer): Record<string, unknown> {
  const value: unknown = JSON.parse(line.toString("utf8"));
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

/** The HTTP status of an engine's refusal; null when it was not the engine that refused. */
export function statusOf(error: unknown): number | null {
  const status = (error as { statusCode?: unknown } | null)?.statusCode;
  return typeof status === "number" ? status : null;
}

/** What an engine says of a failure, as text for people: it is not ours (T-32). */
export function reasonOf(error: unknown): string {
  const { json, message } = (error ?? {}) as { json?: { message?: unknown } | null; message?: unknown };
  const text = typeof json?.message === "string" ? json.message : String(message ?? error);
  return sanitizeLine(text.replace(/^\(HTTP code \d+\) [^-]*- /, ""))
    .trim()
    .slice(0, MAX_TEXT_CHARACTERS);
}

/** The same error, or, where no engine answered, an RpxError `unavailable` that says so. */
export function unlessAway(error: unknown): unknown {
  if (error instanceof RpxError || statusOf(error) !== null) return error;
  const { code, syscall } = (error ?? {}) as NodeJS.ErrnoException;
  if (code === undefined || (syscall !== "connect" && code !== "ECONNRESET" && code !== "EPIPE"))
    return error;
  return new RpxError("unavailable", "the Docker engine does not answer", {
    why: reasonOf(error),
    hint: "start it, or name another with DOCKER_HOST: rpx doctor",
    cause: error,
  });
}

/** The answer of the engine, or an RpxError `unavailable` when it does not come in time. The call itself goes on. */
export async function withinMs<T>(answer: Promise<T>, limitMs: number, what: string): Promise<T> {
  const limit = AbortSignal.timeout(limitMs);
  const late = new Promise<never>((_, reject) => {
    limit.addEventListener("abort", () => {
      const why = `nothing came back within ${Math.round(limitMs / 1_000)} s`;
      reject(new RpxError("unavailable", `the Docker engine did not ${what}`, { why, hint: "rpx doctor" }));
    });
  });
  try {
    return await Promise.race([answer, late]);
  } catch (error) {
    throw unlessAway(error);
  }
}
