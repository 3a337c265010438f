import { createImageRoutes } from "./api/image-routes.ts";
import type { Bundles } from "./api/manage-routes.ts";
import { createRegistryRoutes } from "./api/registry-routes.ts";
import type { Artifacts, DiskShare } from "./ports/artifacts.ts";
import type { Clock } from "./ports/clock.ts";
import type { Images } from "./ports/images.ts";
import type { SecretBox } from "./ports/secret-box.ts";
import type { Store } from "./ports/store.ts";
import type { Builders } from "./ports/worker-pool.ts";
import { type ArtifactSweepOptions, createArtifactSweep } from "./service/artifact-sweep.ts";
import { createBuildGate } from "./service/build-gate.ts";
import { createDiskUsage } from "./service/disk-usage.ts";
import type { Events } from "./service/events.ts";
import { createImageService } from "./service/images.ts";
import { createRegistries } from "./service/registries.ts";

/** What releases are made with, and leave behind. */
export type ReleaseAdapters = {
  readonly builders: Builders;
  readonly bundles: Bundles;
  /** Null: there is no engine. */
  readonly images: Images | null;
  readonly artifacts: readonly Artifacts[];
  readonly diskShares: readonly DiskShare[];
};

export type ReleasePartsOptions = {
  readonly store: Store;
  readonly clock: Clock;
  readonly events: Events;
  readonly secretBox: SecretBox;
  readonly databaseBytes: () => number;
  readonly adapters: ReleaseAdapters;
  readonly log: ArtifactSweepOptions["log"];
};

/** Builders, images, registries and what is deleted of them, put together: builds and deletions see each other through one gate. */
export function createReleaseParts({ store, clock, events, adapters, ...options }: ReleasePartsOptions) {
  const { images, artifacts, diskShares } = adapters;
  const gate = createBuildGate({ store, clock });
  const { recent, exclusively } = gate;
  const registries = createRegistries({ store, clock, box: options.secretBox });
  const sweep = createArtifactSweep({ store, clock, artifacts, recent, exclusively, log: options.log });
  events.subscribe(({ kind }) => {
    if (kind === "release.live" || kind === "endpoint.delete") sweep.nudge();
  });
  const bundles: Bundles = {
    has: (digest) => {
      const isThere = adapters.bundles.has(digest);
      if (isThere) gate.touch(digest);
      return isThere;
    },
    receive: async (digest, body) => {
      gate.touch(digest);
      await adapters.bundles.receive(digest, body);
    },
  };
  const service = createImageService({
    store,
    images: images === null ? null : gate.watchImages(images),
    login: registries.forImage,
    hasBundle: bundles.has,
  });
  return {
    /** None where nothing can be left behind. */
    loops: artifacts.length === 0 ? [] : [sweep],
    builders: gate.watch(adapters.builders),
    bundles,
    diskUsage: createDiskUsage({
      clock,
      databaseBytes: options.databaseBytes,
      artifacts,
      shares: diskShares,
    }),
    routes: {
      ...createRegistryRoutes(registries),
      ...createImageRoutes({ images: service, sweep: sweep.sweep }),
    },
  };
}
