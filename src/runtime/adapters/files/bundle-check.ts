import path from "node:path";
import type { ReadEntry } from "tar";
import { RpxError } from "../../../contract/error.ts";

export type BundleCaps = {
  readonly packedBytes: number;
  readonly unpackedBytes: number;
  readonly entries: number;
  /** Unpacked bytes per packed byte. */
  readonly ratio: number;
};

/** What a handler's folder holds. Devices, pipes and the rest are refused. */
const KINDS: ReadonlySet<string> = new Set([
  "File",
  "OldFile",
  "ContiguousFile",
  "Directory",
  "SymbolicLink",
  "Link",
]);
/** A small archive of zeros compresses better than any ratio: these many unpacked bytes are always fine. */
const RATIO_FREE_BYTES = 16 * 1024 * 1024;
const MAX_PATH_CHARACTERS = 1_024;
const SET_ID_BITS = 0o6000;

/**
 * Judges the entries of one archive in their order (T-22): throws `bad_request` at a path that is absolute, climbs or goes through a link,
 * at a link that could lead out, at a device and at a set-uid file; `too_large` beyond the caps.
 */
export function createBundleCheck(caps: BundleCaps, packedBytes: number): (entry: ReadEntry) => void {
  const links = new Set<string>();
  const files = new Set<string>();
  const mostBytes = Math.min(caps.unpackedBytes, Math.max(RATIO_FREE_BYTES, caps.ratio * packedBytes));
  let entries = 0;
  let bytes = 0;

  return (entry) => {
    entries += 1;
    bytes += entry.size;
    if (entries > caps.entries)
      throw new RpxError("too_large", `the bundle has more than ${caps.entries} entries`);
    if (bytes > mostBytes)
      throw new RpxError("too_large", `the bundle unpacks to more than ${mostBytes} bytes`);
    checkKind(entry);
    const parts = partsOf(entry.path);
    if (parts === null) throw hostile(entry, "its path leads out of the bundle");
    if (leadsThrough(links, parts)) throw hostile(entry, "its path goes through a link");
    if (entry.type === "SymbolicLink") {
      checkSymbolicLink(entry, parts);
      // Written before as something else, it would be replaced: what went through it has been judged already.
      if (files.has(keyOf(parts))) throw hostile(entry, "it replaces another entry");
      links.add(keyOf(parts));
    }
    if (entry.type === "Link") checkHardLink(entry, links, files);
    for (let depth = 1; depth <= parts.length; depth += 1) files.add(keyOf(parts.slice(0, depth)));
  };
}

function checkKind(entry: ReadEntry): void {
  if (!KINDS.has(entry.type)) throw hostile(entry, `it is a ${entry.type}`);
  const isFile = entry.type !== "Directory" && entry.type !== "SymbolicLink";
  if (isFile && ((entry.mode ?? 0) & SET_ID_BITS) !== 0) throw hostile(entry, "it is set-uid or set-gid");
}

/**
 * Its target may climb only at its beginning, and not above the bundle. As paths never go through links, those steps are what they
 * seem; what follows is names, each a file, a folder or another link that passed here.
 */
function checkSymbolicLink(entry: ReadEntry, parts: readonly string[]): void {
  const target = entry.linkpath ?? "";
  if (target === "" || target.includes("\0") || path.posix.isAbsolute(target))
    throw hostile(entry, "it links out of the bundle");
  const steps = target.split("/").filter((part) => part !== "" && part !== ".");
  const names = steps.findIndex((part) => part !== "..");
  const climbs = names === -1 ? steps.length : names;
  if (climbs > parts.length - 1 || steps.slice(climbs).includes(".."))
    throw hostile(entry, "it links out of the bundle");
}

/** Another name of a file that came before, by its path in the bundle. */
function checkHardLink(entry: ReadEntry, links: ReadonlySet<string>, files: ReadonlySet<string>): void {
  const parts = partsOf(entry.linkpath ?? "");
  if (parts === null || !files.has(keyOf(parts)) || leadsThrough(links, parts))
    throw hostile(entry, "it links to what is not in the bundle");
}

/** Null for a path that is empty, absolute, too long, or climbs. */
function partsOf(text: string): string[] | null {
  if (text === "" || text.length > MAX_PATH_CHARACTERS || path.posix.isAbsolute(text)) return null;
  if (text.includes("\0") || text.includes("\\")) return null;
  const parts = text.split("/").filter((part) => part !== "" && part !== ".");
  return parts.includes("..") ? null : parts;
}

function leadsThrough(links: ReadonlySet<string>, parts: readonly string[]): boolean {
  return parts.some((_, depth) => links.has(keyOf(parts.slice(0, depth + 1))));
}

/** One key for names that some file systems (macOS) hold for one. */
function keyOf(parts: readonly string[]): string {
  return parts.join("/").normalize("NFC").toLowerCase();
}

function hostile(entry: ReadEntry, why: string): RpxError {
  const shown = JSON.stringify(entry.path.slice(0, 200));
  return new RpxError("bad_request", `the bundle is refused for its entry ${shown}`, {
    why,
    hint: "leave it out of the folder, or list it in .dockerignore",
  });
}
