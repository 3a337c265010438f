import { randomBytes } from "node:crypto";
import { linkSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";

const NAME = "id";
const ID_BYTES = 6;
const ID = /^[0-9a-f]{12}$/;

/**
 * The id of a data directory, made when it is first asked for: the label of the containers, images and networks that belong to it. It
 * stays when the directory is moved. A copy of the directory has the same one.
 */
export function dataDirId(dataDir: string): string {
  const file = path.join(dataDir, NAME);
  const known = read(file);
  if (known !== null) return known;
  const part = `${file}.new`;
  rmSync(part, { force: true });
  writeFileSync(part, `${randomBytes(ID_BYTES).toString("hex")}\n`, { flag: "wx", mode: 0o600, flush: true });
  rmSync(file, { force: true });
  // Whole or not at all.
  linkSync(part, file);
  rmSync(part);
  return dataDirId(dataDir);
}

/** Null where there is none that can be used. */
function read(file: string): string | null {
  try {
    const text = readFileSync(file, "utf8").trim();
    return ID.test(text) ? text : null;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}
