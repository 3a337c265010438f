/**
 * Untrusted text on a terminal. Names, log lines, errors and progress come from jobs and engines: printed as they are
 * they could clear the screen, write the clipboard (OSC 52), fake links (OSC 8) or reorder what is read.
 */

/**
 * What is taken out, in this order: string sequences (OSC, DCS, APC, PM, SOS) with their body up to the next control or the end of
 * the line; CSI sequences; other escape sequences, among them what ends a string; single characters. No alternative backtracks.
 * Default_Ignorable_Code_Point covers zero-width characters, bidi controls, fillers, variation selectors and tags.
 */
const STRING_SEQUENCE =
  /(?:\u001b[\]PX^_]|[\u0090\u0098\u009d-\u009f])[^\n\r\u0007\u0018\u001a\u001b\u0080-\u009f]*/;
const CONTROL_SEQUENCE = /(?:\u001b\[|\u009b)[0-?]*[ -/]*[@-~]?/;
const OTHER_ESCAPE = /\u001b[ -/]*[0-~]?/;
const UNSAFE_CHARACTER =
  /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u2028\u2029\ufff9-\ufffb\p{Default_Ignorable_Code_Point}]/u;
const UNSAFE = new RegExp(
  [STRING_SEQUENCE, CONTROL_SEQUENCE, OTHER_ESCAPE, UNSAFE_CHARACTER].map((part) => part.source).join("|"),
  "gu",
);

/** Keeps `\n`, `\t` and `\r`; lone surrogates become U+FFFD first, so nothing taken out can join two of them. */
function strip(text: string): string {
  return text.toWellFormed().replace(UNSAFE, "");
}

/**
 * Text safe to print on a terminal: no control but `\n` and `\t`, no escape sequence in its 7-bit or 8-bit form (whole, also when
 * it never ends), no bidi or zero-width character, no lone surrogate. Idempotent; linear time.
 */
export function sanitize(text: string): string {
  return strip(text).replaceAll("\r", "");
}

/** {@link sanitize} for one line: line breaks and tabs become a space each. */
export function sanitizeLine(text: string): string {
  return strip(text).replace(/\r\n|[\n\r\t]/g, " ");
}
