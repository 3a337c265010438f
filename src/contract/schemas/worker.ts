import { z } from "zod";

/** A worker as lists show it. `state` is RunPod's; `reason` is a sentence in every state. */
export const workerSchema = z.object({
  id: z.string(),
  endpoint: z.string().describe("the endpoint's name"),
  endpointId: z.string(),
  state: z.enum(["initializing", "idle", "running", "throttled", "outdated", "unhealthy", "gone"]),
  reason: z.string(),
  release: z.number(),
  pool: z.string(),
  isolation: z.enum(["none", "partial", "full"]),
  /** What keeps it from this host and from others, and why it is not more. */
  isolationReason: z.string(),
  gpus: z.array(z.string()),
  /** The pool's own name for it: a process id, a container id. */
  container: z.string().nullable(),
  jobIds: z.array(z.string()),
  startedAt: z.string(),
  endedAt: z.string().nullable(),
  /** How far its start has come: pull, create, boot; null before and after. */
  phase: z.enum(["pull", "create", "boot"]).nullable(),
  /** How deep an idle worker sleeps; null: it is awake. */
  asleep: z.enum(["frozen", "stopped"]).nullable(),
  /** How it ended, where its pool saw it. */
  exit: z
    .object({
      code: z.number().nullable(),
      signal: z.string().nullable(),
      cause: z.enum(["oom", "disk", "removed"]).nullable(),
    })
    .nullable(),
  /** When the next start is tried after failures; null: none is held back. */
  retryAt: z.string().nullable(),
  /** Its last lines of output, once it has ended. Only where one worker is shown. */
  lastLines: z.array(z.string()).optional(),
});
export type WorkerBody = z.infer<typeof workerSchema>;

/** One line of a worker's output. `level` and `jobId` are read from the SDK's JSON lines where there are any. */
export const logLineSchema = z.object({
  ts: z.string(),
  source: z.enum(["stdout", "stderr", "system"]),
  level: z.string().nullable(),
  workerId: z.string(),
  jobId: z.string().nullable(),
  line: z.string(),
});
export type LogLineBody = z.infer<typeof logLineSchema>;
