import { RpxError } from "../../contract/error.ts";
import { EXECUTION_TIMEOUT_RANGE_MS, MAX_DEPTH } from "../../contract/schemas/job.ts";
import { formatDuration, parseDuration } from "../../text/duration.ts";
import { readObject, spliceObject } from "../../text/json-text.ts";

/** The body of /run: the input as it was written, and the policy. Throws RpxError `usage` for a time-out out of range. */
export function requestBody(input: string, executionTimeout: string | undefined): string {
  const members: [string, string][] = [["input", input]];
  if (executionTimeout !== undefined) {
    members.push(["policy", JSON.stringify({ executionTimeout: readTimeout(executionTimeout) })]);
  }
  return spliceObject(members);
}

/** Whether an input looks like a whole request, whose handler would find it one level too deep. */
export function looksLikeRequest(input: string): boolean {
  const read = readObject(input, { maxDepth: MAX_DEPTH.input });
  return read.ok && read.members.size === 1 && read.members.has("input");
}

function readTimeout(text: string): number {
  const ms = parseDuration(text);
  const { min, max } = EXECUTION_TIMEOUT_RANGE_MS;
  if (ms !== null && ms >= min && ms <= max) return ms;
  throw new RpxError("usage", `--execution-timeout ${JSON.stringify(text)} is not possible`, {
    why: `it has to be a duration between ${formatDuration(min)} and ${formatDuration(max)}`,
    hint: "--execution-timeout 30s",
  });
}
