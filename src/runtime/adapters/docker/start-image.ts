import { RpxError } from "../../../contract/error.ts";
import { parseImageReference } from "../../core/image-reference.ts";
import type { BuiltImage } from "../../core/model.ts";
import type { RegistryLogin } from "../../ports/images.ts";
import { checkPlatform, findImage, type ImageFacts } from "./image-facts.ts";
import { type PullDeps, pullImage } from "./image-pull.ts";

/** What of an image counts for a container of it. */
export type StartImage = {
  readonly env: Readonly<Record<string, string>>;
  readonly labels: Readonly<Record<string, string>>;
};

/** Makes sure that what a release was pinned to is there. */
export type StartImages = {
  /**
   * The image, pulled if the engine does not have it: `onPull` is told the percent, null while none is known. Rejects with an RpxError when
   * it is gone, refused, does not fit on the disk, or is for another processor.
   */
  ensure(
    built: BuiltImage,
    onPull: (percent: number | null) => void,
    signal: AbortSignal,
  ): Promise<StartImage>;
};

export type StartImagesDeps = PullDeps & {
  /** A stored login by its name; throws RpxError where there is none. */
  readonly login: (name: string) => RegistryLogin;
};

export function createStartImages({ login, ...deps }: StartImagesDeps): StartImages {
  async function pull(
    built: BuiltImage,
    onPull: (percent: number | null) => void,
    signal: AbortSignal,
  ): Promise<ImageFacts> {
    const reference = parseImageReference(built.image);
    // What was built or imported here is known to no registry.
    if (reference === null || reference.digest === null) throw imageGone(built);
    onPull(null);
    await pullImage(deps, {
      reference,
      version: reference.digest,
      login: built.registry === null ? null : login(built.registry),
      onStep: (_text, percent) => onPull(percent ?? null),
      signal,
    });
    const found = await findImage(deps.engine, built.image);
    if (found === null) throw imageGone(built);
    return found;
  }

  return {
    async ensure(built, onPull, signal) {
      const found = (await findImage(deps.engine, built.image)) ?? (await pull(built, onPull, signal));
      // Another processor's program would end at once, with a word about its format that names no cause.
      checkPlatform(built.reference, [found.platform], deps.engine.facts());
      return { env: Object.fromEntries(found.env), labels: found.labels };
    },
  };
}

function imageGone({ reference, image }: BuiltImage): RpxError {
  return new RpxError("unavailable", `the image ${reference} is gone from the Docker engine`, {
    why: `${image} was made here, and somebody removed it`,
    hint: "deploy the endpoint again",
  });
}
