import { randomBytes } from "node:crypto";
import { rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

/** Begins the names of folders that are on their way out; what a kill left of one is removed with the next pass. */
export const REMOVED_PREFIX = ".removed-";

/** Deletes a folder whose name says that it is whole: first the name goes, so that half of it is never taken for all. */
export async function removeFolder(folder: string): Promise<void> {
  const name = basename(folder);
  const aside = name.startsWith(REMOVED_PREFIX)
    ? folder
    : join(dirname(folder), `${REMOVED_PREFIX}${name}-${randomBytes(4).toString("hex")}`);
  try {
    if (aside !== folder) await rename(folder, aside);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  await rm(aside, { recursive: true, force: true });
}
