import { RpxError } from "../../../contract/error.ts";
import type { Engine } from "./engine.ts";
import { asRefusal, awayError, awaySentence, isUnanswered } from "./engine-errors.ts";

/** A line of JSON that is longer than this is none of the engine's. */
const MAX_LINE_BYTES = 16 * 1024 * 1024;

/**
 * The engine's answer to something that takes its time (build, pull, push): one object a line. Unlike `ask` without a limit on the whole:
 * the signal that `call` was given ends it. Rejects as `ask` does.
 */
export async function* streamMessages(
  engine: Engine,
  call: () => Promise<NodeJS.ReadableStream>,
): AsyncGenerator<Record<string, unknown>> {
  const sentence = engine.away();
  if (sentence !== null) throw awayError(sentence);
  try {
    yield* readMessages(await call());
  } catch (error) {
    if (error instanceof RpxError) throw error;
    throw isUnanswered(error) ? awayError(awaySentence(engine.endpoint, error), error) : asRefusal(error);
  }
}

async function* readMessages(stream: NodeJS.ReadableStream): AsyncGenerator<Record<string, unknown>> {
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
