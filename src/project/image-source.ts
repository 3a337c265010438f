import { stat } from "node:fs/promises";
import { basename } from "node:path";
import { RpxError } from "../contract/error.ts";
import { loadProject } from "./load.ts";
import { endpointNameFrom } from "./name.ts";

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

/** Reads a folder whose image is to be built: its Dockerfile, else its handler. Throws RpxError `not_found` and `usage`. */
export async function loadImageSource(path: string): Promise<ImageSource> {
  const found = await stat(path).catch(() => null);
  if (!found?.isDirectory())
    throw new RpxError("not_found", `there is no folder ${path}`, {
      hint: "name the folder with the Dockerfile or handler",
    });
  const { folder, name, dockerfile, handler, image, config } = await loadProject(path);
  if (image !== null)
    throw new RpxError("usage", `there is nothing to build in ${folder}`, {
      why: `rpx.toml names an image, ${image}`,
      hint: `rpx image pull ${image}`,
    });
  return {
    folder,
    name: name ?? endpointNameFrom(basename(folder)),
    dockerfile,
    handler: dockerfile === null ? handler : null,
    base: config.image?.base ?? null,
  };
}
