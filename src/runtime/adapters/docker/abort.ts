/** A signal that aborts with any of others, for as long as it is held. `AbortSignal.any` would stay attached to a lasting one. */
export type Joined = { readonly controller: AbortController; readonly signal: AbortSignal; release(): void };

/** Aborts when one of the signals does; `release` detaches it from them. */
export function joinSignals(signals: readonly (AbortSignal | undefined)[]): Joined {
  const controller = new AbortController();
  const joined = signals.filter((signal) => signal !== undefined);
  const listeners = joined.map((signal) => {
    const listener = (): void => controller.abort(signal.reason);
    if (signal.aborted) listener();
    else signal.addEventListener("abort", listener, { once: true });
    return () => signal.removeEventListener("abort", listener);
  });
  return {
    controller,
    signal: controller.signal,
    release: () => {
      for (const remove of listeners) remove();
    },
  };
}

/** Settles as the promise does, or rejects with the signal's reason when it aborts first. */
export async function unlessAborted<Value>(promise: Promise<Value>, signal: AbortSignal): Promise<Value> {
  let abandon = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    abandon = () => reject(signal.reason);
    if (signal.aborted) abandon();
    else signal.addEventListener("abort", abandon, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", abandon);
  }
}
