import { escapeControls, indentJson } from "../text/json-text.ts";

/** Prints a value as one JSON document on stdout; control characters are escaped, so it is safe on a terminal. */
export function printJson(value: unknown): void {
  printLine(escapeControls(JSON.stringify(value, null, 2)));
}

/** Prints raw JSON text indented, without parsing it: integers of any size survive. */
export function printJsonText(json: string): void {
  printLine(escapeControls(indentJson(json)));
}

/** Prints raw JSON text on one line: for streams of documents. */
export function printJsonLine(json: string): void {
  printLine(escapeControls(json.replace(/[\r\n]+\s*/g, "")));
}

/** Prints a job's output: as it was written, but indented where a person reads it. */
export function printOutput(json: string): void {
  if (process.stdout.isTTY) printJsonText(json);
  else printJsonLine(json);
}

/** Prints a line on stdout: the answer. */
export function printLine(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Prints a line on stderr: the talk. */
export function talk(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** Columns of the terminal on stdout; undefined when it is none: nothing is cut then. */
export function terminalWidth(): number | undefined {
  return process.stdout.isTTY ? process.stdout.columns : undefined;
}
