import type {
  BuiltRelease,
  Desired,
  Endpoint,
  EndpointId,
  EndpointSettings,
  Release,
  ReleaseFailure,
  SleepDepth,
  StartPhase,
  Worker,
  WorkerEnd,
  WorkerId,
  WorkerState,
} from "../core/model.ts";

export type FleetStore = {
  /** Stores an endpoint with its first release, which is built: proving or live. */
  createEndpoint(
    endpoint: Endpoint,
    release: Release,
    nowMs: number,
  ): Promise<"created" | "name_taken" | "id_taken">;
  /**
   * Changes name and settings. `settings` gets those in force, so that of two changes at once neither undoes the other; what it throws
   * is the outcome.
   */
  updateEndpoint(
    id: EndpointId,
    change: { name?: string; settings?: (present: EndpointSettings) => EndpointSettings },
    nowMs: number,
  ): Promise<"updated" | "missing" | "name_taken">;
  setPaused(id: EndpointId, paused: boolean, reason: string, nowMs: number): Promise<boolean>;
  /**
   * Begins a release in state `building`, after all others of its endpoint; the candidate before it is superseded. `make` gets the
   * release that it follows (the candidate, else the live one, else the newest), so that of two changes at once neither undoes the other;
   * null from it: nothing changes, and nothing is stored.
   */
  beginRelease(
    id: EndpointId,
    make: (base: Release) => ReleaseDraft | null,
    nowMs: number,
  ): Promise<
    { readonly kind: "begun"; readonly release: Release } | { readonly kind: "unchanged" | "missing" }
  >;
  /** The build is done: the release proves itself, or goes live at once. False when another took its place meanwhile. */
  releaseBuilt(
    ref: ReleaseRef,
    built: BuiltRelease,
    to: "proving" | "live",
    reason: string,
    nowMs: number,
  ): Promise<boolean>;
  /** Moves a candidate on: live, or ended. False when the table refuses. The live release before it is superseded. */
  moveRelease(
    ref: ReleaseRef,
    to: "live" | "superseded" | "failed",
    reason: string,
    nowMs: number,
    failure?: ReleaseFailure,
  ): Promise<boolean>;
  /** Says anew why a release is in its state. Not synced, not journaled. */
  setReleaseReason(ref: ReleaseRef, reason: string): Promise<void>;
  /** Newest first. */
  releases(id: EndpointId, limit: number): readonly Release[];
  /** Forgets the endpoint; its jobs were cancelled before. */
  deleteEndpoint(id: EndpointId, nowMs: number): Promise<boolean>;
  setDesired(id: EndpointId, desired: Desired, nowMs: number): Promise<void>;
  endpoints(): readonly Endpoint[];
  release(id: EndpointId, version: number): Release | null;

  /** A worker row before its resource exists, with the digest of its token. Refused on a full disk: the wish may be over when there is room. */
  addWorker(worker: Worker, tokenDigest: string, nowMs: number): Promise<void>;
  /** Moves a worker along its table; false when the table refuses. `revoke` makes its token worthless in the same transaction. */
  moveWorker(
    id: WorkerId,
    change: {
      to: Exclude<WorkerState, "parked">;
      reason: string;
      handle?: string | null;
      revoke?: boolean;
      exit?: WorkerEnd;
    },
    nowMs: number,
  ): Promise<boolean>;
  /** Parks a ready worker that holds no job, judged in the same transaction; or lets a parked one sleep deeper. */
  parkWorker(id: WorkerId, depth: SleepDepth, reason: string, nowMs: number): Promise<boolean>;
  /** How far a start has come, and the pool's name for the worker once it has one. Not journaled; synced once it boots. */
  setStartStep(
    id: WorkerId,
    step: { phase: StartPhase; reason: string; handle?: string },
    nowMs: number,
  ): Promise<void>;
  /** Says anew why a worker is in the state it is in. Not synced, not journaled. */
  setWorkerReason(id: WorkerId, reason: string): Promise<void>;
  /** Deletes up to `limit` gone workers that ended before a time; returns how many. */
  pruneWorkers(beforeMs: number, limit: number): Promise<number>;
  /** Workers that are not gone. */
  workers(): readonly Worker[];
  worker(id: WorkerId): Worker | null;
  /** Gone ones included, newest first. */
  listWorkers(filter: { endpointId?: EndpointId; limit: number }): readonly Worker[];
  /** A worker and the digest of its token, null once revoked. */
  credential(id: WorkerId): { readonly worker: Worker; readonly tokenDigest: string | null } | null;
};

/** What a new release is, before it has a number. */
export type ReleaseDraft = Pick<Release, "spec" | "diff" | "origin" | "tests" | "reason">;

export type ReleaseRef = Pick<Release, "endpointId" | "version">;
