import { Errors } from "@oclif/core";
import { exitCode, RpxError } from "../contract/error.ts";
import { sanitize, sanitizeLine } from "../text/sanitize.ts";
import { printJson } from "./output.ts";

/** Lines of a message at most: what happened, why, what next. */
const MAX_LINE_CHARS = 2_000;

/** Whether `--json` was asked for: known before, and also when, the command line cannot be parsed. */
export function wantsJson(argv: readonly string[]): boolean {
  const end = argv.indexOf("--");
  return (end < 0 ? argv : argv.slice(0, end)).includes("--json");
}

/** Shows a failure, as text on stderr or as the one JSON document on stdout, and returns the exit code. */
export function showError(error: unknown, options: { readonly argv: readonly string[] }): number {
  if (error instanceof ShownError) return error.exit;
  if (error instanceof Errors.ExitError) return error.oclif.exit ?? 0;
  const known = toRpxError(error);
  if (isDebugging()) process.stderr.write(`${sanitize(stackOf(error))}\n`);
  if (wantsJson(options.argv)) printJson(errorDocument(known));
  else process.stderr.write(errorText(known));
  return exitCode(known.code);
}

/** Ends a command with an exit code after it has said everything itself. */
export class ShownError extends Error {
  override readonly name = "ShownError";
  readonly exit: number;

  constructor(exit: number) {
    super(`exit ${exit}`);
    this.exit = exit;
  }
}

/** `{"error": {code, message, hint}}`, and `why` and `lines` where they are known. */
export function errorDocument(error: RpxError): object {
  const { code, message, why, hint, lines } = error;
  return {
    error: {
      ...{ code, message },
      ...(why === undefined ? {} : { why }),
      hint: hint ?? null,
      ...(lines.length === 0 ? {} : { lines }),
    },
  };
}

/** The message in at most three lines; before them, marked, what the program that failed printed last. */
export function errorText(error: RpxError): string {
  const lines = [...error.lines.map((line) => `| ${line}`), `Error: ${error.message}`];
  if (error.why !== undefined) lines.push(`why: ${error.why}`);
  if (error.hint !== undefined) lines.push(`try: ${error.hint}`);
  return lines.map((line) => `${sanitizeLine(line).slice(0, MAX_LINE_CHARS)}\n`).join("");
}

function isDebugging(): boolean {
  const names = process.env.DEBUG ?? "";
  return names === "*" || names.split(",").some((name) => name.startsWith("rpx"));
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

function toRpxError(error: unknown): RpxError {
  if (error instanceof RpxError) return error;
  if (error instanceof Errors.CLIError) return usageError(error);
  const message = error instanceof Error ? error.message : String(error);
  return new RpxError("internal", `rpx itself failed: ${message}`, {
    why: "this is a bug in rpx",
    hint: "run it again with DEBUG=rpx:* and report what it prints",
    cause: error,
  });
}

/** What oclif throws while it reads a command line; its texts have several lines and a hint of their own. */
function usageError(error: Errors.CLIError): RpxError {
  const [what = "", ...rest] = error.message
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && line !== "See more help with --help");
  return new RpxError("usage", firstLower(what), {
    ...(rest.length === 0 ? {} : { why: rest.join("; ") }),
    hint: "--help shows what the command takes",
    cause: error,
  });
}

function firstLower(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}
