import { RpxError } from "../contract/error.ts";
import { parseDuration } from "../text/duration.ts";

/** A duration given by a flag, in ms. Throws RpxError `usage` naming the flag. */
export function durationMs(flag: string, text: string): number {
  const ms = parseDuration(text);
  if (ms !== null) return ms;
  throw new RpxError("usage", `--${flag} ${text} is no duration`, {
    hint: `for example --${flag} 90s, 10m or 1h30m`,
  });
}

/** {@link durationMs} of a flag that may be missing. */
export function optionalDurationMs(flag: string, text: string | undefined): number | undefined {
  return text === undefined ? undefined : durationMs(flag, text);
}

/** A point in time as ISO text: a time, or how long ago. Throws RpxError `usage` naming the flag. */
export function pointInTime(flag: string, text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  const agoMs = parseDuration(text);
  if (agoMs !== null) return new Date(Date.now() - agoMs).toISOString();
  const ms = Date.parse(text);
  if (!Number.isNaN(ms)) return new Date(ms).toISOString();
  throw new RpxError("usage", `--${flag} ${text} is no time`, {
    hint: `for example --${flag} 10m (ago) or --${flag} 2026-11-23T15:00:00Z`,
  });
}
