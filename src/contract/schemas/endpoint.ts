import { z } from "zod";

/** A duration: "5s", "1h30m", or plain seconds. */
const duration = z.union([z.string(), z.number().nonnegative()]).describe('"5s", "10m", or plain seconds');
/** A size: "8GiB", "512MiB", or plain bytes. */
const size = z.union([z.string(), z.number().nonnegative()]).describe('"8GiB", "512MiB", or plain bytes');
const whole = z.number().int();

/** Names of ours: T-20 of the threat table, safe on disk, in URLs and on a terminal. */
export const NAME_PATTERN = /^[a-z0-9][a-z0-9-]{0,62}$/;
/** Ids that clients may have in their code (`endpoint create --id`). */
export const ENDPOINT_ID_PATTERN = /^[A-Za-z0-9_-]{1,64}$/;
/** First segments after /v2 that RunPod's REST v2 uses: never an endpoint's id or name. */
export const RESERVED_NAMES: readonly string[] = [
  "serverless",
  "pods",
  "templates",
  "network-volumes",
  "registries",
  "catalog",
  "billing",
  "clusters",
  "account",
  "openapi.json",
];

const imageReference = z.string().min(1).max(512);

const imageTable = z.strictObject({
  /** What a generated Dockerfile begins with. */
  base: z.string().min(1).optional(),
  entrypoint: z.array(z.string()).optional(),
  command: z.array(z.string()).optional(),
  /** Name of a stored registry login. */
  registry: z.string().regex(NAME_PATTERN).optional(),
});

/** The settings of an endpoint, as rpx.toml spells them. Unknown keys are refused. */
export const endpointConfigSchema = z.strictObject({
  type: z.enum(["queue", "load-balancer"]).optional(),
  workers: z
    .strictObject({
      min: whole.min(0).max(1000).optional(),
      max: whole.min(0).max(1000).optional(),
      idle_timeout: duration.optional(),
      flashboot: z.boolean().optional(),
      prefetch: whole.min(1).max(1000).optional(),
      extra: whole.min(0).max(1000).optional(),
      prewarm: z.boolean().optional(),
    })
    .optional(),
  scale: z
    .strictObject({
      by: z.enum(["queue-delay", "request-count"]).optional(),
      threshold: z.number().positive().optional(),
      max_queued: whole.min(0).optional(),
    })
    .optional(),
  gpu: z
    .strictObject({
      count: whole.min(0).max(16).optional(),
      types: z.array(z.string()).optional(),
      memory: size.optional(),
      max_wait: duration.optional(),
      min_cuda: z.string().optional(),
      cuda: z.array(z.string()).optional(),
      exclude: z.array(z.string()).optional(),
    })
    .optional(),
  limits: z
    .strictObject({
      execution_timeout: duration.optional(),
      ttl: duration.optional(),
      start_timeout: duration.optional(),
      memory: size.optional(),
      cpus: z.number().positive().optional(),
      pids: whole.positive().optional(),
      shm: size.optional(),
      disk: size.optional(),
      retries: whole.min(0).max(25).optional(),
    })
    .optional(),
  retention: z
    .strictObject({ async: duration.optional(), sync: duration.optional(), failed: duration.optional() })
    .optional(),
  env: z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/), z.string()).optional(),
  volumes: z.record(z.string(), z.string()).optional(),
  webhook: z.strictObject({ secret: z.string().optional() }).optional(),
  image: imageTable.optional(),
});

export type EndpointConfig = z.infer<typeof endpointConfigSchema>;

/** rpx.toml as a whole: the settings, and where the code is. `image` is a table of settings, or the image that is run. */
export const projectFileSchema = endpointConfigSchema.extend({
  name: z.string().regex(NAME_PATTERN).optional(),
  handler: z.string().optional(),
  dockerfile: z.string().optional(),
  python: z.string().optional(),
  image: z.union([imageReference, imageTable]).optional(),
});

export type ProjectFile = z.infer<typeof projectFileSchema>;

