import { constants } from "node:os";
import { sanitizeLine } from "../../../text/sanitize.ts";

/** What the daemon had asked of a worker before it ended. */
export type AskedEnd = "stop" | "kill";

const MAX_LINE_CHARACTERS = 200;
/** Exit codes from here on are a shell's way of saying 128 + signal. */
const SIGNAL_CODES = 128;
/** What a signal nobody here sent most often means. */
const LIKELY_CAUSE: Readonly<Record<string, string>> = {
  SIGKILL: "out of memory?",
  SIGSEGV: "a crash in native code",
  SIGBUS: "a crash in native code",
  SIGILL: "a library built for another processor?",
  SIGABRT: "a library gave up",
};

/**
 * One sentence on why a worker process ended. `lastLines` are its last words, oldest first: the last one with text ends the
 * sentence where the end was not asked for and not clean.
 */
export function exitReason(end: {
  readonly code: number | null;
  readonly signal: string | null;
  readonly asked: AskedEnd | null;
  readonly lastLines: readonly string[];
}): string {
  if (end.asked === "kill") return "killed by rpx";
  if (end.asked === "stop") return stoppedReason(end);
  if (end.code === 0) return "exited by itself with code 0";
  const words = lastWords(end.lastLines);
  return words === "" ? plainReason(end) : `${plainReason(end)}: ${words}`;
}

function stoppedReason({ code, signal }: { code: number | null; signal: string | null }): string {
  if (code === 0 || signal === "SIGTERM") return "stopped by rpx";
  return `stopped by rpx, ended by ${signal ?? `exit code ${code}`}`;
}

function plainReason({ code, signal }: { code: number | null; signal: string | null }): string {
  if (signal !== null) return `killed by ${withCause(signal)}`;
  if (code === null) return "ended in a way nobody saw";
  const name = signalName(code - SIGNAL_CODES);
  return name === null
    ? `exited with code ${code}`
    : `exited with code ${code}, which says ${withCause(name)}`;
}

function withCause(signal: string): string {
  const cause = LIKELY_CAUSE[signal];
  return cause === undefined ? signal : `${signal} (${cause})`;
}

function signalName(number: number): string | null {
  return Object.entries(constants.signals).find(([, value]) => value === number)?.[0] ?? null;
}

function lastWords(lines: readonly string[]): string {
  const words = lines.map((line) => sanitizeLine(line).trim()).findLast((line) => line !== "") ?? "";
  return words.length > MAX_LINE_CHARACTERS ? `${words.slice(0, MAX_LINE_CHARACTERS)}...` : words;
}
