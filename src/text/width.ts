import stringWidth from "string-width";

const graphemes = new Intl.Segmenter(undefined, { granularity: "grapheme" });
const ELLIPSIS = "…";

/** Terminal columns that a plain text takes: wide characters two, combining ones none. */
export function displayWidth(text: string): number {
  return stringWidth(text);
}

/**
 * A plain text in at most `width` columns; a cut one ends with "…". Whole graphemes only, so a wide character that does not fit
 * leaves a column free. Reads no further than it shows.
 */
export function truncate(text: string, width: number): string {
  if (width <= 0) return "";
  let used = 0;
  let keptEnd = 0;
  for (const { segment, index } of graphemes.segment(text)) {
    used += displayWidth(segment);
    if (used > width) return text.slice(0, keptEnd) + ELLIPSIS;
    if (used < width) keptEnd = index + segment.length;
  }
  return text;
}

/** Spaces after the text up to `width` columns; a wider text stays as it is. */
export function padEnd(text: string, width: number): string {
  return text + gap(text, width);
}

/** Spaces before the text up to `width` columns; a wider text stays as it is. */
export function padStart(text: string, width: number): string {
  return gap(text, width) + text;
}

function gap(text: string, width: number): string {
  return " ".repeat(Math.max(0, width - displayWidth(text)));
}
