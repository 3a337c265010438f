/**
 * Every HTTP route of rpx as plain data. The API binds handlers to it, the client calls through it, the OpenAPI
 * document and the access tests are generated from it. A route without a policy does not type-check.
 */

/** What a caller must be: nobody in particular, a key of at least this scope, or the worker named in the path. */
export type Access = "open" | "read" | "run" | "deploy" | "admin" | "worker";

export type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

export type Route = {
  readonly methods: readonly Method[];
  /** `:name` stands for one path segment. */
  readonly path: string;
  readonly access: Access;
  /** Largest body in bytes; absent: no body is read. */
  readonly bodyLimit?: number;
  /** The operation's name in the table of rate limits. */
  readonly limit?: "run" | "runsync" | "status" | "stream" | "cancel" | "purge" | "requests" | "openai";
  readonly summary: string;
};

const MB = 1_000_000;

/** What workers speak: RunPod's worker protocol, on the worker listener alone. */
export const WORKER_ROUTES = {
  jobTake: {
    methods: ["GET"],
    path: "/v2/:endpoint/job-take/:worker",
    access: "worker",
    summary: "Hold until a job is there",
  },
  jobTakeBatch: {
    methods: ["GET"],
    path: "/v2/:endpoint/job-take-batch/:worker",
    access: "worker",
    summary: "Hold until jobs are there",
  },
  jobDone: {
    methods: ["POST"],
    path: "/v2/:endpoint/job-done/:worker/:job",
    access: "worker",
    bodyLimit: 20 * MB,
    summary: "Result or progress of a job",
  },
  jobStream: {
    methods: ["POST"],
    path: "/v2/:endpoint/job-stream/:worker/:job",
    access: "worker",
    bodyLimit: 20 * MB,
    summary: "A chunk of a job's stream",
  },
  jobStop: {
    methods: ["GET"],
    path: "/v2/:endpoint/job-stop/:worker",
    access: "worker",
    summary: "Hold until a job is to be stopped",
  },
  ping: { methods: ["GET"], path: "/v2/:endpoint/ping/:worker", access: "worker", summary: "Heartbeat" },
} as const satisfies Record<string, Route>;

/** RunPod's job operations. */
export const JOB_ROUTES = {
  run: {
    methods: ["POST"],
    path: "/v2/:endpoint/run",
    access: "run",
    bodyLimit: 10 * MB,
    limit: "run",
    summary: "Submit a job",
  },
  runSync: {
    methods: ["POST"],
    path: "/v2/:endpoint/runsync",
    access: "run",
    bodyLimit: 20 * MB,
    limit: "runsync",
    summary: "Submit a job and wait",
  },
  jobStatus: {
    methods: ["GET", "POST"],
    path: "/v2/:endpoint/status/:job",
    access: "read",
    bodyLimit: MB,
    limit: "status",
    summary: "A job's state and output",
  },
  jobStatusSync: {
    methods: ["GET", "POST"],
    path: "/v2/:endpoint/status-sync/:job",
    access: "read",
    bodyLimit: MB,
    limit: "status",
    summary: "As status, after waiting for the end",
  },
  jobStreamRead: {
    methods: ["GET", "POST"],
    path: "/v2/:endpoint/stream/:job",
    access: "read",
    bodyLimit: MB,
    limit: "stream",
    summary: "Chunks since the last call",
  },
  jobCancel: {
    methods: ["POST"],
    path: "/v2/:endpoint/cancel/:job",
    access: "run",
    bodyLimit: MB,
    limit: "cancel",
    summary: "Cancel a job",
  },
  jobRetry: {
    methods: ["POST"],
    path: "/v2/:endpoint/retry/:job",
    access: "run",
    bodyLimit: MB,
    limit: "cancel",
    summary: "Run a failed or timed out job again",
  },
  purgeQueue: {
    methods: ["POST"],
    path: "/v2/:endpoint/purge-queue",
    access: "run",
    bodyLimit: MB,
    limit: "purge",
    summary: "Cancel every waiting job",
  },
  health: {
    methods: ["GET"],
    path: "/v2/:endpoint/health",
    access: "read",
    summary: "Counts of jobs and workers",
  },
  requests: {
    methods: ["GET"],
    path: "/v2/:endpoint/requests",
    access: "read",
    limit: "requests",
    summary: "The newest jobs",
  },
  endpointMetrics: {
    methods: ["GET"],
    path: "/v2/:endpoint/metrics",
    access: "read",
    summary: "Ready workers and counts",
  },
} as const satisfies Record<string, Route>;

