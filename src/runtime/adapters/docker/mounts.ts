import { realpath } from "node:fs/promises";
import path from "node:path";
import { RpxError } from "../../../contract/error.ts";
import type { BuiltMount } from "../../core/model.ts";

/** Places of this machine that a worker sees only where it was said explicitly, as real paths. */
export type MountRules = {
  readonly dataDir: string;
  /** Folders below the data directory that workers may be given: volumes, unpacked bundles. */
  readonly mountable: readonly string[];
  /** The engine's socket and its data. */
  readonly engine: readonly string[];
};

/** Neither these nor anything below: the kernel, devices, settings, and the sockets of services. */
const DENIED_TREES = ["/proc", "/sys", "/dev", "/etc", "/boot", "/run", "/var/run", "/private/etc"];
/** Not these themselves, nor what holds them. */
const DENIED_FOLDERS = ["/root"];
/** Where a mount would hide what the engine itself puts there. */
const DENIED_TARGETS = ["/proc", "/sys", "/dev"];

/**
 * The mounts of a release with their sources as real paths, so that no link leads elsewhere. Rejects with an RpxError when a folder is gone
 * or must not be seen by workers (T-12).
 */
export async function resolveMounts(
  mounts: readonly BuiltMount[],
  rules: MountRules,
): Promise<readonly BuiltMount[]> {
  const real = await realRules(rules);
  return Promise.all(
    mounts.map(async (mount) => {
      const source = await realpath(mount.source).catch((error: NodeJS.ErrnoException) => {
        throw new RpxError("unavailable", `cannot start a worker: ${mount.source} cannot be mounted`, {
          why: error.code === "ENOENT" ? "there is no such folder" : error.message,
          cause: error,
        });
      });
      const resolved = { ...mount, source };
      const refusal = refusedMount(resolved, real);
      if (refusal === null) return resolved;
      throw new RpxError("forbidden", `cannot start a worker: ${mount.source} must not be mounted`, {
        why: refusal,
        hint: "move the folder to a place of its own",
      });
    }),
  );
}

async function realRules(rules: MountRules): Promise<MountRules> {
  const real = (file: string) => realpath(file).catch(() => path.resolve(file));
  return {
    dataDir: await real(rules.dataDir),
    mountable: await Promise.all(rules.mountable.map(real)),
    engine: await Promise.all(rules.engine.map(real)),
  };
}

/** Why a mount is refused, or null. Paths are real ones. */
export function refusedMount({ source, target }: BuiltMount, rules: MountRules): string | null {
  if (!path.isAbsolute(source)) return "it is not an absolute path";
  if (!path.isAbsolute(target) || path.resolve(target) === "/" || isBelowAny(target, DENIED_TARGETS))
    return `a worker cannot have it at ${target}`;
  if (path.resolve(source) === "/") return "it is the whole file system";
  const tree = DENIED_TREES.find((denied) => isWithin(source, denied) || isWithin(denied, source));
  if (tree !== undefined) return `it would show ${tree} to the worker`;
  const folder = [...DENIED_FOLDERS, ...rules.engine].find((denied) => isWithin(denied, source));
  if (folder !== undefined) return `it would show ${folder} to the worker`;
  if (isBelowAny(source, rules.engine)) return "it belongs to the Docker engine";
  if (isWithin(rules.dataDir, source)) return "it would show rpx's own data to the worker";
  if (isWithin(source, rules.dataDir) && !isBelowAny(source, rules.mountable))
    return "it belongs to rpx's own data";
  return null;
}

function isBelowAny(file: string, folders: readonly string[]): boolean {
  return folders.some((folder) => isWithin(file, folder));
}

/** Whether `file` is `folder` or lies below it. */
function isWithin(file: string, folder: string): boolean {
  const between = path.relative(folder, file);
  return between === "" || (between.split(path.sep)[0] !== ".." && !path.isAbsolute(between));
}
