import { type ErrorCode, RpxError } from "../../contract/error.ts";

/** What an exit code of supervisor and daemon says of a start that failed. */
const CODE_OF_EXIT: Readonly<Record<number, ErrorCode>> = {
  2: "usage",
  3: "not_found",
  4: "forbidden",
  6: "conflict",
};

/** How a start failed: `how` in words, its exit code, and the last lines it wrote. */
export type StartFailure = {
  readonly how: string;
  readonly exit: number | null;
  readonly lines: readonly string[];
  /** Where there is more to read. */
  readonly hint?: string;
};

/** The refusal that a starting daemon wrote in its three lines, in words of its own; else its last line as the reason. */
export function startFailure({ how, exit, lines, hint }: StartFailure): RpxError {
  const code = CODE_OF_EXIT[exit ?? -1] ?? "internal";
  const said = (label: string): string | undefined =>
    lines.findLast((line) => line.startsWith(`${label}: `))?.slice(label.length + 2);
  const message = said("Error");
  const why = message === undefined ? (lines.at(-1) ?? "it said nothing") : said("why");
  const next = message === undefined ? hint : (said("try") ?? hint);
  return new RpxError(code, message ?? `the daemon did not start (${how})`, {
    ...(why === undefined ? {} : { why }),
    ...(next === undefined ? {} : { hint: next }),
  });
}
