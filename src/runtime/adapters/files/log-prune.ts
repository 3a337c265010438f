import { lstat, readdir, rm, rmdir } from "node:fs/promises";
import path from "node:path";
import type { WorkerId } from "../../core/model.ts";

type GoneLog = { readonly files: readonly string[]; readonly bytes: number; readonly writtenAtMs: number };

const SEGMENT = /^(.+)\.log(?:\.\d+)?$/;

/**
 * Deletes logs of workers that are gone: those last written before `beforeMs` (wall clock), then the oldest of the rest until they
 * fit into `maxBytes` together. Links are never followed. Returns bytes freed.
 */
export async function pruneLogs(
  root: string,
  options: {
    readonly keepWorkers: ReadonlySet<WorkerId>;
    readonly beforeMs: number;
    readonly maxBytes: number;
  },
): Promise<number> {
  const gone = (await goneLogs(root, options.keepWorkers)).sort((a, b) => a.writtenAtMs - b.writtenAtMs);
  let leftBytes = gone.reduce((sum, { bytes }) => sum + bytes, 0);
  let freedBytes = 0;
  for (const log of gone) {
    if (log.writtenAtMs >= options.beforeMs && leftBytes <= options.maxBytes) break;
    for (const file of log.files) await rm(file, { force: true });
    leftBytes -= log.bytes;
    freedBytes += log.bytes;
  }
  await removeEmptyFolders(root);
  return freedBytes;
}

async function goneLogs(root: string, keep: ReadonlySet<WorkerId>): Promise<GoneLog[]> {
  const logs: GoneLog[] = [];
  for (const folder of await foldersIn(root)) {
    const names = await readdir(folder).catch(() => []);
    const byWorker = Map.groupBy(names, (name) => SEGMENT.exec(name)?.[1] ?? null);
    for (const [workerId, segments] of byWorker) {
      if (workerId === null || keep.has(workerId as WorkerId)) continue;
      logs.push(await describe(segments.map((name) => path.join(folder, name))));
    }
  }
  return logs;
}

async function describe(files: readonly string[]): Promise<GoneLog> {
  const found = await Promise.all(files.map((file) => lstat(file).catch(() => null)));
  const present = found.filter((each) => each !== null);
  return {
    files,
    bytes: present.reduce((sum, { size }) => sum + size, 0),
    writtenAtMs: Math.max(0, ...present.map(({ mtimeMs }) => mtimeMs)),
  };
}

async function foldersIn(root: string): Promise<string[]> {
  const entries = await readdir(root, { withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isDirectory()).map((entry) => path.join(root, entry.name));
}

/** A folder that is not empty refuses. */
async function removeEmptyFolders(root: string): Promise<void> {
  for (const folder of await foldersIn(root)) await rmdir(folder).catch(() => {});
}
