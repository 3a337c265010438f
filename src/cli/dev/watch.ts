import { basename, relative, sep } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { watch as watchFiles } from "chokidar";
import type { Client } from "../../client/client.ts";
import { RpxError } from "../../contract/error.ts";
import { readIgnoreFile } from "../../folder/ignore-file.ts";
import { loadProject } from "../../project/load.ts";
import { sanitizeLine } from "../../text/sanitize.ts";
import { errorText } from "../errors.ts";
import { talk } from "../output.ts";
import { type DevPool, deployFolder } from "./deploy.ts";

/** Editors write a file in several steps, and several files at once: one reload for what changes within this. */
const SETTLE_MS = 150;
/** Names in a message about what changed. */
const SHOWN_FILES = 3;
const UNWATCHED_FOLDERS: readonly string[] = [
  ".git",
  "__pycache__",
  ".venv",
  "node_modules",
  ".pytest_cache",
];
/** What editors and interpreters leave beside the files that they write. */
const UNWATCHED_FILES = /\.py[co]$|~$|^\.#|\.sw[a-z]$|^4913$|\.tmp$|^\.DS_Store$/;

export type Watched = {
  readonly client: Client;
  /** The path given to `rpx dev`, and the folder that it led to. */
  readonly path: string;
  readonly folder: string;
  readonly endpoint: string;
  readonly pool: DevPool;
  readonly signal: AbortSignal;
};

/** Reloads on save until the signal fires. A folder that cannot be used keeps the release before. */
export async function reloadOnSave(watched: Watched): Promise<void> {
  const { folder, signal } = watched;
  const changes = new Set<string>();
  let wake = (): void => {};
  const { isIgnored } = await readIgnoreFile(folder);
  const watcher = watchFiles(folder, {
    ignoreInitial: true,
    ignored: (path) => isUnwatched(relative(folder, path), isIgnored),
  });
  watcher.on("all", (_event, path) => {
    changes.add(relative(folder, path));
    wake();
  });
  watcher.on("error", (error) => talk(sanitizeLine(`not watching everything: ${String(error)}`)));
  const onAbort = (): void => wake();
  signal.addEventListener("abort", onAbort);
  try {
    while (!signal.aborted) {
      if (changes.size === 0)
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      await settle(changes, signal);
      if (signal.aborted) return;
      const names = [...changes];
      changes.clear();
      await reload(watched, names);
    }
  } finally {
    signal.removeEventListener("abort", onAbort);
    await watcher.close();
  }
}

/** Whether a path in the folder says nothing about the handler: leftovers of tools, and what .dockerignore leaves out. */
function isUnwatched(path: string, isIgnored: (path: string) => boolean): boolean {
  if (path === "") return false;
  const parts = path.split(sep);
  if (parts.some((part) => UNWATCHED_FOLDERS.includes(part)) || UNWATCHED_FILES.test(basename(path)))
    return true;
  return isIgnored(parts.join("/"));
}

async function settle(changes: ReadonlySet<string>, signal: AbortSignal): Promise<void> {
  for (let before = -1; before !== changes.size && !signal.aborted; ) {
    before = changes.size;
    await sleep(SETTLE_MS, undefined, { signal }).catch(() => {});
  }
}

async function reload({ client, path, endpoint, pool }: Watched, names: readonly string[]): Promise<void> {
  try {
    const project = await loadProject(path);
    const { release, warnings } = await deployFolder(client, project, { name: endpoint, pool, isWarm: true });
    talk(sanitizeLine(`${listed(names)} changed: release ${release}`));
    for (const warning of [...project.warnings, ...warnings]) talk(sanitizeLine(`warning: ${warning}`));
  } catch (error) {
    if (!(error instanceof RpxError)) throw error;
    if (error.code === "interrupted") return;
    talk(sanitizeLine(`${listed(names)} changed, but the release before stays:`));
    process.stderr.write(errorText(error));
  }
}

function listed(names: readonly string[]): string {
  const shown = names.slice(0, SHOWN_FILES).join(", ");
  return names.length > SHOWN_FILES ? `${shown} and ${names.length - SHOWN_FILES} more` : shown;
}
