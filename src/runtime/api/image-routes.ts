import type { ApiRouteName } from "../../contract/routes.ts";
import {
  type BuiltImageBody,
  buildImageSchema,
  type ImageBody,
  type PrunedBody,
  type PulledImageBody,
  pruneImagesSchema,
  pullImageSchema,
} from "../../contract/schemas/image.ts";
import type { ArtifactSweep, SweepReport } from "../service/artifact-sweep.ts";
import type { Built, ImageService, Pulled, UsedImage } from "../service/images.ts";
import type { Principal } from "../service/keys.ts";
import { building } from "./building.ts";
import { json, parse } from "./json-body.ts";
import type { Handler } from "./server.ts";

export type ImageRouteName = Extract<ApiRouteName, "listImages" | "buildImage" | "pullImage" | "pruneImages">;

export type ImageRoutesOptions = {
  readonly images: ImageService;
  readonly sweep: ArtifactSweep["sweep"];
};

export function createImageRoutes({
  images,
  sweep,
}: ImageRoutesOptions): Record<ImageRouteName, Handler<Principal>> {
  return {
    listImages: async ({ principal }) => json((await images.list(principal)).map(present)),
    buildImage: async (call) => {
      const { handler, dockerfile, base, push, registry, ...request } = parse(buildImageSchema, call);
      const build = {
        ...request,
        handler: handler ?? null,
        dockerfile: dockerfile ?? null,
        base: base ?? null,
        push: push ?? false,
        registry: registry ?? null,
      };
      return building(call, "image", async ({ onStep, signal }) =>
        presentBuilt(request.tag, await images.build(build, onStep, signal)),
      );
    },
    pullImage: async (call) => {
      const { reference, registry } = parse(pullImageSchema, call);
      return building(call, "image", async ({ onStep, signal }) =>
        presentPulled(reference, await images.pull(reference, registry ?? null, onStep, signal)),
      );
    },
    pruneImages: async (call) => {
      const { dryRun = false } = parse(pruneImagesSchema, call);
      return json(presentSweep(dryRun, await sweep({ dryRun })));
    },
  };
}

function present({ image, releases }: UsedImage): ImageBody {
  return {
    id: image.id,
    tags: [...image.tags],
    digests: [...image.digests],
    bytes: image.bytes,
    createdAt: new Date(image.createdAtMs).toISOString(),
    ours: image.isOurs,
    releases: releases.map(({ endpoint, version }) => ({
      endpoint: endpoint.name,
      version,
      live: endpoint.liveRelease === version,
    })),
  };
}

function presentBuilt(reference: string, { image, warnings, pushed }: Built): BuiltImageBody {
  return { id: image.id, reference, bytes: image.bytes, pushed, warnings: [...warnings] };
}

function presentPulled(reference: string, { image, pinned, warnings }: Pulled): PulledImageBody {
  return { id: image.id, reference, image: pinned, bytes: image.bytes, warnings: [...warnings] };
}

function presentSweep(dryRun: boolean, { removed, kept, problems }: SweepReport): PrunedBody {
  return {
    dryRun,
    removed: [...removed],
    kept: [...kept],
    bytes: removed.reduce((sum, { bytes }) => sum + bytes, 0),
    problems: [...problems],
  };
}
