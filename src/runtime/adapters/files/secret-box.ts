import { createCipheriv, createDecipheriv, createHash, type KeyObject, randomBytes } from "node:crypto";
import { RpxError } from "../../../contract/error.ts";
import { MAX_SEALED_TEXT_BYTES, type SecretBox } from "../../ports/secret-box.ts";
import { makeSecretKey, readSecretKey } from "./secret-key.ts";

/** First byte of a sealed text: how the rest is to be read. */
const VERSION = 1;
const CIPHER = "aes-256-gcm";
/** Tells the key of this directory from another's; says nothing about it. */
const KEY_ID_BYTES = 8;
/** Random ones repeat with odds of 2^-32 after 2^32 texts (NIST SP 800-38D, 8.3). */
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const HEAD_BYTES = 1 + KEY_ID_BYTES + NONCE_BYTES;

/** The parts of a sealed text, in their order: version, key id, nonce, ciphertext, tag; written as base64. */
type Sealed = {
  readonly version: number;
  readonly keyId: Buffer;
  readonly nonce: Buffer;
  readonly ciphertext: Buffer;
  readonly tag: Buffer;
};

/**
 * AES-256-GCM with a key in the data directory (`secret-key`, mode 0600). It keeps copies of the database from telling secrets; who
 * can read the whole data directory can read them. The nonce is the operating system's chance, not the Random port's: a repeated
 * one would give texts away.
 */
export function createSecretBox({ dataDir }: { readonly dataDir: string }): SecretBox {
  let known: { readonly key: KeyObject; readonly id: Buffer } | null = null;

  function remember(key: KeyObject) {
    known = { key, id: keyIdOf(key) };
    return known;
  }

  function present() {
    if (known) return known;
    const key = readSecretKey(dataDir);
    return key && remember(key);
  }

  return {
    seal(text, context) {
      if (Buffer.byteLength(text) > MAX_SEALED_TEXT_BYTES)
        throw new RpxError("too_large", `a secret may have ${MAX_SEALED_TEXT_BYTES} bytes`);
      const { key, id } = present() ?? remember(makeSecretKey(dataDir));
      const nonce = randomBytes(NONCE_BYTES);
      const cipher = createCipheriv(CIPHER, key, nonce).setAAD(headOf(id, context));
      const ciphertext = Buffer.concat([cipher.update(text, "utf8"), cipher.final()]);
      return Buffer.concat([Buffer.of(VERSION), id, nonce, ciphertext, cipher.getAuthTag()]).toString(
        "base64",
      );
    },
    open(sealed, context) {
      const parts = parse(sealed);
      const { key, id } = present() ?? refuse("its key is missing from the data directory");
      if (parts.version !== VERSION)
        refuse(`its form is version ${parts.version}, this rpx knows ${VERSION}`);
      if (!parts.keyId.equals(id)) refuse("it was sealed with another key than the data directory has");
      try {
        const decipher = createDecipheriv(CIPHER, key, parts.nonce, { authTagLength: TAG_BYTES });
        decipher.setAAD(headOf(id, context)).setAuthTag(parts.tag);
        return Buffer.concat([decipher.update(parts.ciphertext), decipher.final()]).toString("utf8");
      } catch {
        return refuse("it was changed, or belongs to something else");
      }
    },
  };
}

function parse(sealed: string): Sealed {
  const bytes = Buffer.from(sealed, "base64");
  if (bytes.length < HEAD_BYTES + TAG_BYTES) return refuse("it is cut short");
  return {
    version: bytes.readUInt8(0),
    keyId: bytes.subarray(1, 1 + KEY_ID_BYTES),
    nonce: bytes.subarray(1 + KEY_ID_BYTES, HEAD_BYTES),
    ciphertext: bytes.subarray(HEAD_BYTES, -TAG_BYTES),
    tag: bytes.subarray(-TAG_BYTES),
  };
}

/** What is authenticated beside the text: version and key id as they are stored, and the context. */
function headOf(keyId: Buffer, context: string): Buffer {
  return Buffer.concat([Buffer.of(VERSION), keyId, Buffer.from(context)]);
}

function keyIdOf(key: KeyObject): Buffer {
  return createHash("sha256")
    .update("rpx secret key id\0")
    .update(key.export())
    .digest()
    .subarray(0, KEY_ID_BYTES);
}

function refuse(why: string): never {
  throw new RpxError("conflict", "a stored secret cannot be read", {
    why,
    hint: "restore the file secret-key beside the database, or set the secret again",
  });
}
