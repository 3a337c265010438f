import { VERSION_HEADER } from "../contract/routes.ts";
import { type Call, isRepeatable, isReplayable, type Reply } from "./send.ts";

/** Repeats of one call at most. With the pauses below that is 2.5 to 5 s: longer than a daemon takes to come back. */
const MAX_REPEATS = 5;
/** Pauses before a repeat in ms: doubled each time up to the last; the second half of each is left to chance. */
const FIRST_PAUSE_MS = 200;
const LAST_PAUSE_MS = 2_000;
/** Longest `Retry-After` in ms that is waited for; an answer that asks for more is handed out as it is. */
const MAX_RETRY_AFTER_MS = 10_000;

/** The request cannot have arrived. */
const REFUSED_CODES: readonly string[] = ["ECONNREFUSED"];
/** It may have arrived; its answer did not. */
const LOST_CODES: readonly string[] = ["ECONNRESET", "EPIPE"];

/** One try: an answer of any status, or the failure of the connection. */
export type Outcome =
  | { readonly kind: "reply"; readonly reply: Reply }
  | { readonly kind: "refused" | "lost" | "failed"; readonly error: unknown };

/** How often a call was repeated already, what chance says (from 0 to below 1), and whether a refused connection is final. */
export type RepeatState = {
  readonly repeats: number;
  readonly random: () => number;
  readonly isRefusalFinal: boolean;
};

/** Ms to wait before the call is sent again; null: this outcome is the one to hand out. */
export function pauseBeforeRepeat(call: Call, outcome: Outcome, state: RepeatState): number | null {
  const { repeats, random, isRefusalFinal } = state;
  if (repeats >= MAX_REPEATS || !mayRepeat(call, outcome, isRefusalFinal)) return null;
  const mostMs = Math.min(LAST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** repeats);
  const ownMs = Math.ceil(mostMs * (0.5 + random() / 2));
  const askedMs = outcome.kind === "reply" ? retryAfterMs(outcome.reply.headers["retry-after"]) : 0;
  return askedMs > MAX_RETRY_AFTER_MS ? null : Math.max(ownMs, askedMs);
}

/** Whether a failed connection was refused, lost on the way, or something that a repeat does not cure. */
export function kindOf(error: unknown): "refused" | "lost" | "failed" {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  if (REFUSED_CODES.includes(code)) return "refused";
  return LOST_CODES.includes(code) ? "lost" : "failed";
}

function mayRepeat(call: Call, outcome: Outcome, isRefusalFinal: boolean): boolean {
  if (outcome.kind === "failed") return false;
  if (outcome.kind === "refused") return !isRefusalFinal && isReplayable(call);
  if (outcome.kind === "reply" && !isPassing(outcome.reply)) return false;
  return isRepeatable(call);
}

/**
 * Whether an answer is about the moment. A 503 of the daemon itself is so only with `Retry-After`: without, it says that there is no
 * room. One of something in between (no version header) means that the daemon behind it is away.
 */
function isPassing({ status, headers }: Reply): boolean {
  if (status !== 502 && status !== 503) return false;
  return headers["retry-after"] !== undefined || headers[VERSION_HEADER] === undefined;
}

/** Seconds or a date, as ms from now; 0 for what is neither. */
function retryAfterMs(header: string | undefined): number {
  if (header === undefined) return 0;
  const ms = /^\d+$/.test(header) ? Number(header) * 1_000 : Date.parse(header) - Date.now();
  return Number.isNaN(ms) ? 0 : Math.max(0, ms);
}
