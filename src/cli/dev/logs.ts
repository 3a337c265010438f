import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "../../client/client.ts";
import type { LogLineBody } from "../../contract/schemas/worker.ts";
import { sanitizeLine } from "../../text/sanitize.ts";
import { talk } from "../output.ts";

/** Old lines that a follower asks for: what a worker said before the follower was there. */
const BACKLOG_LINES = 1_000;
const RECONNECT_MS = 500;
/** The last lines of a worker come a little after its result: silence of this long is their end, if it comes within the limit. */
const QUIET_MS = 100;
const QUIET_LIMIT_MS = 1_000;
/** Characters of a worker's id before its lines. */
const SHOWN_ID = 6;

export type LogFollower = {
  /** Waits for the last lines. */
  finish(): Promise<void>;
  /** Ends it at once. */
  end(): void;
};

/** Prints the output of an endpoint's workers on stderr as it comes, from `since` (ISO time) on, over broken connections. */
export function followLogs(
  connect: (signal: AbortSignal) => Client,
  endpoint: string,
  since: string,
): LogFollower {
  const over = new AbortController();
  const client = connect(over.signal);
  let lastLineMs = performance.now();
  let from = since;
  /** How many lines of the time `from` were shown: a look from there on brings these again, first. */
  let shown = 0;
  const show = (line: LogLineBody): void => {
    shown = line.ts === from ? shown + 1 : 1;
    from = line.ts;
    talk(formatLine(line));
  };
  const follow = async (): Promise<void> => {
    for await (const line of client.endpointLogs(endpoint, {
      follow: true,
      tail: BACKLOG_LINES,
      since: from,
    })) {
      if (over.signal.aborted) return;
      lastLineMs = performance.now();
      show(line);
    }
  };
  /** What a follower that came too late, or lost its connection, has not brought. */
  const showRest = async (): Promise<void> => {
    over.abort();
    const limit = AbortSignal.timeout(QUIET_LIMIT_MS);
    const query = { tail: BACKLOG_LINES, since: from };
    let known = shown;
    for await (const line of connect(limit).endpointLogs(endpoint, query)) {
      if (line.ts === query.since && known > 0) known -= 1;
      else show(line);
    }
  };
  const keepFollowing = async (): Promise<void> => {
    while (!over.signal.aborted) {
      await follow().catch(() => {});
      await sleep(RECONNECT_MS, undefined, { signal: over.signal }).catch(() => {});
    }
  };
  void keepFollowing();
  return {
    finish: async () => {
      const askedMs = performance.now();
      while (performance.now() - Math.max(askedMs, lastLineMs) < QUIET_MS) {
        if (performance.now() - askedMs > QUIET_LIMIT_MS) break;
        await sleep(QUIET_MS / 4);
      }
      await showRest().catch(() => {});
    },
    end: () => over.abort(),
  };
}

/** `worker | text`; the SDK's JSON lines show their level and message. */
export function formatLine({ workerId, line }: LogLineBody): string {
  return `${sanitizeLine(workerId.slice(0, SHOWN_ID))} | ${sanitizeLine(readable(line))}`;
}

function readable(line: string): string {
  if (!line.startsWith("{")) return line;
  try {
    const value: { level?: unknown; message?: unknown } = JSON.parse(line);
    const { level, message } = value;
    return typeof level === "string" && typeof message === "string" ? `${level} ${message}` : line;
  } catch {
    return line;
  }
}
