import { z } from "zod";

/**
 * Settings of one daemon, as `rpx serve` and `rpx dev` hand them over: flags already checked against each other by
 * the command, durations in ms, paths absolute.
 */
export const daemonConfigSchema = z.strictObject({
  dataDir: z.string(),
  /** Client listener. Port 0 takes a free one. */
  host: z.string().default("127.0.0.1"),
  port: z.number().int().min(0).max(65_535).default(7790),
  /** Worker listener. */
  workerHost: z.string().default("127.0.0.1"),
  workerPort: z.number().int().min(0).max(65_535).default(7791),
  /** Where workers of new endpoints run. auto: in containers where an engine answers, else as processes. */
  pool: z.enum(["auto", "process", "docker"]).default("auto"),
  /** What workers may claim of this machine together; 90 % of what is not set. */
  budget: z
    .strictObject({
      cpus: z.number().positive().optional(),
      memoryBytes: z.number().positive().optional(),
      diskBytes: z.number().positive().optional(),
    })
    .optional(),
  /** SIGTERM ends workers in containers too, which otherwise outlive the daemon. */
  stopWorkers: z.boolean().default(false),
  /** How workers in containers reach the worker listener, instead of the address that their pool finds. */
  workerUrl: z.string().optional(),
  /** Base of printed URLs, and an allowed Host name. */
  publicUrl: z.string().optional(),
  tls: z.strictObject({ certPath: z.string(), keyPath: z.string() }).optional(),
  /** Interpreter for Python handlers, before any other. */
  python: z.string().optional(),
  /** How long SIGTERM waits for running jobs. */
  graceMs: z.number().int().nonnegative().default(10_000),
  /** New jobs are refused below this much free disk. */
  minFreeBytes: z.number().int().nonnegative().default(1_000_000_000),
  /** RunPod's rate limits: on beyond loopback unless set (D17). */
  rateLimits: z.boolean().optional(),
  /** Most bytes of stream chunks that one job may keep. */
  maxStreamBytes: z.number().int().positive().default(1_000_000_000),
  /** Where the ready line goes: a sentence on stderr, or one JSON line on stdout for `rpx dev`. */
  announce: z.enum(["text", "json"]).default("text"),
  logLevel: z.enum(["trace", "debug", "info", "warn", "error", "silent"]).default("info"),
});

export type DaemonConfig = z.infer<typeof daemonConfigSchema>;
/** What a command has to give: everything with a default may be left out. */
export type DaemonConfigInput = z.input<typeof daemonConfigSchema>;
