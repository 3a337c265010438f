/**
 * A disk of its own in a file: ext4 on a loop device. What its page cache has not written yet is not in the file, so a
 * copy of the file is what a power cut would leave.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const DISK_BYTES = 256 * 1024 * 1024;
/** Seconds between two commits of the file system's own accord: beyond any test, so that only syncs write. */
const COMMIT_SECONDS = 300;

/** What this machine lacks for such disks; empty when one could be made. */
export function missingForDisks(): string[] {
  const missing = ["mkfs.ext4", "mount", "umount"].filter(
    (tool) => spawnSync(tool, ["-V"]).error !== undefined,
  );
  if (process.getuid?.() !== 0) missing.push("root");
  return missing.length > 0 ? missing : tryDisk();
}

function tryDisk(): string[] {
  const folder = mkdtempSync(join(tmpdir(), "rpx-disk-"));
  const mounted = join(folder, "disk");
  try {
    makeDisk(join(folder, "image"), mounted);
    return [];
  } catch (error) {
    return [`a loop device (${(error as Error).message})`];
  } finally {
    unmountDisk(mounted);
    rmSync(folder, { recursive: true, force: true });
  }
}

/** An empty disk in `image`, mounted on `folder`. */
export function makeDisk(image: string, folder: string): void {
  writeFileSync(image, "");
  truncateSync(image, DISK_BYTES);
  must("mkfs.ext4", ["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image]);
  mountDisk(image, folder);
}

export function mountDisk(image: string, folder: string): void {
  mkdirSync(folder, { recursive: true });
  must("mount", ["-o", `loop,commit=${COMMIT_SECONDS}`, image, folder]);
}

/** The loop device goes with the mount. */
export function unmountDisk(folder: string): void {
  if (spawnSync("mountpoint", ["-q", folder]).status === 0) must("umount", [folder]);
}

/** Nothing may write to the disk meanwhile: a copy takes time, a power cut does not. */
export function copyImage(image: string, copy: string): void {
  must("cp", ["--sparse=always", image, copy]);
}

function must(tool: string, args: readonly string[]): void {
  const { status, stderr, error } = spawnSync(tool, args);
  if (status !== 0) throw new Error(`${tool} ${args.join(" ")}: ${error?.message ?? String(stderr)}`);
}
