import type { z } from "zod";
import { RpxError } from "../../contract/error.ts";
import type { Answer } from "./reply.ts";
import type { Call } from "./request.ts";

export function json(value: unknown): Answer {
  return jsonText(JSON.stringify(value));
}

export function jsonText(text: string): Answer {
  return { kind: "json", text };
}

/** The body by its schema; the refusal names the first field that is wrong. */
export function parse<S extends z.ZodType>(schema: S, call: Call<unknown>): z.infer<S> {
  let value: unknown;
  try {
    value = JSON.parse(call.text());
  } catch {
    throw new RpxError("bad_request", "the body is not valid JSON");
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new RpxError(
    "bad_request",
    `${issue?.path.join(".") || "the body"}: ${issue?.message ?? "not as expected"}`,
  );
}
