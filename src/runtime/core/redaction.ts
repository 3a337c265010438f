import { KEY_PATTERN } from "./key-format.ts";

/** Takes secrets out of a text. */
export type Redactor = (text: string) => string;

export const REDACTED = "[redacted]";
/** Shorter secrets would take harmless words out of every line. In characters. */
const MIN_LENGTH = 4;
/** Lines of a longer secret: the same, and those of a certificate are longer. In characters. */
const MIN_LINE_LENGTH = 8;
/** Lines of one secret that are looked for, and spellings in all: what each printed line costs has an end. */
const MAX_LINES = 200;
const MAX_SPELLINGS = 2_000;
/** What the supervisor puts behind a line that it cut (src/supervisor/output.ts). */
const CUT_NOTE = / \[line cut: \d+ bytes dropped\]$/;

/**
 * Takes values out of texts, the longest first, in the spellings in which programs print them: as they are, line by line, and as the
 * inside of a JSON string. Keys of rpx go too, whatever the values: a worker's token is one.
 */
export function createRedactor(values: readonly string[]): Redactor {
  // Whole values first: they are what the limit leaves.
  const all = new Set([...values.flatMap(wholeOf), ...values.flatMap(linesOf)].flatMap(spellingsOf));
  const spellings = [...all].slice(0, MAX_SPELLINGS).sort((one, other) => other.length - one.length);
  return (text) => {
    const redacted = spellings.reduce(
      (rest, spelling) => (rest.includes(spelling) ? rest.replaceAll(spelling, REDACTED) : rest),
      withoutKeys(text),
    );
    return withoutBeginnings(redacted, spellings);
  };
}

function wholeOf(value: string): string[] {
  return [value, value.trim()].filter(({ length }) => length >= MIN_LENGTH);
}

function linesOf(value: string): string[] {
  const lines = value.split(/\r?\n/, MAX_LINES).map((line) => line.trim());
  return lines.length > 1 ? lines.filter(({ length }) => length >= MIN_LINE_LENGTH) : [];
}

function spellingsOf(text: string): string[] {
  return [text, insideJson(text), inAscii(insideJson(text))];
}

function insideJson(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}

/** As Python's `json.dumps` writes it. */
function inAscii(json: string): string {
  return json.replace(/[\u007f-\uffff]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function withoutKeys(text: string): string {
  return text.includes("rpx") ? text.replace(KEY_PATTERN, REDACTED) : text;
}

/** Where a line was cut, a secret may have lost its end. */
function withoutBeginnings(text: string, spellings: readonly string[]): string {
  const cut = text.search(CUT_NOTE);
  if (cut < 0) return text;
  const kept = text.slice(0, cut);
  const lengths = spellings.map((spelling) => beginningAtEnd(kept, spelling));
  const longest = Math.max(0, ...lengths);
  return longest < MIN_LENGTH ? text : kept.slice(0, -longest) + REDACTED + text.slice(cut);
}

/** How many characters at the end of a text are the beginning of a secret. */
function beginningAtEnd(text: string, spelling: string): number {
  for (let length = Math.min(spelling.length, text.length); length >= MIN_LENGTH; length -= 1) {
    if (text.endsWith(spelling.slice(0, length))) return length;
  }
  return 0;
}
