import { realpath, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { RpxError } from "../contract/error.ts";
import { loadProject } from "./load.ts";
import { endpointNameFrom } from "./name.ts";
import { PROJECT_FILE, readProjectFile } from "./project-file.ts";

/** What an image is made of. */
export type ImageSource = {
  /** Absolute, links resolved. */
  readonly folder: string;
  /** As rpx.toml names it, else after the folder. */
  readonly name: string;
  /** Path of the Dockerfile in the folder; null: one is generated for the handler. */
  readonly dockerfile: string | null;
  /** Path of the handler in the folder; null: the Dockerfile says what runs. */
  readonly handler: string | null;
  /** What a generated Dockerfile begins with, where rpx.toml says it. */
  readonly base: string | null;
};

const DOCKERFILE = "Dockerfile";

/** Reads a folder whose image is to be built: its Dockerfile, else its handler. Throws RpxError `not_found` and `usage`. */
export async function loadImageSource(path: string): Promise<ImageSource> {
  const folder = await realpath(path).catch(() => null);
  if (folder === null || !(await stat(folder)).isDirectory())
    throw new RpxError("not_found", `there is no folder ${path}`, {
      hint: "name the folder with the Dockerfile or handler",
    });
  const file = (await readProjectFile(join(folder, PROJECT_FILE))) ?? {};
  const dockerfile = file.dockerfile ?? ((await isFile(join(folder, DOCKERFILE))) ? DOCKERFILE : null);
  return {
    folder,
    name: file.name ?? endpointNameFrom(basename(folder)),
    dockerfile,
    handler: dockerfile === null ? (await loadProject(folder)).handler : null,
    base: file.image?.base ?? null,
  };
}

async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null))?.isFile() ?? false;
}
