import { z } from "zod";

/** Ranges of `policy` in ms (RunPod, job policy): 5 s to 7 days, and 10 s to 7 days. */
export const EXECUTION_TIMEOUT_RANGE_MS = { min: 5_000, max: 604_800_000 } as const;
export const TTL_RANGE_MS = { min: 10_000, max: 604_800_000 } as const;
/** `wait` of /runsync, /status-sync and /stream in ms. */
export const WAIT_RANGE_MS = { min: 1_000, max: 300_000, default: 90_000 } as const;

/** Largest bodies in bytes; MB is 10^6 (RunPod, payload limits). */
export const BODY_LIMIT_BYTES = {
  run: 10_000_000,
  runsync: 20_000_000,
  result: 20_000_000,
  other: 1_000_000,
} as const;

/** Deepest nesting accepted in `input`, and in results. */
export const MAX_DEPTH = { input: 200, result: 1_000 } as const;

export const policySchema = z.object({
  executionTimeout: z
    .number()
    .int()
    .min(EXECUTION_TIMEOUT_RANGE_MS.min)
    .max(EXECUTION_TIMEOUT_RANGE_MS.max)
    .optional(),
  ttl: z.number().int().min(TTL_RANGE_MS.min).max(TTL_RANGE_MS.max).optional(),
  lowPriority: z.boolean().optional(),
});

/** A job as RunPod's clients read it. */
export const jobBodySchema = z.object({
  id: z.string(),
  status: z.enum(["IN_QUEUE", "IN_PROGRESS", "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"]),
  delayTime: z.number().int().optional().describe("ms in the queue before the last attempt"),
  executionTime: z.number().int().optional().describe("ms from pickup to finish"),
  workerId: z.string().optional(),
  retries: z.number().int().optional(),
  input: z.unknown().optional(),
  output: z.unknown().optional(),
  error: z.string().optional(),
});
export type JobBody = z.infer<typeof jobBodySchema>;

/** One journal row, as `job get` and `/api/events` show it. */
export const eventSchema = z.object({
  seq: z.number(),
  ts: z.string(),
  kind: z.string(),
  endpointId: z.string().nullable(),
  jobId: z.string().nullable(),
  workerId: z.string().nullable(),
  data: z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()])),
});
export type EventBody = z.infer<typeof eventSchema>;

/** A job as the native API shows it: RunPod's body and what an operator asks next. */
export const jobRecordSchema = jobBodySchema.extend({
  endpoint: z.string().describe("the endpoint's name"),
  endpointId: z.string(),
  owner: z.string(),
  createdAt: z.string(),
  finishedAt: z.string().optional(),
  attempts: z.number(),
  failure: z.string().optional(),
  /** Why it waits, runs or ended, in a sentence. */
  reason: z.string(),
  seq: z.number().optional(),
});
export type JobRecord = z.infer<typeof jobRecordSchema>;

/** `job get`: with its history. */
export const jobDetailSchema = jobRecordSchema.extend({ events: z.array(eventSchema) });
export type JobDetail = z.infer<typeof jobDetailSchema>;

/** GET /health: all eleven keys, always. */
export const healthSchema = z.object({
  jobs: z.object({
    completed: z.number(),
    failed: z.number(),
    inProgress: z.number(),
    inQueue: z.number(),
    retried: z.number(),
  }),
  workers: z.object({
    idle: z.number(),
    initializing: z.number(),
    ready: z.number(),
    running: z.number(),
    throttled: z.number(),
    unhealthy: z.number(),
  }),
});
export type HealthBody = z.infer<typeof healthSchema>;