/** Where a release's code is: a folder that the daemon can read (rpx dev), a tar sent before, or an image. */
export const sourceSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("folder"), path: z.string() }),
  z.strictObject({ kind: z.literal("bundle"), digest: z.string().regex(/^[0-9a-f]{64}$/) }),
  z.strictObject({ kind: z.literal("image"), reference: imageReference }),
]);

const code = {
  source: sourceSchema,
  /** Path of the handler inside the source; absent where an image or a Dockerfile says what runs. */
  handler: z.string().optional(),
  /** Path of the Dockerfile inside the source; absent: one is generated where it is needed. */
  dockerfile: z.string().optional(),
  /** Interpreter to use instead of looking for one. */
  python: z.string().optional(),
};

/** A job that a release must end well before it serves, in the form of .runpod/tests.json. */
export const releaseTestSchema = z.strictObject({
  name: z.string().min(1).max(200),
  input: z.json(),
  timeoutMs: whole.min(1_000).max(3_600_000).optional(),
  /** What the output must equal; absent: any output will do. */
  expected: z.json().optional(),
});
export type ReleaseTestBody = z.infer<typeof releaseTestSchema>;

const rolling = {
  /** Where its workers run; absent: as the daemon decides, or as before. It never changes by itself. */
  pool: z.enum(["process", "docker"]).optional(),
  /** prove: it serves once its first worker is ready and its tests have passed; at_once: as soon as it is built. */
  rollout: z.enum(["prove", "at_once"]).optional(),
  tests: z.array(releaseTestSchema).max(100).optional(),
};

export const createEndpointSchema = z.strictObject({
  name: z.string().regex(NAME_PATTERN),
  id: z.string().regex(ENDPOINT_ID_PATTERN).optional(),
  config: endpointConfigSchema,
  ...code,
  ...rolling,
});
export type CreateEndpoint = z.infer<typeof createEndpointSchema>;

/** A partial change: what is absent stays. `code` makes a new release. */
export const updateEndpointSchema = z.strictObject({
  name: z.string().regex(NAME_PATTERN).optional(),
  config: endpointConfigSchema.optional(),
  code: z.strictObject(code).optional(),
  /**
   * What made the release, for `endpoint releases`. A deploy says in full what workers are made of (code, image, env, hardware): what its
   * `config` leaves out is not set. An update leaves it as it is.
   */
  origin: z.enum(["deploy", "update"]).optional(),
  ...rolling,
});
export type UpdateEndpoint = z.infer<typeof updateEndpointSchema>;

/** An endpoint as lists and `endpoint get` show it: its settings under their rpx.toml names. */
export const endpointSchema = z.object({
  id: z.string(),
  name: z.string(),
  url: z.string().describe("Base of the job operations: ends in /v2/{id}"),
  owner: z.string(),
  /** ok, idle, scaling, throttled, degraded, paused. */
  state: z.enum(["ok", "idle", "scaling", "throttled", "degraded", "paused"]),
  reason: z.string(),
  release: z.number(),
  pool: z.string(),
  isolation: z.enum(["none", "partial", "full"]),
  /** What keeps its workers from this host and from others, and why it is not more. */
  isolationReason: z.string(),
  /** Null where an image or its Dockerfile says what runs. */
  handler: z.string().nullable(),
  runtime: z.string(),
  warnings: z.array(z.string()),
  desiredWorkers: z.number(),
  jobs: z.object({ inQueue: z.number(), inProgress: z.number(), completed: z.number(), failed: z.number() }),
  workerCounts: z.object({
    idle: z.number(),
    initializing: z.number(),
    running: z.number(),
    throttled: z.number(),
    unhealthy: z.number(),
  }),
  createdAt: z.string(),
  config: endpointConfigSchema,
  /** The release that this request made; null: nothing that workers are made of changed. Only in the answer to a change. */
  madeRelease: z.number().nullable().optional(),
  /** The release that is being built or proven; null: none. */
  candidateRelease: z.number().nullable(),
  paused: z.boolean(),
});
export type EndpointBody = z.infer<typeof endpointSchema>;
