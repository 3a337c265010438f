/**
 * JSON kept as text. A job's input and output are validated once, stored as they came and spliced into
 * replies: printing them again would cost time and change them (big integers, spelling of numbers).
 *
 * Reading is strict: the engine's own parser is the validator, and a scanner in front of it bounds the
 * nesting. The scanner counts instead of recursing, so a million open brackets cost nothing but time.
 */

/** Bounds on what is read. `maxDepth`: nested arrays and objects; a top-level object is level 1. */
export type JsonLimits = { readonly maxDepth: number };

/** An object's members as raw JSON texts by decoded key, or why the text is refused (never quotes the data). */
export type JsonObjectText =
  | { readonly ok: true; readonly members: ReadonlyMap<string, string> }
  | { readonly ok: false; readonly reason: string };

/** A whole JSON text without the white space around it, or why it is refused (never quotes the data). */
export type JsonValueText =
  | { readonly ok: true; readonly text: string }
  | { readonly ok: false; readonly reason: string };

/** The highest of the four white space characters of JSON. */
const SPACE = 0x20;
const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const BACKSLASH = 0x5c;
const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/** Levels after which pretty printing indents no further: bounds the output of a deeply nested text. */
const MAX_INDENT_LEVELS = 20;

/** Index just after the string that opens at `open`; the end of the text when it never closes. */
function stringEnd(text: string, open: number): number {
  let close = text.indexOf('"', open + 1);
  while (close >= 0) {
    let first = close;
    while (text.charCodeAt(first - 1) === BACKSLASH) first -= 1;
    if ((close - first) % 2 === 0) return close + 1;
    close = text.indexOf('"', close + 1);
  }
  return text.length;
}

/** Whether arrays and objects nest deeper than `maxDepth`. Works on any text; exact on valid JSON. */
function isDeeperThan(text: string, maxDepth: number): boolean {
  // Nothing can nest deeper than it has characters: short texts, most of them, need no scan.
  if (text.length <= maxDepth) return false;
  let depth = 0;
  let at = 0;
  while (at < text.length) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) {
      at = stringEnd(text, at);
      continue;
    }
    if (code === OPEN_OBJECT || code === OPEN_ARRAY) {
      depth += 1;
      if (depth > maxDepth) return true;
    } else if (code === CLOSE_OBJECT || code === CLOSE_ARRAY) depth -= 1;
    at += 1;
  }
  return false;
}

/** Index of the comma or bracket that ends the value starting at or after `start`, in valid JSON. */
function valueEnd(text: string, start: number): number {
  let depth = 0;
  let at = start;
  while (at < text.length) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) {
      at = stringEnd(text, at);
      continue;
    }
    if (code === OPEN_OBJECT || code === OPEN_ARRAY) depth += 1;
    else if (code === CLOSE_OBJECT || code === CLOSE_ARRAY) {
      if (depth === 0) return at;
      depth -= 1;
    } else if (code === COMMA && depth === 0) return at;
    at += 1;
  }
  return text.length;
}

/** The parser's message without its excerpt of the data, which may be secret or hostile. */
function refusal(error: unknown): string {
  const message = error instanceof Error ? error.message : "";
  if (message === "Unexpected end of JSON input") return "not valid JSON: it ends too early";
  const position = / at position (\d+)(?: \(line \d+ column \d+\))?$/.exec(message)?.[1];
  return position === undefined ? "not valid JSON" : `not valid JSON at position ${position}`;
}

/**
 * Validates any JSON text, whole and strictly, and returns it trimmed, otherwise untouched.
 * Nesting is checked first, so a too deep text is refused before it is parsed.
 */
export function readValue(text: string, limits: JsonLimits): JsonValueText {
  if (isDeeperThan(text, limits.maxDepth)) {
    return { ok: false, reason: `nested deeper than ${limits.maxDepth} levels` };
  }
  try {
    JSON.parse(text);
  } catch (error) {
    return { ok: false, reason: refusal(error) };
  }
  return { ok: true, text: text.trim() };
}

function decodeKey(raw: string): string {
  return raw.includes("\\") ? String(JSON.parse(raw)) : raw.slice(1, -1);
}

/** Slices the members of a valid JSON object. */
function sliceMembers(text: string): Map<string, string> {
  const members = new Map<string, string>();
  let at = text.indexOf("{");
  for (;;) {
    const key = text.indexOf('"', at + 1);
    if (key < 0) return members; // only {} has no key
    const keyEnd = stringEnd(text, key);
    const value = text.indexOf(":", keyEnd) + 1;
    at = valueEnd(text, value);
    members.set(decodeKey(text.slice(key, keyEnd)), text.slice(value, at).trim());
    if (text.charCodeAt(at) !== COMMA) return members;
  }
}

/**
 * Validates a JSON object like {@link readValue} and returns the raw text of each top-level member.
 * The last of duplicate keys wins, as in JSON.parse; `__proto__` is a key like any other (a Map has no prototype keys).
 */
