import { isDeepStrictEqual } from "node:util";
import type { PoolKind, Release, ReleaseSpec } from "../core/model.ts";
import type { Clock } from "../ports/clock.ts";
import type { Images } from "../ports/images.ts";
import type { Store } from "../ports/store.ts";
import type { Builders, BuildRequest, BuiltRelease, ReleaseBuilder } from "../ports/worker-pool.ts";

/** What a build used and made. */
export type BuildUse = { readonly spec: ReleaseSpec; readonly built: BuiltRelease };
type Made = { readonly request: BuildRequest; readonly built: BuiltRelease; readonly untilMs: number };

/**
 * Keeps builds and deletions apart: nothing is deleted while something is built, no build begins during a deletion, and what was sent
 * or built a moment ago counts as used although no release in the store names it yet.
 */
export type BuildGate = {
  /** The same builders, seen by the gate. */
  watch(builders: Builders): Builders;
  /** The same images: a build of one reads a bundle too. */
  watchImages(images: Images): Images;
  /** A bundle was sent, or asked for because it is going to be used. */
  touch(digest: string): void;
  /** Bundles that were touched lately, and what was built and is not stored as a release yet. */
  recent(): { readonly bundles: ReadonlySet<string>; readonly built: readonly BuildUse[] };
  /** Runs a deletion while nothing is built; false when something is. */
  exclusively(deletion: () => Promise<void>): Promise<boolean>;
};

/** From the end of a build to the commit of its release: far longer than that takes. Afterwards it was given up. */
const BUILT_MS = 10 * 60_000;
/** From the end of a transfer to the beginning of its build, with a person in between. */
const TOUCHED_MS = 3_600_000;
/** More bundles than this are never touched in an hour; the oldest is forgotten. */
const MAX_TOUCHED = 10_000;

export type BuildGateOptions = { readonly store: Pick<Store, "fleet">; readonly clock: Clock };

export function createBuildGate({ store, clock }: BuildGateOptions): BuildGate {
  const touched = new Map<string, number>();
  let built: Made[] = [];
  let running = 0;
  let deleting: Promise<void> = Promise.resolve();
  let isDeleting = false;

  async function during<T>(build: () => Promise<T>): Promise<T> {
    running += 1;
    try {
      await deleting;
      return await build();
    } finally {
      running -= 1;
    }
  }

  function watched(builder: ReleaseBuilder): ReleaseBuilder {
    return {
      build: (request, onStep, signal) =>
        during(async () => {
          const made = await builder.build(request, onStep, signal);
          built.push({ request, built: made, untilMs: clock.nowMs() + BUILT_MS });
          return made;
        }),
    };
  }

  /** From then on the store says for how long it is needed. */
  function isStored({ request: { endpointId, version }, built: made }: Made): boolean {
    const release: Release | null = store.fleet.release(endpointId, version);
    return release !== null && isDeepStrictEqual(release.built, made);
  }

  function forgetOld(): void {
    const nowMs = clock.nowMs();
    built = built.filter((made) => made.untilMs > nowMs && !isStored(made));
    for (const [digest, untilMs] of touched) if (untilMs <= nowMs) touched.delete(digest);
  }

  return {
    watch: (builders) =>
      Object.fromEntries(
        (Object.entries(builders) as [PoolKind, ReleaseBuilder][]).map(([kind, one]) => [kind, watched(one)]),
      ),
    watchImages: (images) => ({ ...images, build: (...build) => during(() => images.build(...build)) }),
    touch: (digest) => {
      const [oldest] = touched.keys();
      if (touched.size >= MAX_TOUCHED && oldest !== undefined) touched.delete(oldest);
      touched.delete(digest);
      touched.set(digest, clock.nowMs() + TOUCHED_MS);
    },
    recent: () => {
      forgetOld();
      return {
        bundles: new Set(touched.keys()),
        built: built.map(({ request, built: made }) => ({ spec: request.spec, built: made })),
      };
    },
    exclusively: async (deletion) => {
      if (running > 0 || isDeleting) return false;
      isDeleting = true;
      deleting = deletion().finally(() => {
        isDeleting = false;
      });
      const done = deleting;
      // A build that waits for it does not fail with it.
      deleting = done.catch(() => undefined);
      await done;
      return true;
    },
  };
}
