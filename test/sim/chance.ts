import { createSimulatedRandom } from "../../src/runtime/adapters/simulated/random.ts";

/** Chance of one part of a simulation: its draws do not depend on what other parts draw. */
export type Chance = {
  /** A number in [0, 1). */
  fraction(): number;
  /** A whole number from `least` to `most`, both included. */
  between(least: number, most: number): number;
  /** True with this probability. */
  hits(probability: number): boolean;
  pick<T>(from: readonly T[]): T;
  /** Many small values and a few large ones, from `least` to `most`: latencies, run times. */
  skewed(least: number, most: number): number;
};

/** The chance named `name` in the world of `seed`. */
export function chanceOf(seed: number, name: string): Chance {
  const { fraction } = createSimulatedRandom(seedOf(seed, name));
  const between = (least: number, most: number): number =>
    least + Math.floor(fraction() * (most - least + 1));
  return {
    fraction,
    between,
    hits: (probability) => fraction() < probability,
    pick: (from) => {
      const picked = from[between(0, from.length - 1)];
      if (picked === undefined) throw new RangeError("nothing to pick from");
      return picked;
    },
    skewed: (least, most) => Math.round(least + (most - least) * fraction() ** 4),
  };
}

/** FNV-1a over the name, begun with the seed. */
export function seedOf(seed: number, name: string): number {
  let hash = 0x811c9dc5 ^ seed;
  for (let at = 0; at < name.length; at += 1) hash = Math.imul(hash ^ name.charCodeAt(at), 0x01000193);
  return hash;
}
