import type { ReleaseBody } from "../contract/schemas/release.ts";
import { sanitizeLine } from "../text/sanitize.ts";
import { formatFacts } from "./facts.ts";

type Change = ReleaseBody["diff"][number];

/** What a release changed, for people: a line a field, values of env hidden because they may be secret. */
export function diffText({
  version,
  source,
  state,
  diff,
}: Pick<ReleaseBody, "version" | "source" | "state" | "diff">): string {
  const head = sanitizeLine(`release ${version} (${state}; ${source})`);
  if (diff.length === 0) return `${head}: no differences`;
  const changes = diff.map((change) => [`${sign(change)} ${change.field}`, values(change)] as const);
  return `${head}\n${formatFacts(changes)}`;
}

function sign({ old, new: now }: Change): "+" | "-" | "~" {
  if (old === null) return "+";
  return now === null ? "-" : "~";
}

function values({ field, old, new: now }: Change): string {
  if (field.startsWith("env.")) return "(hidden)";
  if (old === null) return now ?? "";
  return now === null ? old : `${old} -> ${now}`;
}