/** The native API of our CLI and monitor. */
export const API_ROUTES = {
  healthz: { methods: ["GET"], path: "/healthz", access: "open", summary: "200 when the daemon is ready" },
  status: { methods: ["GET"], path: "/api/status", access: "read", summary: "The daemon as a whole" },
  listEndpoints: { methods: ["GET"], path: "/api/endpoints", access: "read", summary: "Endpoints" },
  createEndpoint: {
    methods: ["POST"],
    path: "/api/endpoints",
    access: "deploy",
    bodyLimit: MB,
    summary: "Create an endpoint",
  },
  getEndpoint: {
    methods: ["GET"],
    path: "/api/endpoints/:endpoint",
    access: "read",
    summary: "One endpoint",
  },
  updateEndpoint: {
    methods: ["PATCH"],
    path: "/api/endpoints/:endpoint",
    access: "deploy",
    bodyLimit: MB,
    summary: "Change an endpoint",
  },
  deleteEndpoint: {
    methods: ["DELETE"],
    path: "/api/endpoints/:endpoint",
    access: "deploy",
    summary: "Delete an endpoint and its workers",
  },
  listReleases: {
    methods: ["GET"],
    path: "/api/endpoints/:endpoint/releases",
    access: "read",
    summary: "Releases, newest first",
  },
  getRelease: {
    methods: ["GET"],
    path: "/api/endpoints/:endpoint/releases/:version",
    access: "read",
    summary: "One release",
  },
  rollbackEndpoint: {
    methods: ["POST"],
    path: "/api/endpoints/:endpoint/rollback",
    access: "deploy",
    bodyLimit: MB,
    summary: "A new release of what an older one was made of",
  },
  pauseEndpoint: {
    methods: ["POST"],
    path: "/api/endpoints/:endpoint/pause",
    access: "deploy",
    bodyLimit: MB,
    summary: "Accept jobs, and hand none out",
  },
  resumeEndpoint: {
    methods: ["POST"],
    path: "/api/endpoints/:endpoint/resume",
    access: "deploy",
    bodyLimit: MB,
    summary: "Undo a pause",
  },
  warmEndpoint: {
    methods: ["POST"],
    path: "/api/endpoints/:endpoint/warm",
    access: "deploy",
    bodyLimit: MB,
    summary: "Have workers up once",
  },
  endpointLogs: {
    methods: ["GET"],
    path: "/api/endpoints/:endpoint/logs",
    access: "read",
    summary: "Log lines, one JSON object each",
  },
  putBundle: {
    methods: ["PUT"],
    path: "/api/bundles/:digest",
    access: "deploy",
    bodyLimit: 2_000 * MB,
    summary: "Send a folder as a tar",
  },
  hasBundle: {
    methods: ["GET"],
    path: "/api/bundles/:digest",
    access: "deploy",
    summary: "Whether a tar was sent before",
  },
  listJobs: { methods: ["GET"], path: "/api/jobs", access: "read", summary: "Jobs, newest first" },
  getJob: { methods: ["GET"], path: "/api/jobs/:job", access: "read", summary: "One job with its history" },
  listWorkers: { methods: ["GET"], path: "/api/workers", access: "read", summary: "Workers" },
  getWorker: { methods: ["GET"], path: "/api/workers/:worker", access: "read", summary: "One worker" },
  workerLogs: {
    methods: ["GET"],
    path: "/api/workers/:worker/logs",
    access: "read",
    summary: "Log lines, one JSON object each",
  },
  stopWorker: {
    methods: ["POST"],
    path: "/api/workers/:worker/stop",
    access: "deploy",
    bodyLimit: MB,
    summary: "Drain a worker and end it",
  },
  drainWorker: {
    methods: ["POST"],
    path: "/api/workers/:worker/drain",
    access: "deploy",
    bodyLimit: MB,
    summary: "Give a worker no more jobs; it ends after those it has",
  },
  listKeys: { methods: ["GET"], path: "/api/keys", access: "admin", summary: "Keys, without their text" },
  createKey: {
    methods: ["POST"],
    path: "/api/keys",
    access: "admin",
    bodyLimit: MB,
    summary: "Create a key; its text is shown once",
  },
  revokeKey: {
    methods: ["DELETE"],
    path: "/api/keys/:key",
    access: "admin",
    summary: "Make a key worthless",
  },
  listSecrets: {
    methods: ["GET"],
    path: "/api/secrets",
    access: "deploy",
    summary: "Secrets, without their values",
  },
  setSecret: {
    methods: ["PUT"],
    path: "/api/secrets/:secret",
    access: "deploy",
    // 64 KiB of value, each byte of which JSON may spell with six.
    bodyLimit: 0.4 * MB,
    summary: "Store a secret, or change it",
  },
  unsetSecret: {
    methods: ["DELETE"],
    path: "/api/secrets/:secret",
    access: "deploy",
    summary: "Forget a secret",
  },
  listRegistries: {
    methods: ["GET"],
    path: "/api/registries",
    access: "deploy",
    summary: "Registry logins, without their passwords",
  },
  setRegistry: {
    methods: ["PUT"],
    path: "/api/registries/:registry",
    access: "admin",
    bodyLimit: MB,
    summary: "Store a registry login, or change it",
  },
  removeRegistry: {
    methods: ["DELETE"],
    path: "/api/registries/:registry",
    access: "admin",
    summary: "Forget a registry login",
  },
  listImages: {
    methods: ["GET"],
    path: "/api/images",
    access: "deploy",
    summary: "Images that were built here or that releases use",
  },
  buildImage: {
    methods: ["POST"],
    path: "/api/images/build",
    access: "admin",
    bodyLimit: MB,
    summary: "Build an image of a folder that was sent, and push it",
  },
  pullImage: {
    methods: ["POST"],
    path: "/api/images/pull",
    access: "deploy",
    bodyLimit: MB,
    summary: "Get an image from its registry",
  },
  pruneImages: {
    methods: ["POST"],
    path: "/api/images/prune",
    access: "admin",
    bodyLimit: MB,
    summary: "Remove images, bundles and environments that no release needs",
  },
  events: {
    methods: ["GET"],
    path: "/api/events",
    access: "read",
    summary: "The journal as server-sent events",
  },
} as const satisfies Record<string, Route>;

export type WorkerRouteName = keyof typeof WORKER_ROUTES;
export type JobRouteName = keyof typeof JOB_ROUTES;
export type ApiRouteName = keyof typeof API_ROUTES;

/** The path of a route with its parameters filled in, each encoded. */
export function routePath(
  route: Pick<Route, "path">,
  parameters: Readonly<Record<string, string>> = {},
): string {
  return route.path.replace(/:([a-z]+)/g, (_, name: string) => {
    const value = parameters[name];
    if (value === undefined) throw new TypeError(`the path ${route.path} needs "${name}"`);
    return encodeURIComponent(value);
  });
}

/** Header of every reply: the daemon's version. */
export const VERSION_HEADER = "x-rpx-version";
