import { createSecretKey, type KeyObject, randomBytes } from "node:crypto";
import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  fsyncSync,
  linkSync,
  openSync,
  readSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { RpxError } from "../../../contract/error.ts";

const NAME = "secret-key";
const KEY_BYTES = 32;
const OWNER_ONLY = 0o600;
const OTHERS_BITS = 0o077;
/** The key's text, 43 characters of base64url, with its newline; a longer file is no key. */
const MAX_FILE_BYTES = 64;

/** The key of a data directory, or null where there is none. A KeyObject never shows its bytes when it is printed. */
export function readSecretKey(dataDir: string): KeyObject | null {
  const file = path.join(dataDir, NAME);
  const bytes = Buffer.from(readPrivate(file) ?? "", "base64url");
  if (bytes.length === 0) return null;
  if (bytes.length === KEY_BYTES) return createSecretKey(bytes);
  throw new RpxError("conflict", `the key file ${file} is damaged`, {
    why: `it should hold ${KEY_BYTES} bytes`,
    hint: "restore it from a copy of the data directory; without it, stored secrets have to be set again",
  });
}

/**
 * A new key, on disk and synced before anybody gets it: what is sealed with a key that a power cut takes is lost. Written aside and
 * linked into place, so that it is there whole or not at all and never takes the place of another.
 */
export function makeSecretKey(dataDir: string): KeyObject {
  const file = path.join(dataDir, NAME);
  const bytes = randomBytes(KEY_BYTES);
  const part = `${file}.new`;
  try {
    rmSync(part, { force: true });
    writeFileSync(part, `${bytes.toString("base64url")}\n`, { flag: "wx", mode: OWNER_ONLY, flush: true });
    linkSync(part, file);
    rmSync(part);
    syncFolder(dataDir);
  } catch (error) {
    throw new RpxError("unavailable", `the key file ${file} could not be written`, {
      why: (error as NodeJS.ErrnoException).code ?? "it was refused",
      hint: "free space in the data directory, or make it writable",
    });
  }
  return createSecretKey(bytes);
}

/** The text of a file of this user alone; null where there is none. Links are not followed. */
function readPrivate(file: string): string | null {
  let descriptor: number;
  try {
    descriptor = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return null;
    throw new RpxError("forbidden", `the key file ${file} cannot be read`, {
      why: code ?? "it was refused",
      hint: "it must be a file of the user that runs rpx",
    });
  }
  try {
    if ((fstatSync(descriptor).mode & OTHERS_BITS) !== 0) fchmodSync(descriptor, OWNER_ONLY);
    const buffer = Buffer.alloc(MAX_FILE_BYTES);
    return buffer.toString("latin1", 0, readSync(descriptor, buffer)).trim();
  } finally {
    closeSync(descriptor);
  }
}

function syncFolder(folder: string): void {
  const descriptor = openSync(folder, "r");
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
