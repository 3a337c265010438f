import { RpxError } from "../../contract/error.ts";
import type { Endpoint, Release } from "../core/model.ts";
import type { Image, Images as ImagePort, RegistryLogin } from "../ports/images.ts";
import type { Store } from "../ports/store.ts";
import type { OnStep } from "../ports/worker-pool.ts";

/** Who asks, as far as images care. */
export type ImageCaller = { readonly owner: string; readonly scope: string };

/** A release that an image serves. */
export type ImageRelease = { readonly endpoint: Endpoint; readonly version: number };
export type UsedImage = { readonly image: Image; readonly releases: readonly ImageRelease[] };

export type BuildRequest = {
  readonly digest: string;
  readonly handler: string | null;
  readonly dockerfile: string | null;
  readonly base: string | null;
  readonly tag: string;
  readonly push: boolean;
  /** Name of a stored login; null: the one of the tag's registry. */
  readonly registry: string | null;
};

export type Built = {
  readonly image: Image;
  readonly warnings: readonly string[];
  readonly pushed: string | null;
};
export type Pulled = { readonly image: Image; readonly pinned: string; readonly warnings: readonly string[] };

export type ImageService = {
  /** Images that this daemon built, or that releases use: of the caller's endpoints, an admin's are all. */
  list(caller: ImageCaller): Promise<readonly UsedImage[]>;
  build(request: BuildRequest, onStep: OnStep, signal: AbortSignal): Promise<Built>;
  pull(reference: string, registry: string | null, onStep: OnStep, signal: AbortSignal): Promise<Pulled>;
};

export type ImagesOptions = {
  readonly store: Pick<Store, "fleet">;
  /** Null: this daemon uses no engine. */
  readonly images: ImagePort | null;
  readonly login: (reference: string, named: string | null) => RegistryLogin | null;
  readonly hasBundle: (digest: string) => boolean;
};

/** Releases of each endpoint that lists look at. */
const LISTED_RELEASES = 20;

export function createImageService({ store, images, login, hasBundle }: ImagesOptions): ImageService {
  function engine(): ImagePort {
    if (images !== null) return images;
    throw new RpxError("unavailable", "this daemon uses no Docker engine", {
      hint: "start it without --pool process, on a machine with Docker: rpx doctor",
    });
  }

  async function list(caller: ImageCaller): Promise<UsedImage[]> {
    const present = await engine().list();
    const releases = seenReleases(caller);
    return present
      .map((image) => ({ image, releases: releases.filter(({ built }) => serves(image, built)) }))
      .filter(({ image, releases: used }) => used.length > 0 || (image.isOurs && caller.scope === "admin"))
      .map(({ image, releases: used }) => ({
        image,
        releases: used.map(({ endpoint, version }) => ({ endpoint, version })),
      }));
  }

  function seenReleases({ owner, scope }: ImageCaller): (Release & { readonly endpoint: Endpoint })[] {
    return store.fleet
      .endpoints()
      .filter((endpoint) => scope === "admin" || endpoint.owner === owner)
      .flatMap((endpoint) =>
        store.fleet.releases(endpoint.id, LISTED_RELEASES).map((release) => ({ ...release, endpoint })),
      );
  }

  async function build(request: BuildRequest, onStep: OnStep, signal: AbortSignal): Promise<Built> {
    if (!hasBundle(request.digest)) throw new RpxError("not_found", "the folder was not sent");
    const used = login(request.tag, request.registry);
    const built = await engine().build({ ...request, login: used }, onStep, signal);
    if (!request.push) return { ...built, pushed: null };
    const pushed = await engine().push({ reference: request.tag, login: used }, onStep, signal);
    return { ...built, pushed };
  }

  return {
    list,
    build,
    pull: (reference, registry, onStep, signal) =>
      engine().pull({ reference, login: login(reference, registry) }, onStep, signal),
  };
}

function serves({ id, digests }: Image, built: Release["built"]): boolean {
  return built?.kind === "image" && (built.image === id || digests.includes(built.image));
}
