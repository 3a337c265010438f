import type { DatabaseSync } from "node:sqlite";
import {
  type BuiltRelease,
  type EndpointId,
  NO_RELEASE,
  type Release,
  type ReleaseFailure,
} from "../../core/model.ts";
import { releaseStatesBefore } from "../../core/release-machine.ts";
import type { ReleaseDraft, ReleaseRef } from "../../ports/store.ts";
import type { JournalWriter } from "./journal.ts";
import { endpointOf, NOT_BUILT, type Row, releaseOf } from "./rows.ts";

type End = "superseded" | "failed";

/** What a step stores beside the state. */
type Facts = {
  readonly reason: string;
  readonly built?: BuiltRelease | null;
  readonly failure?: ReleaseFailure | null;
};

/** The rows of releases and what endpoints say of them. Every function runs inside a transaction. */
export function createReleases(db: DatabaseSync, journal: JournalWriter) {
  const insert = db.prepare(
    `INSERT INTO releases (endpoint_id, version, spec, built, created_at_ms, state, reason, diff, origin, tests, live_at_ms)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  );
  const byVersion = db.prepare("SELECT * FROM releases WHERE endpoint_id = ? AND version = ?");
  const newest = db.prepare("SELECT * FROM releases WHERE endpoint_id = ? ORDER BY version DESC LIMIT ?");
  // The guard: the states that the release table lets move there.
  const move = db.prepare(
    `UPDATE releases SET state = ?1, reason = ?2, built = coalesce(?3, built),
       live_at_ms = CASE WHEN ?1 = 'live' THEN ?4 ELSE live_at_ms END, failure = ?8
     WHERE endpoint_id = ?5 AND version = ?6 AND state IN (SELECT value FROM json_each(?7))`,
  );
  const reword = db.prepare(
    "UPDATE releases SET reason = ? WHERE endpoint_id = ? AND version = ? AND state IN ('building', 'proving')",
  );
  const endpointById = db.prepare("SELECT * FROM endpoints WHERE id = ?");
  const setCandidate = db.prepare("UPDATE endpoints SET candidate_release = ? WHERE id = ?");
  const setLive = db.prepare("UPDATE endpoints SET live_release = ?, candidate_release = NULL WHERE id = ?");
  const remove = db.prepare("DELETE FROM releases WHERE endpoint_id = ?");

  const read = (id: EndpointId, version: number): Release | null => {
    const row = byVersion.get(id, version);
    return row ? releaseOf(row as Row) : null;
  };
  const ownerOf = (id: EndpointId) => (endpointById.get(id)?.owner ?? null) as string | null;

  function add(release: Release, owner: string, nowMs: number): void {
    const { endpointId, version, spec, built, createdAtMs, state, reason, diff, origin, tests } = release;
    insert.run(
      endpointId,
      version,
      JSON.stringify(spec),
      built === null ? NOT_BUILT : JSON.stringify(built),
      createdAtMs,
      state,
      reason,
      JSON.stringify(diff),
      origin,
      JSON.stringify(tests),
      release.liveAtMs,
    );
    record(release, owner, null, nowMs);
  }

  function record(release: Release, owner: string | null, from: string | null, nowMs: number): void {
    const { endpointId, version, state, reason, built } = release;
    journal.record({
      atMs: nowMs,
      kind: `release.${state}`,
      endpointId,
      owner,
      jobId: null,
      workerId: null,
      data: { version, from, to: state, reason, runtime: built?.runtime ?? null },
    });
  }

  /** One step along the release table; null when it refuses. */
  function step(
    { endpointId, version }: ReleaseRef,
    to: Exclude<Release["state"], "building">,
    { reason, built = null, failure = null }: Facts,
    nowMs: number,
  ): Release | null {
    const before = read(endpointId, version);
    const builtText = built === null ? null : JSON.stringify(built);
    const guard = JSON.stringify(releaseStatesBefore(to));
    const moved = move.run(to, reason, builtText, nowMs, endpointId, version, guard, failure);
    if (moved.changes !== 1) return null;
    const after = read(endpointId, version);
    if (after) record(after, ownerOf(endpointId), before?.state ?? null, nowMs);
    return after;
  }

  function goLive(ref: ReleaseRef, facts: { reason: string; built?: BuiltRelease }, nowMs: number): boolean {
    const row = endpointById.get(ref.endpointId);
    if (!row || !step(ref, "live", facts, nowMs)) return false;
    const { liveRelease } = endpointOf(row as Row);
    setLive.run(ref.version, ref.endpointId);
    if (liveRelease !== NO_RELEASE && liveRelease !== ref.version) {
      const reason = `release ${ref.version} took its place`;
      step({ endpointId: ref.endpointId, version: liveRelease }, "superseded", { reason }, nowMs);
    }
    return true;
  }

  function endCandidate(ref: ReleaseRef, to: End, facts: Facts, nowMs: number): boolean {
    // The one that serves ends by another's going live, or its endpoint would point at one that has ended.
    if (endpointById.get(ref.endpointId)?.candidate_release !== ref.version) return false;
    if (!step(ref, to, facts, nowMs)) return false;
    setCandidate.run(null, ref.endpointId);
    return true;
  }

  function begin(id: EndpointId, make: (base: Release) => ReleaseDraft | null, nowMs: number) {
    const row = endpointById.get(id);
    const [last] = newest.all(id, 1).map((each) => releaseOf(each as Row));
    if (!row || !last) return { kind: "missing" as const };
    const { liveRelease, candidateRelease, owner } = endpointOf(row as Row);
    const base = read(id, candidateRelease ?? liveRelease) ?? last;
    const draft = make(base);
    if (draft === null) return { kind: "unchanged" as const };
    const version = last.version + 1;
    if (candidateRelease !== null) {
      const reason = `release ${version} took its place before it went live`;
      endCandidate({ endpointId: id, version: candidateRelease }, "superseded", { reason }, nowMs);
    }
    const release: Release = {
      ...draft,
      endpointId: id,
      version,
      state: "building",
      built: null,
      createdAtMs: nowMs,
      liveAtMs: null,
    };
    setCandidate.run(version, id);
    add(release, owner, nowMs);
    return { kind: "begun" as const, release };
  }

  return {
    add,
    read,
    begin,
    goLive,
    endCandidate,
    prove: (ref: ReleaseRef, built: BuiltRelease, reason: string, nowMs: number) =>
      step(ref, "proving", { reason, built }, nowMs) !== null,
    reword: ({ endpointId, version }: ReleaseRef, reason: string) =>
      void reword.run(reason, endpointId, version),
    list: (id: EndpointId, limit: number) => newest.all(id, limit).map((row) => releaseOf(row as Row)),
    removeAll: (id: EndpointId) => void remove.run(id),
  };
}
