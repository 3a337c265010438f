import { z } from "zod";
import { NAME_PATTERN } from "./endpoint.ts";

const reference = z.string().min(1).max(512);
/** Name of a stored registry login; absent: the one of the image's registry, where there is just one. */
const registry = z.string().regex(NAME_PATTERN).optional();

/** POST /api/images/build. */
export const buildImageSchema = z.strictObject({
  /** SHA-256 of the folder's tar, sent before. */
  digest: z.string().regex(/^[0-9a-f]{64}$/),
  /** Path of the handler inside; absent: its Dockerfile says what runs. */
  handler: z.string().optional(),
  /** Path of the Dockerfile inside; absent: one is generated for the handler, else `Dockerfile`. */
  dockerfile: z.string().optional(),
  /** What a generated Dockerfile begins with. */
  base: z.string().min(1).optional(),
  /** `name:tag` of what comes of it. */
  tag: reference,
  push: z.boolean().optional(),
  registry,
});
export type BuildImage = z.infer<typeof buildImageSchema>;

/** POST /api/images/pull. */
export const pullImageSchema = z.strictObject({ reference, registry });
export type PullImage = z.infer<typeof pullImageSchema>;

/** POST /api/images/prune. */
export const pruneImagesSchema = z.strictObject({ dryRun: z.boolean().optional() });
export type PruneImages = z.infer<typeof pruneImagesSchema>;

export const imageSchema = z.object({
  id: z.string(),
  tags: z.array(z.string()),
  digests: z.array(z.string()).describe("name@sha256:... under which registries are known to have it"),
  bytes: z.number(),
  createdAt: z.string(),
  ours: z.boolean().describe("built by this daemon"),
  releases: z
    .array(z.object({ endpoint: z.string(), version: z.number(), live: z.boolean() }))
    .describe("releases whose workers are made from it"),
});
export type ImageBody = z.infer<typeof imageSchema>;

export const builtImageSchema = z.object({
  id: z.string(),
  reference: z.string(),
  bytes: z.number(),
  pushed: z.string().nullable().describe("name@sha256:... in its registry; null: it was not pushed"),
  warnings: z.array(z.string()),
});
export type BuiltImageBody = z.infer<typeof builtImageSchema>;

export const pulledImageSchema = z.object({
  id: z.string(),
  reference: z.string(),
  image: z
    .string()
    .describe("the name that never moves: name@sha256:..., or the id of one that came from no registry"),
  bytes: z.number(),
  warnings: z.array(z.string()),
});
export type PulledImageBody = z.infer<typeof pulledImageSchema>;

const artifact = z.object({
  kind: z.enum(["image", "bundle", "environment"]),
  id: z.string(),
  name: z.string(),
  bytes: z.number(),
});
export const prunedSchema = z.object({
  dryRun: z.boolean(),
  removed: z.array(artifact).describe("what was removed, or would be"),
  kept: z.array(artifact.extend({ reason: z.string() })).describe("what could not be removed"),
  bytes: z.number().describe("of all that is removed; layers that images share are counted with each"),
  problems: z.array(z.string()),
});
export type PrunedBody = z.infer<typeof prunedSchema>;
