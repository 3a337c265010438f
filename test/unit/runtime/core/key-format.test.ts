import { crc32 } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  digestKey,
  KEY_ALPHABET,
  KEY_BODY_LENGTH,
  type KeyKind,
  keyPrefix,
  makeKey,
  parseKey,
} from "../../../../src/runtime/core/key-format.ts";

const body = fc
  .array(fc.constantFrom(...KEY_ALPHABET), { minLength: KEY_BODY_LENGTH, maxLength: KEY_BODY_LENGTH })
  .map((letters) => letters.join(""));
const kind = fc.constantFrom<KeyKind>("client", "admin", "worker");

describe("keys", () => {
  test("have a prefix by kind, 40 characters and 6 of checksum", () => {
    const text = makeKey("client", "a".repeat(40));
    expect(text).toMatch(/^rpxk_a{40}[0-9A-Za-z]{6}$/);
    expect(makeKey("admin", "a".repeat(40))).toMatch(/^rpxa_/);
    expect(makeKey("worker", "a".repeat(40))).toMatch(/^rpxw_/);
    expect(keyPrefix(text)).toBe("rpxk_aaaa");
  });

  test("the checksum is CRC-32 in base 62", () => {
    const text = makeKey("client", "0".repeat(40));
    const value = [...text.slice(-6)].reduce((sum, digit) => sum * 62 + KEY_ALPHABET.indexOf(digit), 0);
    expect(value).toBe(crc32(text.slice(0, -6)));
  });

  test("T-02 every key is read back as its kind", () => {
    fc.assert(
      fc.property(kind, body, (kind, body) => {
        expect(parseKey(makeKey(kind, body))).toBe(kind);
      }),
    );
  });

  test("T-02 one changed character is found without a look-up", () => {
    fc.assert(
      fc.property(body, fc.nat(50), fc.constantFrom(...KEY_ALPHABET), (body, place, letter) => {
        const text = makeKey("client", body);
        fc.pre(text.charAt(place) !== letter);
        expect(parseKey(text.slice(0, place) + letter + text.slice(place + 1))).toBeNull();
      }),
    );
  });

  test.each([
    "",
    "rpxk_",
    "x".repeat(51),
    `rpxz_${"a".repeat(46)}`,
    `${makeKey("client", "b".repeat(40))}\n`,
  ])("%j is no key", (text) => expect(parseKey(text)).toBeNull());

  test("a random part of another length is a mistake of ours", () => {
    expect(() => makeKey("client", "short")).toThrow("40 characters, got 5");
  });

  test("the digest is SHA-256 in hex", () => {
    expect(digestKey("abc")).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  });
});
