/** The daemon's time. Injected, so that a simulation runs the same code on virtual time. */
export type Clock = {
  /**
   * Milliseconds of the daemon's own time: starts at the wall clock, or past the newest stored time, then monotonic. It follows
   * the wall clock by slewing: never backwards, never by more than 60 s at once.
   */
  nowMs(): number;
  /** Resolves after `ms`, or at once when the signal aborts (it never rejects). */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Calls back when the present turn of the event loop has done its input and output. */
  endOfTurn(callback: () => void): void;
};
