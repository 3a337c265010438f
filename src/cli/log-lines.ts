import { Flags } from "@oclif/core";
import type { LogQuery } from "../client/client.ts";
import type { LogLineBody } from "../contract/schemas/worker.ts";
import { sanitizeLine } from "../text/sanitize.ts";
import { printJson, printJsonLine, printLine } from "./output.ts";
import { pointInTime } from "./parse-flags.ts";

/** Old lines that are shown when neither -n nor --since says more. */
const DEFAULT_TAIL = 100;
const MAX_TAIL = 5_000;

/** Flags of `endpoint logs` and `worker logs`. */
export const LOG_FLAGS = {
  follow: Flags.boolean({ char: "f", summary: "Go on with new lines as they come" }),
  tail: Flags.integer({
    char: "n",
    summary: `How many old lines (${DEFAULT_TAIL} unless --since is given)`,
    min: 0,
    max: MAX_TAIL,
  }),
  since: Flags.string({ summary: "Lines from this time on: a time, or how long ago", helpValue: "TIME" }),
  until: Flags.string({ summary: "Lines up to this time: a time, or how long ago", helpValue: "TIME" }),
  job: Flags.string({ summary: "Only lines of this job", helpValue: "ID" }),
  grep: Flags.string({ summary: "Only lines that contain this text", helpValue: "TEXT" }),
  level: Flags.string({ summary: "Only lines of this level or above it", helpValue: "LEVEL" }),
  source: Flags.string({ summary: "Only lines from here", options: ["stdout", "stderr", "system"] }),
};

/** What {@link LOG_FLAGS} parse to. */
export type LogFlags = {
  readonly follow: boolean;
  readonly tail: number | undefined;
  readonly since: string | undefined;
  readonly until: string | undefined;
  readonly job: string | undefined;
  readonly grep: string | undefined;
  readonly level: string | undefined;
  readonly source: string | undefined;
};

/** The query that the flags ask for. Throws RpxError `usage` for a time that is none. */
export function logQuery(flags: LogFlags): LogQuery {
  const { follow, job, grep, level, source } = flags;
  return {
    ...{ follow, job, grep, level, source },
    tail: flags.tail ?? (flags.since === undefined ? DEFAULT_TAIL : undefined),
    since: pointInTime("since", flags.since),
    until: pointInTime("until", flags.until),
  };
}

/** Prints log lines: text, a JSON array, or one JSON object a line where they go on. */
export async function showLogs(
  lines: AsyncIterable<LogLineBody>,
  options: { readonly isJson: boolean; readonly follow: boolean },
): Promise<void> {
  const all: LogLineBody[] = [];
  for await (const line of lines) {
    if (!options.isJson) printLine(formatLine(line));
    else if (options.follow) printJsonLine(JSON.stringify(line));
    else all.push(line);
  }
  if (options.isJson && !options.follow) printJson(all);
}

function formatLine({ ts, workerId, source, line }: LogLineBody): string {
  return sanitizeLine(`${ts} ${workerId} ${source === "stdout" ? "" : `[${source}] `}${line}`);
}
