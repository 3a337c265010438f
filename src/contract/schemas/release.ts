import { z } from "zod";

/** A release as lists and `endpoint releases` show it: what workers are made of, and what became of it. */
export const releaseSchema = z.object({
  version: z.number(),
  state: z.enum(["building", "proving", "live", "superseded", "failed"]),
  reason: z.string(),
  /** At what it failed; null unless it has. */
  failure: z.enum(["build", "worker", "test"]).nullable(),
  pool: z.string(),
  /** The image's reference, or the interpreter that runs the handler; empty until it is built. */
  image: z.string(),
  /** What made it: create, deploy, update, "rollback to 3". */
  source: z.string(),
  diff: z.array(z.object({ field: z.string(), old: z.string().nullable(), new: z.string().nullable() })),
  /** Names of the tests that it has to pass. */
  tests: z.array(z.string()),
  warnings: z.array(z.string()),
  createdAt: z.string(),
  liveAt: z.string().nullable(),
});
export type ReleaseBody = z.infer<typeof releaseSchema>;

export const rollbackSchema = z.strictObject({
  /** Version to go back to; absent: the one that served before. */
  to: z.number().int().positive().optional(),
});
export type Rollback = z.infer<typeof rollbackSchema>;

export const warmSchema = z.strictObject({
  /** Workers that are to be up once; absent: 1. */
  workers: z.number().int().min(1).max(1000).optional(),
});
export type Warm = z.infer<typeof warmSchema>;
