import { z } from "zod";
import { safeText } from "./engine-errors.ts";

const text = z.string().transform(safeText).catch("");
const count = z.number().nonnegative().catch(0);

/** What an engine says of itself. Its answers are checked like anybody's (T-32). */
const versionSchema = z.object({ Version: text, Os: text, Arch: text });
const infoSchema = z.object({
  ID: text,
  OperatingSystem: text,
  Driver: text,
  DriverStatus: z.array(z.array(z.string())).nullable().catch([]),
  DockerRootDir: text,
  CgroupVersion: text,
  NCPU: count,
  MemTotal: count,
  SecurityOptions: z.array(z.string()).nullable().catch([]),
  Runtimes: z.record(z.string(), z.unknown()).nullable().catch({}),
  LiveRestoreEnabled: z.boolean().catch(false),
});

export type EngineFacts = {
  readonly id: string;
  readonly version: string;
  /** "linux" and "amd64", as images spell them. */
  readonly os: string;
  readonly architecture: string;
  readonly operatingSystem: string;
  readonly rootDir: string;
  readonly storageDriver: string;
  /** What the storage driver lies on: "extfs", "xfs". */
  readonly backingFileSystem: string;
  readonly cgroupVersion: string;
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly isRootless: boolean;
  readonly runtimes: readonly string[];
  /** Containers go on while the engine restarts. */
  readonly liveRestore: boolean;
};

/** The answers to `GET /version` and `GET /info`. Throws where they are none of an engine's. */
export function engineFacts(version: unknown, info: unknown): EngineFacts {
  const said = versionSchema.parse(version);
  const facts = infoSchema.parse(info);
  return {
    id: facts.ID,
    version: said.Version,
    os: said.Os,
    architecture: said.Arch,
    operatingSystem: facts.OperatingSystem,
    rootDir: facts.DockerRootDir,
    storageDriver: facts.Driver,
    backingFileSystem:
      facts.DriverStatus?.find(([name]) => name === "Backing Filesystem")?.[1]?.toLowerCase() ?? "",
    cgroupVersion: facts.CgroupVersion || "1",
    cpus: facts.NCPU,
    memoryBytes: facts.MemTotal,
    isRootless: facts.SecurityOptions?.some((option) => option.includes("rootless")) ?? false,
    runtimes: Object.keys(facts.Runtimes ?? {}),
    liveRestore: facts.LiveRestoreEnabled,
  };
}

/** Storage drivers that hold a container's own layer to a size by themselves. */
const SIZED_DRIVERS: ReadonlySet<string> = new Set(["btrfs", "zfs", "devicemapper", "windowsfilter"]);

/**
 * Whether the engine itself keeps a container's layer below a size. overlay2 does on xfs with project quotas alone, which the engine does
 * not say: `mounts` is /proc/self/mounts where the engine is on this machine, else null.
 */
export function canLimitDisk(facts: EngineFacts, mounts: string | null): boolean {
  if (SIZED_DRIVERS.has(facts.storageDriver)) return true;
  if (facts.storageDriver !== "overlay2" || facts.backingFileSystem !== "xfs" || mounts === null)
    return false;
  return /(?:^|,)(?:prjquota|pquota)(?:,|$)/.test(mountOptionsOf(facts.rootDir, mounts));
}

/** The options of the mount that a folder lies on. */
function mountOptionsOf(folder: string, mounts: string): string {
  const found = mounts
    .split("\n")
    .map((line) => line.split(" "))
    .filter(([, at = ""]) => at === folder || folder.startsWith(at.endsWith("/") ? at : `${at}/`))
    .sort((a, b) => (b[1]?.length ?? 0) - (a[1]?.length ?? 0));
  return found[0]?.[3] ?? "";
}
