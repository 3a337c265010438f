import { hash } from "node:crypto";

/** Who a key is for: a client, an administrator, a worker (never shown). */
export type KeyKind = "client" | "admin" | "worker";

const PREFIXES = { client: "rpxk_", admin: "rpxa_", worker: "rpxw_" } as const satisfies Record<
  KeyKind,
  string
>;

/** Digits of the random part and of the checksum, in order of value. */
export const KEY_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/** Characters of the random part: 238 bits (T-02 asks for 230). */
export const KEY_BODY_LENGTH = 40;
/** Characters of the checksum: base 62 needs six for 32 bits. */
const CHECKSUM_LENGTH = 6;
/** Characters that lists show: enough to tell keys apart, useless to a guesser. */
const SHOWN_LENGTH = 9;

const FORM = `rpx[kaw]_[0-9A-Za-z]{${KEY_BODY_LENGTH + CHECKSUM_LENGTH}}`;
const PATTERN = new RegExp(`^${FORM}$`);
/** Keys inside a text, by their form alone. */
export const KEY_PATTERN = new RegExp(FORM, "g");

/**
 * A key's text: prefix, random part, checksum over both (the form of GitHub's tokens, so that scanners can confirm one).
 * `body` is {@link KEY_BODY_LENGTH} characters drawn from {@link KEY_ALPHABET}.
 */
export function makeKey(kind: KeyKind, body: string): string {
  if (body.length !== KEY_BODY_LENGTH) {
    throw new TypeError(`a key's random part has ${KEY_BODY_LENGTH} characters, got ${body.length}`);
  }
  const start = PREFIXES[kind] + body;
  return start + checksum(start);
}

/** What kind of key a text is; null when its form or checksum is wrong, as with a typo. Says nothing about its validity. */
export function parseKey(text: string): KeyKind | null {
  if (!PATTERN.test(text)) return null;
  const start = text.slice(0, -CHECKSUM_LENGTH);
  if (checksum(start) !== text.slice(-CHECKSUM_LENGTH)) return null;
  if (text.startsWith(PREFIXES.client)) return "client";
  return text.startsWith(PREFIXES.admin) ? "admin" : "worker";
}

/** SHA-256 of a key in hex: all that is ever stored. A key is random enough to need no salt. */
export function digestKey(text: string): string {
  return hash("sha256", text);
}

/** The first characters of a key, for lists. */
export function keyPrefix(text: string): string {
  return text.slice(0, SHOWN_LENGTH);
}

function checksum(text: string): string {
  let rest = crc32(text);
  let digits = "";
  for (let place = 0; place < CHECKSUM_LENGTH; place += 1) {
    digits = KEY_ALPHABET.charAt(rest % KEY_ALPHABET.length) + digits;
    rest = Math.floor(rest / KEY_ALPHABET.length);
  }
  return digits;
}

/** CRC-32 as in zip (reflected polynomial 0xEDB88320) of ASCII text. */
function crc32(text: string): number {
  let crc = 0xffffffff;
  for (let index = 0; index < text.length; index += 1) {
    crc ^= text.charCodeAt(index);
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}
