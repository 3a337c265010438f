import { readdir } from "node:fs/promises";
import path from "node:path";
import { folderBytes } from "../../../folder/bytes.ts";
import { removeFolder } from "../../../folder/remove.ts";
import type { Artifacts } from "../../ports/artifacts.ts";

/** Folders of virtual environments below the data directory. */
export function environmentsFolder(dataDir: string): string {
  return path.join(dataDir, "venvs");
}

/** The virtual environments that releases were installed into; ones that were never finished too. */
export function createEnvironmentArtifacts(deps: { readonly dataDir: string }): Artifacts {
  const root = environmentsFolder(deps.dataDir);
  return {
    kind: "environment",
    list: async () => {
      const names = await readdir(root).catch(() => []);
      return Promise.all(
        names.map(async (name) => ({ id: name, name, bytes: await folderBytes(path.join(root, name)) })),
      );
    },
    remove: async (id) => {
      await removeFolder(path.join(root, path.basename(id)));
      return null;
    },
  };
}
