import { sanitizeLine } from "../text/sanitize.ts";
import { talk } from "./output.ts";

/** Says what is going on: `step` names the present step, with its percentage where that is known; `done` ends the last one. */
export type Progress = {
  readonly step: (text: string, percent?: number) => void;
  readonly done: () => void;
};

/**
 * Progress on stderr: a spinner on a terminal, one plain line per step elsewhere (pipes, CI) and with `--json`. The spinner is loaded
 * only where it turns.
 */
export async function createProgress(options: { readonly isJson: boolean }): Promise<Progress> {
  const turns = Boolean(process.stderr.isTTY) && !process.env.CI && !options.isJson;
  return turns ? createSpinner() : { step: (text, percent) => talk(stepText(text, percent)), done: () => {} };
}

async function createSpinner(): Promise<Progress> {
  const { default: ora } = await import("ora");
  const spinner = ora({ stream: process.stderr, discardStdin: false });
  return {
    step: (text, percent) => void spinner.start(stepText(text, percent)),
    done: () => void spinner.stop(),
  };
}

function stepText(text: string, percent: number | undefined): string {
  return sanitizeLine(percent === undefined ? text : `${text}, ${Math.floor(percent)} %`);
}
