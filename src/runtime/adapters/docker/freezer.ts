import { constants, writeFileSync } from "node:fs";
import { access, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import type { Clock } from "../../ports/clock.ts";

/** The kernel's own switch of one container: it stands still in 1 ms and goes on in 0.1, without the engine (D21). */
export type Freezer = {
  freeze(): Promise<void>;
  thaw(): Promise<void>;
  isFrozen(): Promise<boolean>;
};

/** The files of a control group, version 1 or 2. */
type Files = {
  readonly control: string;
  readonly frozen: string;
  readonly thawed: string;
  readonly state: string;
  readonly isFrozen: (text: string) => boolean;
};

/** A process in an uninterruptible wait stops only after it. */
const FREEZE_LIMIT_MS = 5_000;
const POLL_MS = 2;

export type FindFreezer = (options: {
  readonly pid: number;
  readonly containerId: string;
  readonly clock: Clock;
}) => Promise<Freezer | null>;

/**
 * The freezer of a container by the process id that the engine gives; null where this daemon may not write it, or where that process is
 * none of this machine's (an engine in a virtual machine has process ids of its own): the group must carry the container's full id.
 */
export const findFreezer: FindFreezer = async ({ pid, containerId, clock }) => {
  if (pid <= 0) return null;
  const groups = await readOrEmpty(`/proc/${pid}/cgroup`);
  const mounts = await readOrEmpty("/proc/self/mountinfo");
  const files = freezerFiles(groups, mounts, containerId);
  if (files === null || !(await isWritable(files.control))) return null;
  return createFreezer(files, clock);
};

/** From the texts of `/proc/PID/cgroup` and `/proc/self/mountinfo`. Pure. */
export function freezerFiles(groups: string, mountinfo: string, containerId: string): Files | null {
  const mounts = mountinfo.split("\n").map(parseMount);
  const lines = groups.split("\n").map((line) => /^(\d+):([^:]*):(.*)$/.exec(line));
  const first = lines.find((line) => line?.[2]?.split(",").includes("freezer"))?.[3];
  const second = lines.find((line) => line?.[1] === "0")?.[3];
  const v1 = folderOf(
    first,
    mounts.find((mount) => mount?.type === "cgroup" && mount.options.includes("freezer")),
  );
  if (v1?.includes(containerId)) {
    const state = path.join(v1, "freezer.state");
    return {
      control: state,
      frozen: "FROZEN",
      thawed: "THAWED",
      state,
      isFrozen: (text) => text.trim() === "FROZEN",
    };
  }
  const v2 = folderOf(
    second,
    mounts.find((mount) => mount?.type === "cgroup2"),
  );
  if (!v2?.includes(containerId)) return null;
  return {
    control: path.join(v2, "cgroup.freeze"),
    frozen: "1",
    thawed: "0",
    state: path.join(v2, "cgroup.events"),
    isFrozen: (text) => /^frozen 1$/m.test(text),
  };
}

type Mount = {
  readonly root: string;
  readonly at: string;
  readonly type: string;
  readonly options: readonly string[];
};

/** `36 35 98:0 /root /mountpoint rw,noatime shared:1 - cgroup cgroup rw,freezer` (proc(5)). */
function parseMount(line: string): Mount | null {
  const [before, after] = line.split(" - ");
  const [, , , root, at] = before?.split(" ") ?? [];
  const [type, , options] = after?.split(" ") ?? [];
  if (root === undefined || at === undefined || type === undefined) return null;
  return { root, at, type, options: options?.split(",") ?? [] };
}

/** Where a group is seen through a mount of its hierarchy. */
function folderOf(group: string | undefined, mount: Mount | null | undefined): string | null {
  if (group === undefined || !mount) return null;
  const below = path.relative(mount.root, group);
  return below.split(path.sep)[0] === ".." ? null : path.join(mount.at, below);
}

function createFreezer(files: Files, clock: Clock): Freezer {
  const isFrozen = async (): Promise<boolean> => files.isFrozen(await readOrEmpty(files.state));
  return {
    isFrozen,
    async freeze() {
      await writeFile(files.control, files.frozen);
      for (let waitedMs = 0; !(await isFrozen()); waitedMs += POLL_MS) {
        if (waitedMs >= FREEZE_LIMIT_MS) {
          await writeFile(files.control, files.thawed);
          throw new Error(`a container does not stand still after ${FREEZE_LIMIT_MS / 1_000} s`);
        }
        await clock.sleep(POLL_MS);
      }
    },
    async thaw() {
      try {
        // At once: handed to a thread it would wait for the commit that it runs beside. It takes 0.1 ms.
        writeFileSync(files.control, files.thawed);
      } catch (error) {
        ignoreGone(error as NodeJS.ErrnoException);
      }
    },
  };
}

/** A group that is gone has nobody to thaw. */
function ignoreGone(error: NodeJS.ErrnoException): void {
  if (error.code !== "ENOENT" && error.code !== "ENODEV") throw error;
}

function isWritable(file: string): Promise<boolean> {
  return access(file, constants.W_OK).then(
    () => true,
    () => false,
  );
}

function readOrEmpty(file: string): Promise<string> {
  return readFile(file, "utf8").catch(() => "");
}
