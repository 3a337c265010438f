const UNIT_BYTES: Readonly<Record<string, number>> = {
  "": 1,
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
};
const SIZE = /^(\d+(?:\.\d+)?) ?([kmgt]i?b|b|)$/i;
/** Characters: more than any size needs. */
const MAX_LENGTH = 64;
const SHOWN_UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"] as const;

/**
 * A size in whole bytes: `"8GiB"` and its like are powers of 1024, `"50GB"` powers of 1000, a plain number is bytes. Letter case
 * does not matter. Single letters (`8G`) are refused: they mean either. Null when unreadable, negative or beyond 2^53.
 */
export function parseSize(text: string | number): number | null {
  const bytes = typeof text === "number" ? text : readBytes(text.trim());
  if (bytes === null || !(bytes >= 0 && bytes <= Number.MAX_SAFE_INTEGER)) return null;
  return Math.round(bytes) + 0; // + 0: never minus zero
}

function readBytes(text: string): number | null {
  const match = text.length > MAX_LENGTH ? null : SIZE.exec(text);
  const unitBytes = UNIT_BYTES[match?.[2]?.toLowerCase() ?? ""];
  return match === null || unitBytes === undefined ? null : Number(match[1]) * unitBytes;
}

/** Bytes for people in binary units, one decimal below ten: `512 B`, `1.4 MiB`, `42 GiB`. `-` when it is no size. */
export function formatSize(bytes: number): string {
  if (!Number.isFinite(bytes) || bytes < 0) return "-";
  let value = bytes;
  let unit = 0;
  // 1023.5 would be shown as 1024 of the smaller unit.
  while (value >= 1023.5 && unit < SHOWN_UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const shown = value < 9.95 ? Math.round(value * 10) / 10 : Math.round(value);
  return `${shown} ${SHOWN_UNITS[unit]}`;
}
