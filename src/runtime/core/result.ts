import { readObject, repairNonFinite } from "../../text/json-text.ts";

/** Deepest nesting that a result may have. */
export const MAX_RESULT_DEPTH = 1_000;

/** What a post to job-done says, judged by its body alone. */
export type Report =
  | { readonly kind: "progress"; readonly outputJson: string }
  | { readonly kind: "output"; readonly outputJson: string | null; readonly refresh: boolean }
  | {
      readonly kind: "error";
      readonly error: string;
      readonly outputJson: string | null;
      readonly refresh: boolean;
    }
  /** Not JSON even after repair: the job fails at once instead of hanging (F-31). */
  | { readonly kind: "unreadable"; readonly reason: string };

/**
 * Judges a result post. Python's NaN and infinities become null; any non-null `error` fails the job, whatever its type;
 * an empty object is a result without output.
 */
export function readReport(body: string): Report {
  const members = readMembers(body);
  if (typeof members === "string") return { kind: "unreadable", reason: members };
  const error = members.get("error");
  const outputJson = members.get("output") ?? null;
  const refresh = members.get("stopPod") === "true";
  if (error !== undefined && error !== "null")
    return { kind: "error", error: textOf(error), outputJson, refresh };
  if (members.get("status") === '"IN_PROGRESS"')
    return { kind: "progress", outputJson: outputJson ?? "null" };
  return { kind: "output", outputJson, refresh };
}

/** The chunk of a job-stream post as raw JSON, or the reason why there is none. */
export function readChunk(body: string): { readonly chunkJson: string } | { readonly reason: string } {
  const members = readMembers(body);
  if (typeof members === "string") return { reason: members };
  return { chunkJson: members.get("output") ?? "null" };
}

function readMembers(body: string): ReadonlyMap<string, string> | string {
  const strict = readObject(body, { maxDepth: MAX_RESULT_DEPTH });
  if (strict.ok) return strict.members;
  const repaired = repairNonFinite(body);
  if (repaired === body) return strict.reason;
  const second = readObject(repaired, { maxDepth: MAX_RESULT_DEPTH });
  return second.ok ? second.members : second.reason;
}

/** A string as it is, anything else as its JSON text. */
function textOf(raw: string): string {
  return raw.startsWith('"') ? String(JSON.parse(raw)) : raw;
}
