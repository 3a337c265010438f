import type { ArtifactKind, Artifacts, DiskShare } from "../ports/artifacts.ts";
import type { Clock } from "../ports/clock.ts";

export type DiskKind = "database" | ArtifactKind | DiskShare["kind"];
/** `bytes` is null while it is not known: it is being added up, or what holds it is away. */
export type DiskUse = { readonly kind: DiskKind; readonly bytes: number | null };

export type DiskUsageOptions = {
  readonly clock: Clock;
  readonly databaseBytes: () => number;
  readonly artifacts: readonly Artifacts[];
  readonly shares: readonly DiskShare[];
};

/** Adding up reads every file's size: not more often than this. */
const FRESH_MS = 60_000;
/** How long who asks waits for a number. */
const PATIENCE_MS = 500;

/** Disk by kind. Added up when it is asked for, in the background where that takes long; older numbers serve meanwhile. */
export function createDiskUsage({ clock, databaseBytes, artifacts, shares }: DiskUsageOptions) {
  const parts: readonly { readonly kind: DiskKind; bytes(): Promise<number> }[] = [
    ...artifacts.map((each) => ({
      kind: each.kind,
      bytes: async () => (await each.list()).reduce((sum, { bytes }) => sum + bytes, 0),
    })),
    ...shares,
  ];
  const known = new Map<DiskKind, number>();
  let measuredAtMs = Number.NEGATIVE_INFINITY;
  let measuring: Promise<unknown> | null = null;

  function measure(): Promise<unknown> {
    measuring ??= Promise.all(
      parts.map(async ({ kind, bytes }) => {
        const size = await bytes().catch(() => null);
        if (size === null) known.delete(kind);
        else known.set(kind, size);
      }),
    ).finally(() => {
      measuredAtMs = clock.nowMs();
      measuring = null;
    });
    return measuring;
  }

  return async (): Promise<readonly DiskUse[]> => {
    if (clock.nowMs() - measuredAtMs >= FRESH_MS) {
      const done = new AbortController();
      const enough = clock.sleep(PATIENCE_MS, done.signal).catch(() => undefined);
      await Promise.race([measure(), enough]);
      done.abort();
    }
    return [
      { kind: "database", bytes: databaseBytes() },
      ...parts.map(({ kind }) => ({ kind, bytes: known.get(kind) ?? null })),
    ];
  };
}
