import type { Artifacts, DiskShare } from "../../ports/artifacts.ts";
import type { Engine } from "./engine.ts";
import { refusalOf } from "./engine-errors.ts";
import { listImages, tagsOf } from "./images.ts";
import { DAEMON_LABEL, ENDPOINT_LABEL } from "./labels.ts";

/** Repositories of the tags that this daemon gives; a tag of the user's own keeps an image. */
const OUR_TAG = /^rpx\/[^/]+:v\d+$/;
/** The engine adds up its build cache by reading all of its records. */
const USAGE_LIMIT_MS = 60_000;

/**
 * The images that were built for releases: those with this daemon's label and an endpoint's. One that was made from them, by hand, has
 * their labels too, and a tag of its own: it is not listed.
 */
export function createImageArtifacts(deps: {
  readonly engine: Engine;
  readonly daemonId: string;
}): Artifacts {
  const { engine } = deps;
  const ours = async () => {
    const images = await listImages(engine, [`${DAEMON_LABEL}=${deps.daemonId}`, ENDPOINT_LABEL]);
    return images.filter((image) => tagsOf(image).every((tag) => OUR_TAG.test(tag)));
  };

  /** Tag by tag: the last one takes the image with it. By its id alone the engine would refuse one with several. */
  async function remove(id: string): Promise<string | null> {
    const image = (await ours()).find((each) => each.Id === id);
    if (image === undefined) return null;
    const tags = tagsOf(image);
    for (const name of tags.length === 0 ? [id] : tags) {
      try {
        await engine.ask((options) => engine.docker.getImage(name).remove(options));
      } catch (error) {
        if (refusalOf(error) === 409) return (error as Error).message;
        if (refusalOf(error) !== 404) throw error;
      }
    }
    return null;
  }

  return {
    kind: "image",
    list: async () =>
      (await ours()).map((image) => ({
        id: image.Id,
        name: tagsOf(image).join(" ") || image.Id,
        bytes: image.Size,
      })),
    remove,
  };
}

/** What builds keep for the next one. It is the whole engine's. */
export function createBuildCacheShare({ docker, ask }: Engine): DiskShare {
  return {
    kind: "build cache",
    bytes: async () => {
      const usage: unknown = await ask(() => docker.df(), { limitMs: USAGE_LIMIT_MS });
      const { BuildCache: records } = (usage ?? {}) as { BuildCache?: readonly { Size?: unknown }[] | null };
      return (records ?? []).reduce((sum, { Size }) => sum + (typeof Size === "number" ? Size : 0), 0);
    },
  };
}
