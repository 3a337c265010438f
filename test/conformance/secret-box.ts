import fc from "fast-check";
import { expect, test } from "vitest";
import { RpxError } from "../../src/contract/error.ts";
import { MAX_SEALED_TEXT_BYTES, type SecretBox } from "../../src/runtime/ports/secret-box.ts";

/** What the call refuses with; fails when it does not. */
export function refusalOf(call: () => unknown): RpxError {
  try {
    call();
  } catch (error) {
    if (error instanceof RpxError) return error;
    throw error;
  }
  throw new Error("it was not refused");
}

/** What every secret box does. `make` gives a new one with nothing in it. */
export function secretBoxSuite(make: () => SecretBox): void {
  test("what was sealed opens again, whatever it holds", () => {
    const box = make();
    const texts = [
      "",
      "hunter2",
      "two\nlines\r\n",
      '"quoted" \\ \u0000 \u{1f600}',
      "x".repeat(MAX_SEALED_TEXT_BYTES),
    ];
    for (const text of texts) expect(box.open(box.seal(text, "a"), "a")).toBe(text);
    fc.assert(
      fc.property(fc.string({ unit: "grapheme" }), fc.string(), (text, context) => {
        expect(box.open(box.seal(text, context), context)).toBe(text);
      }),
    );
  });

  test("it is another each time, and one line of text", () => {
    const box = make();
    const [one, other] = [box.seal("hunter2", "a"), box.seal("hunter2", "a")];
    expect(one).not.toBe(other);
    expect(one).toMatch(/^[A-Za-z0-9+/=]+$/);
  });

  test("it opens in its own context alone", () => {
    const box = make();
    const sealed = box.seal("hunter2", "secret:ada:token");
    for (const context of ["secret:ada:token2", "secret:eve:token", ""]) {
      const error = refusalOf(() => box.open(sealed, context));
      expect(error).toMatchObject({ code: "conflict", message: "a stored secret cannot be read" });
      expect(`${error.message} ${error.why} ${error.hint}`).not.toContain("hunter2");
    }
  });

  test("what nobody sealed is refused", () => {
    const box = make();
    box.seal("there is a key", "a");
    for (const sealed of ["", "AAAA", "no base64 at all!", "A".repeat(200)])
      expect(refusalOf(() => box.open(sealed, "a")).code).toBe("conflict");
  });

  test("a text over the limit is refused", () => {
    const box = make();
    expect(refusalOf(() => box.seal("x".repeat(MAX_SEALED_TEXT_BYTES + 1), "a")).code).toBe("too_large");
    expect(refusalOf(() => box.seal("ü".repeat(MAX_SEALED_TEXT_BYTES / 2 + 1), "a")).code).toBe("too_large");
  });
}
