import { sanitizeLine } from "../text/sanitize.ts";
import { talk } from "./output.ts";

/** Says what is going on: `step` names the present step, `done` ends the last one. */
export type Progress = {
  readonly step: (text: string) => void;
  readonly done: () => void;
};

/**
 * Progress on stderr: a spinner on a terminal, one plain line per step elsewhere (pipes, CI) and with `--json`. The spinner is loaded
 * only where it turns.
 */
export async function createProgress(options: { readonly isJson: boolean }): Promise<Progress> {
  // On a terminal that says no width, ora clears lines for ever.
  const hasWidth = process.stderr.isTTY && process.stderr.columns > 0;
  const turns = hasWidth && !process.env.CI && !options.isJson;
  return turns ? createSpinner() : { step: (text) => talk(sanitizeLine(text)), done: () => {} };
}

async function createSpinner(): Promise<Progress> {
  const { default: ora } = await import("ora");
  const spinner = ora({ stream: process.stderr, discardStdin: false });
  return {
    step: (text) => void spinner.start(sanitizeLine(text)),
    done: () => void spinner.stop(),
  };
}
