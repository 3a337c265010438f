import { z } from "zod";
import { NAME_PATTERN } from "./endpoint.ts";

/** GET /api/status: the daemon as a whole. */
export const statusSchema = z.object({
  version: z.string(),
  pid: z.number(),
  url: z.string(),
  workerUrl: z.string(),
  startedAt: z.string(),
  uptimeMs: z.number(),
  dataDir: z.string(),
  /** Where workers of new endpoints run. */
  pool: z.string(),
  isolation: z.enum(["none", "partial", "full"]),
  pools: z.array(
    z.object({
      kind: z.string(),
      isolation: z.enum(["none", "partial", "full"]),
      isolationReason: z.string(),
      /** Why it cannot be reached now; null: it can. */
      away: z.string().nullable(),
    }),
  ),
  /** ok, or the reason why new jobs are refused. */
  health: z.string(),
  disk: z.object({
    databaseBytes: z.number(),
    freeBytes: z.number(),
    minFreeBytes: z.number(),
    usage: z
      .array(
        z.object({
          kind: z.enum(["database", "bundle", "environment", "logs", "image", "build cache"]),
          bytes: z.number().nullable().describe("null while it is not known"),
        }),
      )
      .describe("what takes disk, by kind; images and build cache lie where the engine keeps them"),
  }),
  journalSeq: z.number(),
});
export type StatusBody = z.infer<typeof statusSchema>;

const scope = z.enum(["read", "run", "deploy", "admin"]);

export const createKeySchema = z.strictObject({
  name: z.string().regex(NAME_PATTERN),
  owner: z.string().regex(NAME_PATTERN).optional(),
  scope: scope.optional(),
  /** Shared endpoints, by id or name. */
  endpoints: z.array(z.string()).max(100).optional(),
  /** Most jobs that this owner may have waiting; 0: no limit. */
  maxQueued: z.number().int().min(0).optional(),
});
export type CreateKey = z.infer<typeof createKeySchema>;

export const keySchema = z.object({
  id: z.string(),
  name: z.string(),
  owner: z.string(),
  scope,
  endpoints: z.array(z.string()),
  prefix: z.string(),
  maxQueued: z.number(),
  createdAt: z.string(),
  lastUsedAt: z.string().nullable(),
  revokedAt: z.string().nullable(),
});
export type KeyBody = z.infer<typeof keySchema>;

/** The only answer that ever holds a key's text. */
export const createdKeySchema = keySchema.extend({ key: z.string() });
export type CreatedKey = z.infer<typeof createdKeySchema>;

/** Every error body: RunPod's clients read only `error`. */
export const errorBodySchema = z.object({
  error: z.string(),
  code: z.string().optional(),
  why: z.string().optional(),
  hint: z.string().optional(),
});
export type ErrorBody = z.infer<typeof errorBodySchema>;
