import { RpxError } from "../../../contract/error.ts";
import { MAX_SEALED_TEXT_BYTES, type SecretBox } from "../../ports/secret-box.ts";

/** Hides nothing: for simulations and tests, where nothing may depend on real chance or a real disk. */
export function createSimulatedSecretBox(): SecretBox {
  let sealedTexts = 0;
  return {
    seal(text, context) {
      if (Buffer.byteLength(text) > MAX_SEALED_TEXT_BYTES)
        throw new RpxError("too_large", `a secret may have ${MAX_SEALED_TEXT_BYTES} bytes`);
      sealedTexts += 1;
      return Buffer.from(JSON.stringify([sealedTexts, context, text])).toString("base64");
    },
    open(sealed, context) {
      const [number, writtenFor, text] = parse(sealed);
      if (typeof number === "number" && writtenFor === context && typeof text === "string") return text;
      return refuse();
    },
  };
}

function parse(sealed: string): readonly unknown[] {
  try {
    const parts: unknown = JSON.parse(Buffer.from(sealed, "base64").toString("utf8"));
    return Array.isArray(parts) ? parts : refuse();
  } catch {
    return refuse();
  }
}

function refuse(): never {
  throw new RpxError("conflict", "a stored secret cannot be read", {
    why: "it was changed, or belongs to something else",
  });
}