export function readObject(text: string, limits: JsonLimits): JsonObjectText {
  const value = readValue(text, limits);
  if (!value.ok) return value;
  if (!value.text.startsWith("{")) return { ok: false, reason: "not a JSON object" };
  return { ok: true, members: sliceMembers(value.text) };
}

/** The raw texts of the elements of a valid JSON array. Throws TypeError when the text is no array. */
export function elements(arrayText: string): string[] {
  const text = arrayText.trim();
  if (!text.startsWith("[")) throw new TypeError("not a JSON array");
  const raws: string[] = [];
  let at = 0;
  do {
    const end = valueEnd(text, at + 1);
    const raw = text.slice(at + 1, end).trim();
    if (raw !== "") raws.push(raw); // only [] has an empty slice
    at = end;
  } while (text.charCodeAt(at) === COMMA);
  return raws;
}

/**
 * Replaces NaN, Infinity and -Infinity by null, never inside strings: Python's json prints them and no JSON parser takes
 * them. Only a token of its own can become valid so: null beside another letter, digit or sign is as wrong as what it replaces.
 * The text need not be valid otherwise. Returns the same string when there is none. Linear time.
 */
export function repairNonFinite(text: string): string {
  if (!text.includes("NaN") && !text.includes("Infinity")) return text;
  const parts: string[] = [];
  let at = 0;
  while (at < text.length) {
    const quote = text.indexOf('"', at);
    const open = quote < 0 ? text.length : quote;
    const end = stringEnd(text, open);
    parts.push(text.slice(at, open).replace(/NaN|-?Infinity/g, "null"), text.slice(open, end));
    at = end;
  }
  return parts.join("");
}

/** A JSON object from raw JSON texts by key. The texts are trusted to be valid. */
export function spliceObject(members: Iterable<readonly [string, string]>): string {
  let body = "";
  for (const [key, raw] of members) body += `${body === "" ? "" : ","}${jsonString(key)}:${raw}`;
  return `{${body}}`;
}

/** A JSON array from raw JSON texts. The texts are trusted to be valid. */
export function spliceArray(raws: Iterable<string>): string {
  return `[${[...raws].join(",")}]`;
}

/** A string as JSON text. Lone surrogates come out escaped, so the text is always well-formed Unicode. */
export function jsonString(value: string): string {
  return JSON.stringify(value);
}

/**
 * Makes a valid JSON text safe to print on a terminal, meaning the same: DEL, C1 controls, line and paragraph separator,
 * bidi controls and lone surrogates become `\uXXXX`. They can stand inside strings only. Raw C0 controls are no
 * valid JSON there, and the white space between tokens stays.
 */
export function escapeControls(jsonText: string): string {
  return jsonText.replace(
    /[\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\p{Cs}]/gu,
    (unsafe) => `\\u${unsafe.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/**
 * Pretty prints a valid JSON text as JSON.stringify does, without parsing it: integers of any size and every spelling
 * survive. `indent`: spaces a level. Levels beyond {@link MAX_INDENT_LEVELS} are not indented further.
 */
export function indentJson(jsonText: string, indent = 2): string {
  let output = "";
  let depth = 0;
  let previous = "";
  for (const token of tokenize(jsonText)) {
    const closes = token === "}" || token === "]";
    const opened = previous === "{" || previous === "[";
    if (closes) depth -= 1;
    if (closes !== opened || previous === ",") output += lineBreak(depth, indent);
    output += token === ":" ? ": " : token;
    if (token === "{" || token === "[") depth += 1;
    previous = token;
  }
  return output;
}

function lineBreak(depth: number, indent: number): string {
  return `\n${" ".repeat(Math.min(depth, MAX_INDENT_LEVELS) * indent)}`;
}

/** The tokens of a valid JSON text, without the white space between them. */
function* tokenize(text: string): Generator<string> {
  let at = 0;
  while (at < text.length) {
    const end = tokenEnd(text, at);
    if (text.charCodeAt(at) > SPACE) yield text.slice(at, end);
    at = end;
  }
}

/** Index just after the token or the one white space character at `start`. */
function tokenEnd(text: string, start: number): number {
  const code = text.charCodeAt(start);
  if (code === QUOTE) return stringEnd(text, start);
  if (endsScalar(code)) return start + 1;
  let end = start + 1;
  while (end < text.length && !endsScalar(text.charCodeAt(end))) end += 1;
  return end;
}

/** Whether a character ends a number, true, false or null. */
function endsScalar(code: number): boolean {
  return (
    code <= SPACE ||
    code === COMMA ||
    code === COLON ||
    code === OPEN_ARRAY ||
    code === CLOSE_ARRAY ||
    code === OPEN_OBJECT ||
    code === CLOSE_OBJECT
  );
}
