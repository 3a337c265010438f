import { statfs } from "node:fs/promises";
import type { Engine } from "./engine.ts";

/** Null where the engine's folder is not on this machine: another's, or a virtual machine behind a socket of this one. */
export async function freeBytesOf(engine: Pick<Engine, "facts" | "isSocket">): Promise<number | null> {
  const folder = engine.facts()?.rootDir;
  if (!engine.isSocket || folder === undefined) return null;
  try {
    const { bavail, bsize } = await statfs(folder);
    return bavail * bsize;
  } catch {
    return null;
  }
}
