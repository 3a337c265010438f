import { constants } from "node:os";
import { ShownError } from "../errors.ts";
import type { Interrupt } from "../interrupt.ts";

/** What ends `rpx dev` beside Ctrl-C: a `kill`, and a terminal that is closed. */
const OTHER_SIGNALS = ["SIGTERM", "SIGHUP"] as const;
const SIGNAL_BASE = 128;

/** Ends everything in order at Ctrl-C (exit 130), SIGTERM (143) or SIGHUP (129): the signal's reason carries the exit code. */
export function createStopSignals(interrupt: Interrupt): { readonly signal: AbortSignal; dispose(): void } {
  interrupt.explain({ message: "interrupted; nothing is left running" });
  const controller = new AbortController();
  const listeners = OTHER_SIGNALS.map((name) => {
    const listener = (): void => controller.abort(new ShownError(SIGNAL_BASE + constants.signals[name]));
    process.once(name, listener);
    return { name, listener };
  });
  return {
    signal: AbortSignal.any([interrupt.signal, controller.signal]),
    dispose: () => {
      for (const { name, listener } of listeners) process.off(name, listener);
    },
  };
}
