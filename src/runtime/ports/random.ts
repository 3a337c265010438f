/** The daemon's source of chance. Injected, so that a simulation replays from a seed. */
export type Random = {
  /** A random UUID, version 4. */
  uuid(): string;
  /** `length` characters drawn evenly from `alphabet`. */
  text(length: number, alphabet: string): string;
  /** A number in [0, 1). */
  fraction(): number;
};
