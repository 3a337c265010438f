/** What releases leave behind on disk. */
export const ARTIFACT_KINDS = ["image", "bundle", "environment"] as const;
export type ArtifactKind = (typeof ARTIFACT_KINDS)[number];

export type Artifact = {
  /** As releases name it: an image's id, a bundle's digest, the name of an environment's folder. */
  readonly id: string;
  /** For people: an image's tag. */
  readonly name: string;
  readonly bytes: number;
};

/** One kind of artifacts, all of them this daemon's own: what others have made is never listed. */
export type Artifacts = {
  readonly kind: ArtifactKind;
  list(): Promise<readonly Artifact[]>;
  /** Deletes one; what is gone already is let pass. A sentence when somebody uses it, and it stays. */
  remove(id: string): Promise<string | null>;
};

/** Disk that is taken by something that comes and goes by itself. */
export type DiskShare = {
  readonly kind: "logs" | "build cache";
  bytes(): Promise<number>;
};
