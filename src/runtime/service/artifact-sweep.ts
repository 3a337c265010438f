import type { Release } from "../core/model.ts";
import { createLoop, type Loop } from "../loop.ts";
import type { Artifact, ArtifactKind, Artifacts } from "../ports/artifacts.ts";
import type { Clock } from "../ports/clock.ts";
import type { Store } from "../ports/store.ts";

/** What a sweep removed, or would; `problems` are sentences. */
export type SweepReport = {
  readonly removed: readonly (Artifact & { readonly kind: ArtifactKind })[];
  readonly kept: readonly (Artifact & { readonly kind: ArtifactKind; readonly reason: string })[];
  readonly problems: readonly string[];
};

export type ArtifactSweep = Loop & {
  /** One pass. `dryRun` only says what would go. */
  sweep(options: { readonly dryRun: boolean }): Promise<SweepReport>;
};

export type ArtifactSweepOptions = {
  readonly store: Pick<Store, "fleet">;
  readonly clock: Clock;
  readonly artifacts: readonly Artifacts[];
  /** What builds use that no release names yet; and deletions while none runs. */
  readonly recent: () => {
    readonly bundles: ReadonlySet<string>;
    readonly built: readonly Pick<Release, "spec" | "built">[];
  };
  readonly exclusively: (deletion: () => Promise<void>) => Promise<boolean>;
  readonly log: {
    info(fields: object, message: string): void;
    warn(fields: object, message: string): void;
    error(fields: object, message: string): void;
  };
};

/** Releases of each endpoint that have served and can be gone back to without a build. */
export const KEPT_RELEASES = 5;
/** Releases of an endpoint that are looked through for those: failed ones may lie between. */
const MAX_RELEASES = 200;
const DAY_MS = 24 * 3_600_000;
/** After a start: deploys that were under way have sent what they send anew. */
const FIRST_PASS_MS = 3_600_000;
/** After a release went live, its endpoint's old workers are going; and after something could not be removed. */
const AGAIN_MS = 10 * 60_000;
/** However often it is nudged. */
const MIN_PAUSE_MS = 100;

/**
 * Deletes images, bundles and environments that no release of the last five of its endpoint needs, none that is live, and no worker.
 * One loop over all kinds; each knows only its own things.
 */
export function createArtifactSweep(options: ArtifactSweepOptions): ArtifactSweep {
  const { store, clock, artifacts, log } = options;
  let nextPassMs = clock.nowMs() + FIRST_PASS_MS;

  async function sweep({ dryRun }: { readonly dryRun: boolean }): Promise<SweepReport> {
    const report: Report = { removed: [], kept: [], problems: [] };
    for (const adapter of artifacts) {
      try {
        const used = usedIds(adapter.kind);
        for (const artifact of await adapter.list()) {
          if (used.has(artifact.id)) continue;
          if (dryRun) report.removed.push({ ...artifact, kind: adapter.kind });
          else await remove(adapter, artifact, report);
        }
      } catch (error) {
        report.problems.push(`${adapter.kind}s: ${messageOf(error)}`);
      }
    }
    return report;
  }

  async function remove(adapter: Artifacts, artifact: Artifact, report: Report): Promise<void> {
    const { kind } = adapter;
    let reason: string | null = "something is being built";
    try {
      await options.exclusively(async () => {
        // Looked at again: a release may have come while the one before was deleted.
        const isNeeded = usedIds(kind).has(artifact.id);
        reason = isNeeded ? "a release needs it now" : await adapter.remove(artifact.id);
      });
    } catch (error) {
      reason = messageOf(error);
    }
    if (reason === null) report.removed.push({ ...artifact, kind });
    else report.kept.push({ ...artifact, kind, reason });
  }

  function usedIds(kind: ArtifactKind): ReadonlySet<string> {
    const { bundles, built } = options.recent();
    const ids = [...built, ...keptReleases()].map((release) => idOf(release, kind));
    return new Set([...(kind === "bundle" ? bundles : []), ...ids.filter((id) => id !== null)]);
  }

  /** Of each endpoint those that served last, the one that serves and the one on its way; and what workers are made of. */
  function keptReleases(): Release[] {
    const { fleet } = store;
    const ofEndpoints = fleet.endpoints().flatMap(({ id, liveRelease, candidateRelease }) => {
      const releases = fleet.releases(id, MAX_RELEASES);
      const served = releases.filter(({ liveAtMs }) => liveAtMs !== null).slice(0, KEPT_RELEASES);
      const present = [liveRelease, candidateRelease ?? liveRelease].map((each) => fleet.release(id, each));
      return [...served, ...present];
    });
    const ofWorkers = fleet.workers().map(({ endpointId, release }) => fleet.release(endpointId, release));
    return [...ofEndpoints, ...ofWorkers].filter((release) => release !== null);
  }

  async function tick(): Promise<number> {
    const nowMs = clock.nowMs();
    if (nowMs < nextPassMs) return nextPassMs - nowMs;
    const { removed, kept, problems } = await sweep({ dryRun: false });
    nextPassMs = nowMs + (kept.length > 0 ? AGAIN_MS : DAY_MS);
    const bytes = removed.reduce((sum, artifact) => sum + artifact.bytes, 0);
    if (removed.length > 0)
      log.info({ removed: removed.length, bytes }, "removed what releases no longer need");
    if (problems.length > 0) log.warn({ problems }, "what releases no longer need could not all be removed");
    return nextPassMs - nowMs;
  }

  const loop = createLoop({
    clock,
    tick,
    maxPauseMs: DAY_MS,
    minPauseMs: MIN_PAUSE_MS,
    log,
    name: "artifact sweep",
  });
  return {
    ...loop,
    nudge: () => {
      nextPassMs = Math.min(nextPassMs, clock.nowMs() + AGAIN_MS);
      loop.nudge();
    },
    sweep,
  };
}

type Report = {
  readonly removed: SweepReport["removed"][number][];
  readonly kept: SweepReport["kept"][number][];
  readonly problems: string[];
};

/** What a release needs of a kind, by its id; null: nothing. */
function idOf({ spec, built }: Pick<Release, "spec" | "built">, kind: ArtifactKind): string | null {
  if (kind === "bundle") return spec.source.kind === "bundle" ? spec.source.digest : null;
  if (kind === "image") return built?.kind === "image" ? built.image : null;
  // An environment's folder is named by what is in it.
  if (built === null) return null;
  return built.kind === "process" ? (built.env.VIRTUAL_ENV?.split("/").at(-1) ?? null) : null;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
