import type { Random } from "../../ports/random.ts";

const HEX = "0123456789abcdef";
/** Digits that RFC 9562 allows where a version 4 UUID holds its variant. */
const VARIANT = "89ab";

/** Chance that replays: one seed (a whole number) gives one sequence. Not fit for keys that anyone else could guess. */
export function createSimulatedRandom(seed: number): Random {
  const fraction = mulberry32(seed);
  const text = (length: number, alphabet: string): string =>
    Array.from({ length }, () => alphabet.charAt(Math.floor(fraction() * alphabet.length))).join("");
  return {
    fraction,
    text,
    uuid: () =>
      `${text(8, HEX)}-${text(4, HEX)}-4${text(3, HEX)}-${text(1, VARIANT)}${text(3, HEX)}-${text(12, HEX)}`,
  };
}

/** Mulberry32 (Tommy Ettinger, public domain): 32 bits of state, passes gjrand. */
function mulberry32(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
