import { createInterface } from "node:readline/promises";
import { RpxError } from "../contract/error.ts";
import { sanitizeLine } from "../text/sanitize.ts";

/** `question` says what will be gone. `isAgreed`: `--yes` was given. */
export type Question = {
  readonly question: string;
  readonly isAgreed: boolean;
  readonly signal: AbortSignal;
};

/**
 * Asks before something that cannot be undone; anything but y or yes is no. Throws RpxError `usage` where nobody can answer, and
 * `interrupted` when the answer is no.
 */
export async function confirm({ question, isAgreed, signal }: Question): Promise<void> {
  if (isAgreed) return;
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw new RpxError("usage", `${sanitizeLine(question)} was not confirmed`, {
      why: "there is no terminal to ask on",
      hint: "add --yes",
    });
  }
  const prompt = createInterface({ input: process.stdin, output: process.stderr });
  prompt.on("SIGINT", () => process.kill(process.pid, "SIGINT")); // raw mode hides Ctrl-C from the process
  try {
    const reply = await prompt.question(`${sanitizeLine(question)}? [y/N] `, { signal });
    if (!/^y(es)?$/i.test(reply.trim())) throw new RpxError("interrupted", "nothing was changed");
  } finally {
    prompt.close();
  }
}
