import { sanitizeLine } from "../text/sanitize.ts";
import { displayWidth, padEnd } from "../text/width.ts";

/** One thing as lines of `label  value`; undefined values are left out. Values are untrusted. */
export function formatFacts(
  facts: readonly (readonly [label: string, value: string | number | undefined])[],
): string {
  const shown = facts.filter(([, value]) => value !== undefined && value !== "");
  const width = Math.max(0, ...shown.map(([label]) => displayWidth(label)));
  return shown.map(([label, value]) => `${padEnd(label, width)}  ${sanitizeLine(String(value))}`).join("\n");
}
