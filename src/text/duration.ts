const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

/** The longest duration that is read. A longer one is a mistake: a wrong unit, or milliseconds where seconds are meant. */
const MAX_DURATION_MS = 366 * DAY_MS;
/** Characters: more than any duration needs. */
const MAX_LENGTH = 64;

const UNITS = [
  ["d", DAY_MS],
  ["h", HOUR_MS],
  ["m", MINUTE_MS],
  ["s", SECOND_MS],
  ["ms", 1],
] as const;
const NUMBER = String.raw`\d+(?:\.\d+)?`;
const PLAIN = new RegExp(`^${NUMBER}$`);
const PARTS = new RegExp(`^${UNITS.map(([unit]) => `(?:(${NUMBER}) ?${unit} ?)?`).join("")}$`);

/**
 * A duration in whole milliseconds: `"5s"`, `"1h30m"`, `"250ms"`, `"1.5h"`, units from large to small, each at most once. A plain
 * number, as text or number, is seconds. Null when unreadable, negative or longer than 366 days.
 */
export function parseDuration(text: string | number): number | null {
  const ms = typeof text === "number" ? text * SECOND_MS : readMs(text.trim());
  if (ms === null || !(ms >= 0 && ms <= MAX_DURATION_MS)) return null;
  return Math.round(ms) + 0; // + 0: never minus zero
}

function readMs(text: string): number | null {
  if (text === "" || text.length > MAX_LENGTH) return null;
  if (PLAIN.test(text)) return Number(text) * SECOND_MS;
  const parts = PARTS.exec(text);
  if (parts === null) return null;
  return UNITS.reduce((sum, [, unitMs], index) => sum + Number(parts[index + 1] ?? 0) * unitMs, 0);
}

/**
 * A duration in milliseconds for people, rounded to two units at most: `340 ms`, `4.2 s`, `3m12s`, `2h05m`, `3d4h`.
 * {@link parseDuration} reads it back. `-` when it is not a number.
 */
export function formatDuration(ms: number): string {
  if (!Number.isFinite(ms)) return "-";
  if (ms < 0) return `-${formatDuration(-ms)}`;
  if (Math.round(ms) < SECOND_MS) return `${Math.round(ms)} ms`;
  const tenths = Math.round(ms / 100);
  if (tenths < 600) return `${(tenths / 10).toFixed(1)} s`;
  const seconds = Math.round(ms / SECOND_MS);
  if (seconds < 3_600) return `${Math.floor(seconds / 60)}m${twoDigits(seconds % 60)}s`;
  const minutes = Math.round(ms / MINUTE_MS);
  if (minutes < 24 * 60) return `${Math.floor(minutes / 60)}h${twoDigits(minutes % 60)}m`;
  const hours = Math.round(ms / HOUR_MS);
  return `${Math.floor(hours / 24)}d${hours % 24}h`;
}

function twoDigits(count: number): string {
  return String(count).padStart(2, "0");
}
