import { sanitizeLine } from "../text/sanitize.ts";
import { talk } from "./output.ts";

/** Says what is going on: `step` names the present step and how much is done in percent, where that is known; `done` ends the last one. */
export type Progress = {
  readonly step: (text: string, percent?: number) => void;
  readonly done: () => void;
};

const BAR_CELLS = 20;

/**
 * Progress on stderr: a spinner on a terminal, with a bar where the size of the work is known, one plain line per step elsewhere (pipes,
 * CI) and with `--json`. The spinner is loaded only where it turns.
 */
export async function createProgress(options: { readonly isJson: boolean }): Promise<Progress> {
  // On a terminal that says no width, ora clears lines for ever.
  const hasWidth = process.stderr.isTTY && process.stderr.columns > 0;
  const turns = hasWidth && !process.env.CI && !options.isJson;
  return turns ? createSpinner() : createLines();
}

/** A step whose percentage alone has changed is no new line. */
function createLines(): Progress {
  let last = "";
  return {
    step: (text) => {
      if (text !== last) talk(sanitizeLine(text));
      last = text;
    },
    done: () => {},
  };
}

async function createSpinner(): Promise<Progress> {
  const { default: ora } = await import("ora");
  const spinner = ora({ stream: process.stderr, discardStdin: false });
  return {
    step: (text, percent) => void spinner.start(withBar(sanitizeLine(text), percent)),
    done: () => void spinner.stop(),
  };
}

/** `█████░░░░░ 50 % text`. */
export function withBar(text: string, percent: number | undefined): string {
  if (percent === undefined || !Number.isFinite(percent)) return text;
  const share = Math.min(100, Math.max(0, percent));
  const cells = Math.floor((share / 100) * BAR_CELLS);
  const bar = "█".repeat(cells) + "░".repeat(BAR_CELLS - cells);
  return `${bar} ${String(Math.floor(share)).padStart(3)} % ${text}`;
}
