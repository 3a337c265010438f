import type { Stats } from "node:fs";
import { lstat, readdir, readlink, realpath } from "node:fs/promises";
import { dirname, isAbsolute, join, resolve, sep } from "node:path";
import { RpxError } from "../contract/error.ts";
import { formatSize } from "../text/size.ts";
import { IGNORE_FILE, type Ignored } from "./ignore-file.ts";

/** T-22: the most a folder may hold; the daemon refuses more too. */
export const MAX_FOLDER_BYTES = 2_000_000_000;
export const MAX_FOLDER_ENTRIES = 50_000;

/**
 * Every path of a folder that is sent (relative, forward slashes), sorted by code unit so that no locale or file system decides the
 * order. Throws RpxError `usage` for a link that leads out of the folder (T-21), for what is no file, folder or link, and `too_large`
 * beyond the caps. `root` is an absolute path without links.
 */
export async function listFolder(root: string, ignored: Ignored): Promise<string[]> {
  const paths: string[] = [];
  let bytes = 0;
  const visit = async (folder: string): Promise<void> => {
    for (const name of (await readdir(join(root, folder))).sort()) {
      const path = folder === "" ? name : `${folder}/${name}`;
      const leftOut = ignored.isIgnored(path);
      const entry = await lstat(join(root, path));
      if (leftOut && !(entry.isDirectory() && ignored.mayTakeBack)) continue;
      if (!leftOut) {
        await checkEntry(root, path, entry);
        paths.push(path);
        bytes += entry.isFile() ? entry.size : 0;
        checkCaps(root, { entries: paths.length, bytes });
      }
      if (entry.isDirectory()) await visit(path);
    }
  };
  await visit("");
  return paths.sort();
}

function checkCaps(root: string, { entries, bytes }: { entries: number; bytes: number }): void {
  if (entries <= MAX_FOLDER_ENTRIES && bytes <= MAX_FOLDER_BYTES) return;
  const most =
    entries > MAX_FOLDER_ENTRIES
      ? `${MAX_FOLDER_ENTRIES} files and folders`
      : `${formatSize(MAX_FOLDER_BYTES)}`;
  throw new RpxError("too_large", `${root} is too large to send`, {
    why: `it holds more than ${most}`,
    hint: `name what the handler does not need in ${IGNORE_FILE}`,
  });
}

async function checkEntry(root: string, path: string, entry: Stats): Promise<void> {
  if (entry.isFile() || entry.isDirectory()) return;
  const refuse = (why: string): RpxError =>
    new RpxError("usage", `cannot send ${join(root, path)}`, {
      why,
      hint: `remove it, or name it in ${IGNORE_FILE}`,
    });
  if (!entry.isSymbolicLink()) throw refuse("it is neither a file, a folder nor a link");
  if (await leadsOut(root, path)) throw refuse("it is a link that leads out of the folder");
}

/** An absolute link leads out wherever the tar is unpacked. Checked as it is written and as the file system follows it. */
async function leadsOut(root: string, path: string): Promise<boolean> {
  const link = join(root, path);
  const target = await readlink(link);
  if (isAbsolute(target) || !isWithin(root, resolve(dirname(link), target))) return true;
  const real = await realpath(link).catch(() => null);
  return real !== null && !isWithin(root, real);
}

function isWithin(root: string, path: string): boolean {
  return path === root || path.startsWith(root.endsWith(sep) ? root : root + sep);
}
