import { RpxError } from "../contract/error.ts";

/** What a first Ctrl-C leaves running, and how to stop it. */
export type StillRunning = { readonly message: string; readonly hint?: string };

/** `signal` fires at the first Ctrl-C with an RpxError `interrupted` as its reason. */
export type Interrupt = {
  readonly signal: AbortSignal;
  /** Sets what is said then; a function, because it changes while a command goes on. */
  readonly explain: (stillRunning: StillRunning) => void;
  readonly dispose: () => void;
};

const EXIT_INTERRUPTED = 130;
/**
 * A terminal sends Ctrl-C to every process in the foreground, and a wrapper (npm, npx, an older Node) hands it on: two signals in this
 * time in ms are one press.
 */
const SAME_PRESS_MS = 200;

/** Takes over Ctrl-C: the first stops waiting, the second ends the process at once. */
export function createInterrupt(): Interrupt {
  const controller = new AbortController();
  let stillRunning: StillRunning = { message: "interrupted" };
  let firstAtMs: number | undefined;
  const onSignal = (): void => {
    const nowMs = performance.now();
    if (firstAtMs === undefined) {
      firstAtMs = nowMs;
      const { message, hint } = stillRunning;
      controller.abort(new RpxError("interrupted", message, hint === undefined ? {} : { hint }));
    } else if (nowMs - firstAtMs > SAME_PRESS_MS) process.exit(EXIT_INTERRUPTED);
  };
  process.on("SIGINT", onSignal);
  return {
    signal: controller.signal,
    explain: (next) => {
      stillRunning = next;
    },
    dispose: () => void process.off("SIGINT", onSignal),
  };
}
