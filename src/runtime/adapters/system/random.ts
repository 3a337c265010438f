import { randomBytes, randomInt, randomUUID } from "node:crypto";
import type { Random } from "../../ports/random.ts";

/** 2^48: six random bytes are a whole number below it. */
const FRACTION_STEPS = 2 ** 48;

/** The operating system's cryptographic randomness: fit for keys and tokens. */
export function createSystemRandom(): Random {
  return {
    uuid: () => randomUUID(),
    text: (length, alphabet) =>
      Array.from({ length }, () => alphabet.charAt(randomInt(alphabet.length))).join(""),
    fraction: () => randomBytes(6).readUIntBE(0, 6) / FRACTION_STEPS,
  };
}
