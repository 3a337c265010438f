import { sanitizeLine } from "../../text/sanitize.ts";

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

/** How a worker's program ended, and what is known around it. */
export type ProgramEnd = {
  readonly code: number | null;
  readonly signal: string | null;
  readonly asked: AskedEnd | null;
  readonly lastLines: readonly string[];
  /** The numbers of signals where it ran. */
  readonly signalNumbers: Readonly<Record<string, number>>;
};

/**
 * One sentence on why a worker's program ended. `lastLines` are its last words, oldest first: the last one with text ends the
 * sentence where the end was not asked for and not clean.
 */
export function exitReason(end: ProgramEnd): string {
  if (end.asked === "kill") return "killed by rpx";
  if (end.asked === "stop") return stoppedReason(end);
  if (end.code === 0) return "exited by itself with code 0";
  const words = lastWords(end.lastLines);
  return words === "" ? plainReason(end) : `${plainReason(end)}: ${words}`;
}

function stoppedReason({ code, signal }: ProgramEnd): string {
  if (code === 0 || signal === "SIGTERM") return "stopped by rpx";
  return `stopped by rpx, ended by ${signal ?? `exit code ${code}`}`;
}

function plainReason({ code, signal, signalNumbers }: ProgramEnd): string {
  if (signal !== null) return `killed by ${withCause(signal)}`;
  if (code === null) return "ended in a way nobody saw";
  const name = signalOfCode(code, signalNumbers);
  return name === null
    ? `exited with code ${code}`
    : `exited with code ${code}, which says ${withCause(name)}`;
}

function withCause(signal: string): string {
  const cause = LIKELY_CAUSE[signal];
  return cause === undefined ? signal : `${signal} (${cause})`;
}

/** The signal that an exit code means in a shell's way, or null. */
export function signalOfCode(code: number, signalNumbers: Readonly<Record<string, number>>): string | null {
  return Object.entries(signalNumbers).find(([, number]) => number === code - SIGNAL_CODES)?.[0] ?? null;
}

function lastWords(lines: readonly string[]): string {
  const words = lines.map((line) => sanitizeLine(line).trim()).findLast((line) => line !== "") ?? "";
  return words.length > MAX_LINE_CHARACTERS ? `${words.slice(0, MAX_LINE_CHARACTERS)}...` : words;
}
