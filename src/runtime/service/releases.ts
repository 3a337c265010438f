import { causeOf, RpxError } from "../../contract/error.ts";
import type { EndpointId, Release, ReleaseSpec } from "../core/model.ts";
import type { Clock } from "../ports/clock.ts";
import type { ReleaseDraft, ReleaseRef, Store } from "../ports/store.ts";
import type { Builders, BuiltRelease, OnStep, ReleaseBuilder } from "../ports/worker-pool.ts";

export type ReleasesOptions = {
  readonly store: Pick<Store, "fleet">;
  readonly clock: Clock;
  readonly builders: Builders;
};

/** How a release comes to serve: after its first worker and its tests have proven it, or as soon as it is built. */
export type Rollout = "prove" | "at_once";

export type RollRequest = {
  readonly endpointId: EndpointId;
  /** What the new release is, made of the one that it follows; null: nothing changes. */
  readonly make: (base: Release) => ReleaseDraft | null;
  readonly rollout: Rollout;
  /** What was built already (a rollback); null: it is built. */
  readonly built: BuiltRelease | null;
  /** Changes that are to be stored together with a release that is built, and not without it. */
  readonly commit: () => Promise<unknown>;
  readonly onStep: OnStep;
  readonly signal: AbortSignal;
};

/** Makes releases: one build per endpoint at a time, the newest wins. */
export type Releases = {
  /** Builds what a first release needs; the endpoint is not there yet. */
  build(ref: ReleaseRef, spec: ReleaseSpec, onStep: OnStep, signal: AbortSignal): Promise<BuiltRelease>;
  /**
   * Makes a release and sets it on its way; null when nothing changes. Rejects with the build's own error, then the release has failed;
   * with `conflict` when a newer one took its place.
   */
  roll(request: RollRequest): Promise<Release | null>;
  /** After a start: what was being built has failed with the daemon that built it. */
  failCutOff(): Promise<void>;
};

export function createReleases({ store, clock, builders }: ReleasesOptions): Releases {
  const building = new Map<EndpointId, AbortController>();

  function builderOf({ pool }: ReleaseSpec): ReleaseBuilder {
    const builder = builders[pool];
    if (builder) return builder;
    throw new RpxError("unavailable", `this daemon has no pool "${pool}"`, {
      hint: "choose another --pool, or start rpx serve with it",
    });
  }

  async function roll(request: RollRequest): Promise<Release | null> {
    const begun = await store.fleet.beginRelease(request.endpointId, request.make, clock.nowMs());
    if (begun.kind !== "begun") {
      if (begun.kind === "unchanged") return null;
      throw new RpxError("not_found", "the endpoint is gone");
    }
    const { release } = begun;
    building.get(release.endpointId)?.abort();
    const newer = new AbortController();
    building.set(release.endpointId, newer);
    try {
      const built = await builtOf(request, release, AbortSignal.any([request.signal, newer.signal]));
      return await finish(request, release, built);
    } catch (error) {
      // Refused where a newer release has taken its place already.
      await store.fleet.moveRelease(
        release,
        "failed",
        `not built: ${causeOf(error)}`,
        clock.nowMs(),
        "build",
      );
      throw newer.signal.aborted ? superseded(release) : error;
    } finally {
      if (building.get(release.endpointId) === newer) building.delete(release.endpointId);
    }
  }

  const builtOf = ({ built, onStep }: RollRequest, release: Release, signal: AbortSignal) =>
    built === null ? build(release, release.spec, onStep, signal) : Promise.resolve(built);

  async function finish(request: RollRequest, release: Release, built: BuiltRelease): Promise<Release> {
    const nowMs = clock.nowMs();
    const to = request.rollout === "prove" ? "proving" : "live";
    const reason = to === "live" ? "serves" : "its first worker has to become ready";
    // In one turn, hence one transaction.
    const [, moved] = await Promise.all([
      request.commit(),
      store.fleet.releaseBuilt(release, built, to, reason, nowMs),
    ]);
    if (!moved) throw superseded(release);
    return store.fleet.release(release.endpointId, release.version) ?? release;
  }

  function build(
    { endpointId, version }: ReleaseRef,
    spec: ReleaseSpec,
    onStep: OnStep,
    signal: AbortSignal,
  ): Promise<BuiltRelease> {
    return builderOf(spec).build({ endpointId, version, spec }, onStep, signal);
  }

  return {
    build,
    roll,
    failCutOff: async () => {
      for (const { id, candidateRelease } of store.fleet.endpoints()) {
        const release = candidateRelease === null ? null : store.fleet.release(id, candidateRelease);
        if (release?.state !== "building") continue;
        const reason = "not built: the daemon ended while it was being built; deploy again";
        await store.fleet.moveRelease(release, "failed", reason, clock.nowMs(), "build");
      }
    },
  };
}

function superseded({ version }: Release): RpxError {
  return new RpxError("conflict", `release ${version} was superseded`, {
    why: "a newer deploy of the same endpoint took its place",
    hint: "rpx endpoint releases shows which",
  });
}
