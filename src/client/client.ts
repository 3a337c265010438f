import type { Readable } from "node:stream";
import { RpxError } from "../contract/error.ts";
import {
  API_ROUTES,
  JOB_ROUTES,
  type Method,
  type Route,
  routePath,
  VERSION_HEADER,
} from "../contract/routes.ts";
import type { CreatedKey, CreateKey, KeyBody, StatusBody } from "../contract/schemas/daemon.ts";
import type { CreateEndpoint, EndpointBody, UpdateEndpoint } from "../contract/schemas/endpoint.ts";
import type {
  BuildImage,
  BuiltImageBody,
  ImageBody,
  PrunedBody,
  PruneImages,
  PulledImageBody,
  PullImage,
} from "../contract/schemas/image.ts";
import type { EventBody, HealthBody, JobBody, JobDetail, JobRecord } from "../contract/schemas/job.ts";
import type {
  RegistryBody,
  RemovedRegistry,
  SetRegistry,
  StoredRegistry,
} from "../contract/schemas/registry.ts";
import type { ReleaseBody, Rollback, Warm } from "../contract/schemas/release.ts";
import type { SecretBody, SetSecret, StoredSecret, UnsetSecret } from "../contract/schemas/secret.ts";
import type { LogLineBody, WorkerBody } from "../contract/schemas/worker.ts";
import { elements } from "../text/json-text.ts";
import type { FollowOptions } from "./events.ts";
import {
  type JobBodyText,
  type JobDetailText,
  type JobRecordText,
  notOurs,
  readJob,
  readJobs,
  readMembers,
} from "./job-text.ts";
import { type ErrorParts, expectSuccess, readLines, readText, refusalOf } from "./reply.ts";
import { type Call, DEFAULT_SILENCE_MS, type Reply, type Send } from "./send.ts";

/** `onVersion` gets the daemon's version of each answer, and may throw to refuse it. */
export type ClientDeps = {
  readonly send: Send;
  readonly onVersion?: (version: string) => void;
  /** Stops every call that is under way. */
  readonly signal?: AbortSignal;
};

/** Which jobs: `status` as on the wire, `idPrefix` the beginning of an id, `before` the `seq` of the job to page on from. */
export type JobQuery = {
  readonly endpoint?: string | undefined;
  readonly status?: string | undefined;
  readonly worker?: string | undefined;
  readonly idPrefix?: string | undefined;
  readonly limit?: number | undefined;
  readonly before?: number | undefined;
};

export type WorkerQuery = { readonly endpoint?: string | undefined; readonly all?: boolean | undefined };

/** `force`: also a secret that is in use; `owner`: another's than the key's, for an admin. */
export type UnsetQuery = { readonly force?: boolean | undefined; readonly owner?: string | undefined };

/** Which log lines: `since` and `until` are ISO times or ms, `tail` is how many old lines come first. */
export type LogQuery = {
  readonly follow?: boolean | undefined;
  readonly tail?: number | undefined;
  readonly since?: string | undefined;
  readonly until?: string | undefined;
  readonly job?: string | undefined;
  readonly worker?: string | undefined;
  readonly grep?: string | undefined;
  readonly level?: string | undefined;
  readonly source?: string | undefined;
};

/** One answer of /stream: raw JSON texts of the chunks since the last one. */
export type StreamText = { readonly status: JobBody["status"]; readonly chunks: readonly string[] };

type CallOptions = Pick<Call, "query" | "body" | "headers" | "silenceMs" | "isRepeatable"> & {
  readonly parameters?: Readonly<Record<string, string>>;
  /** One of the route's methods; its first unless told. */
  readonly method?: Method;
};

/** Longest silence in ms while a bundle is sent and synced to disk or things are removed, and while something is built (a step can install packages). */
const UPLOAD_SILENCE_MS = 120_000;
const BUILD_SILENCE_MS = 900_000;

/** Gets each step of a build or pull, a sentence each; `percent` where the size of the work is known. */
export type OnProgress = (step: string, percent?: number) => void;

/** One line of the answer to what takes its time: a step, or its outcome under a name of its own. */
type ProgressLine = ErrorParts & { readonly progress?: string; readonly percent?: number };

export type Client = ReturnType<typeof createClient>;

/** The only way to the daemon: one method per route, each rejecting with an RpxError of the catalogue. */
export function createClient(deps: ClientDeps) {
  async function open(route: Route, options: CallOptions = {}): Promise<Reply> {
    const { parameters, method, ...rest } = options;
    const reply = await deps.send({
      method: method ?? route.methods[0] ?? "GET",
      path: routePath(route, parameters),
      ...rest,
      ...(deps.signal === undefined ? {} : { signal: deps.signal }),
    });
    const version = reply.headers[VERSION_HEADER];
    if (typeof version === "string") deps.onVersion?.(version);
    await expectSuccess(reply);
    return reply;
  }
  async function text(route: Route, options?: CallOptions): Promise<string> {
    return readText((await open(route, options)).body);
  }
  async function json<Body>(route: Route, options?: CallOptions): Promise<Body> {
    const body = await text(route, options);
    try {
      return JSON.parse(body);
    } catch {
      throw notOurs("its body is no JSON");
    }
  }
  /** For answers whose body says nothing new. */
  async function done(route: Route, options?: CallOptions): Promise<void> {
    await text(route, options);
  }
  async function* lines<Line>(route: Route, options: CallOptions): AsyncGenerator<Line> {
    const reply = await open(route, options);
    for await (const line of readLines(reply.body)) yield JSON.parse(line) as Line;
  }
  /** Lines of progress, then the outcome or a refusal: the status was sent before either was known. */
  async function progress<Outcome>(
    route: Route,
    name: "endpoint" | "image",
    options: CallOptions,
    onProgress?: OnProgress,
  ): Promise<Outcome> {
    const headers = { accept: "application/x-ndjson" };
    const call = { ...options, headers, silenceMs: BUILD_SILENCE_MS };
    for await (const line of lines<ProgressLine & { [Name in typeof name]?: Outcome }>(route, call)) {
      if (line.progress !== undefined) onProgress?.(line.progress, line.percent);
      const outcome = line[name];
      if (outcome !== undefined) return outcome;
      if (line.error !== undefined) throw refusalOf(line);
    }
    throw notOurs(`it ended before the ${name} was ready`);
  }

  return {
    /** Whether the daemon is ready. */
    async healthz(): Promise<boolean> {
      await done(API_ROUTES.healthz);
      return true;
    },
    status: () => json<StatusBody>(API_ROUTES.status),

    listEndpoints: () => json<EndpointBody[]>(API_ROUTES.listEndpoints),
    /** Creates an endpoint; a build, which can take minutes, tells its steps to `onProgress`. */
    createEndpoint: (request: CreateEndpoint, onProgress?: OnProgress) =>
      progress<EndpointBody>(
        API_ROUTES.createEndpoint,
        "endpoint",
        { body: JSON.stringify(request) },
        onProgress,
      ),
    getEndpoint: (endpoint: string) =>
      json<EndpointBody>(API_ROUTES.getEndpoint, { parameters: { endpoint } }),
    /** Changes an endpoint; as {@link createEndpoint} when there is new code. */
    updateEndpoint: (endpoint: string, change: UpdateEndpoint, onProgress?: OnProgress) =>
      progress<EndpointBody>(
        API_ROUTES.updateEndpoint,
        "endpoint",
        { parameters: { endpoint }, body: JSON.stringify(change) },
        onProgress,
      ),
    deleteEndpoint: (endpoint: string) => done(API_ROUTES.deleteEndpoint, { parameters: { endpoint } }),
    endpointLogs: (endpoint: string, query: LogQuery = {}): AsyncGenerator<LogLineBody> =>
      lines(API_ROUTES.endpointLogs, { parameters: { endpoint }, ...logCall(query) }),

    /** Whether the daemon has a bundle already. */
    async hasBundle(digest: string): Promise<boolean> {
      try {
        await done(API_ROUTES.hasBundle, { parameters: { digest } });
        return true;
      } catch (error) {
        if (error instanceof RpxError && error.code === "not_found") return false;
        throw error;
      }
    },
    /** Sends a bundle of `bytes` bytes whose SHA-256 is `digest`. `content` opens it; again for a repeat. */
    putBundle: (digest: string, bundle: { readonly bytes: number; readonly content: () => Readable }) =>
      done(API_ROUTES.putBundle, {
        parameters: { digest },
        body: bundle.content,
        headers: { "content-type": "application/x-tar", "content-length": String(bundle.bytes) },
        silenceMs: UPLOAD_SILENCE_MS,
      }),

    listJobs: async (query: JobQuery = {}): Promise<JobRecordText[]> =>
      readJobs<JobRecord>(await text(API_ROUTES.listJobs, { query: texts(query) })),
    getJob: async (job: string): Promise<JobDetailText> =>
      readJob<JobDetail>(await text(API_ROUTES.getJob, { parameters: { job } })),

    /** Workers that are there; with `all` also those that are gone. */
    listWorkers: ({ endpoint, all }: WorkerQuery = {}) =>
      json<WorkerBody[]>(API_ROUTES.listWorkers, { query: { endpoint, all: all ? "1" : undefined } }),
    getWorker: (worker: string) => json<WorkerBody>(API_ROUTES.getWorker, { parameters: { worker } }),
    workerLogs: (worker: string, query: LogQuery = {}): AsyncGenerator<LogLineBody> =>
      lines(API_ROUTES.workerLogs, { parameters: { worker }, ...logCall(query) }),
    releases: (endpoint: string) =>
      json<ReleaseBody[]>(API_ROUTES.listReleases, { parameters: { endpoint } }),
    release: (endpoint: string, version: number) =>
      json<ReleaseBody>(API_ROUTES.getRelease, { parameters: { endpoint, version: String(version) } }),
    rollback: (endpoint: string, body: Rollback, onProgress?: OnProgress) =>
      progress<EndpointBody>(
        API_ROUTES.rollbackEndpoint,
        "endpoint",
        { parameters: { endpoint }, body: JSON.stringify(body) },
        onProgress,
      ),
    pauseEndpoint: (endpoint: string) =>
      json<EndpointBody>(API_ROUTES.pauseEndpoint, { parameters: { endpoint }, body: "{}" }),
    resumeEndpoint: (endpoint: string) =>
      json<EndpointBody>(API_ROUTES.resumeEndpoint, { parameters: { endpoint }, body: "{}" }),
    warmEndpoint: (endpoint: string, body: Warm) =>
      json<EndpointBody>(API_ROUTES.warmEndpoint, { parameters: { endpoint }, body: JSON.stringify(body) }),
    drainWorker: (worker: string) => done(API_ROUTES.drainWorker, { parameters: { worker }, body: "{}" }),
    stopWorker: (worker: string) => done(API_ROUTES.stopWorker, { parameters: { worker }, body: "{}" }),

    listKeys: () => json<KeyBody[]>(API_ROUTES.listKeys),
    createKey: (request: CreateKey) =>
      json<CreatedKey>(API_ROUTES.createKey, { body: JSON.stringify(request) }),
    revokeKey: (key: string) => done(API_ROUTES.revokeKey, { parameters: { key } }),

    listRegistries: () => json<RegistryBody[]>(API_ROUTES.listRegistries),
    /** Stores a registry login, or changes it; its password is in no answer. */
    setRegistry: (registry: string, request: SetRegistry) =>
      json<StoredRegistry>(API_ROUTES.setRegistry, {
        parameters: { registry },
        body: JSON.stringify(request),
      }),
    removeRegistry: (registry: string, { force = false }: { readonly force?: boolean } = {}) =>
      json<RemovedRegistry>(API_ROUTES.removeRegistry, {
        parameters: { registry },
        query: { force: force ? "1" : undefined },
      }),

    listImages: () => json<ImageBody[]>(API_ROUTES.listImages),
    /** Builds an image of a folder that was sent; its steps go to `onProgress`. */
    buildImage: (request: BuildImage, onProgress?: OnProgress) =>
      progress<BuiltImageBody>(API_ROUTES.buildImage, "image", { body: JSON.stringify(request) }, onProgress),
    pullImage: (request: PullImage, onProgress?: OnProgress) =>
      progress<PulledImageBody>(API_ROUTES.pullImage, "image", { body: JSON.stringify(request) }, onProgress),
    pruneImages: (request: PruneImages) =>
      json<PrunedBody>(API_ROUTES.pruneImages, {
        body: JSON.stringify(request),
        silenceMs: UPLOAD_SILENCE_MS,
      }),

    listSecrets: () => json<SecretBody[]>(API_ROUTES.listSecrets),
    /** Stores a secret, or changes it; its value is in no answer. */
    setSecret: (secret: string, request: SetSecret) =>
      json<StoredSecret>(API_ROUTES.setSecret, { parameters: { secret }, body: JSON.stringify(request) }),
    unsetSecret: (secret: string, { force, owner }: UnsetQuery = {}) =>
      json<UnsetSecret>(API_ROUTES.unsetSecret, {
        parameters: { secret },
        query: { force: force ? "1" : undefined, owner },
      }),

    /** The journal as it grows, over broken connections. */
    async *events(options: FollowOptions = {}): AsyncGenerator<EventBody> {
      const { followEvents } = await import("./events.ts"); // its parser is no part of what a hot command loads
      yield* followEvents(
        deps.send,
        deps.signal === undefined ? options : { signal: deps.signal, ...options },
      );
    },

    /** Submits a job. `body` is the whole request as JSON text; `input` stands in it as it was written. */
    run: async (endpoint: string, body: string, options: SubmitOptions = {}): Promise<JobBodyText> =>
      readJob<JobBody>(
        await text(JOB_ROUTES.run, { parameters: { endpoint }, body, ...submitHeaders(options) }),
      ),
    /** Submits a job and waits for its end up to `waitMs`. */
    runSync: async (
      endpoint: string,
      body: string,
      options: SubmitOptions & WaitOptions,
    ): Promise<JobBodyText> =>
      readJob<JobBody>(
        await text(JOB_ROUTES.runSync, {
          parameters: { endpoint },
          body,
          ...submitHeaders(options),
          ...waitCall(options),
        }),
      ),
    jobStatus: async (endpoint: string, job: string): Promise<JobBodyText> =>
      readJob<JobBody>(await text(JOB_ROUTES.jobStatus, { parameters: { endpoint, job } })),
    /** As status, after waiting for the end up to `waitMs`. */
    jobStatusSync: async (endpoint: string, job: string, options: WaitOptions): Promise<JobBodyText> =>
      readJob<JobBody>(
        await text(JOB_ROUTES.jobStatusSync, { parameters: { endpoint, job }, ...waitCall(options) }),
      ),
    /** The chunks since the last call: each is handed out once. */
    jobStream: async (endpoint: string, job: string, options: WaitOptions): Promise<StreamText> =>
      readStream(
        await text(JOB_ROUTES.jobStreamRead, {
          parameters: { endpoint, job },
          isRepeatable: false,
          ...waitCall(options),
        }),
      ),
    cancelJob: async (endpoint: string, job: string): Promise<JobBodyText> =>
      readJob<JobBody>(await text(JOB_ROUTES.jobCancel, { parameters: { endpoint, job } })),
    retryJob: async (endpoint: string, job: string): Promise<JobBodyText> =>
      readJob<JobBody>(await text(JOB_ROUTES.jobRetry, { parameters: { endpoint, job } })),
    purgeQueue: (endpoint: string) =>
      json<{ removed: number; status: string }>(JOB_ROUTES.purgeQueue, { parameters: { endpoint } }),
    health: (endpoint: string) => json<HealthBody>(JOB_ROUTES.health, { parameters: { endpoint } }),
    requests: async (endpoint: string): Promise<string> =>
      text(JOB_ROUTES.requests, { parameters: { endpoint } }),
    endpointMetrics: (endpoint: string) =>
      json<Record<string, unknown>>(JOB_ROUTES.endpointMetrics, { parameters: { endpoint } }),
  };
}

/** `idempotencyKey`: a repeat with the same one gets the first job. */
export type SubmitOptions = { readonly idempotencyKey?: string | undefined };
/** `waitMs`: how long the daemon may hold the request; 1 s to 5 min. */
export type WaitOptions = { readonly waitMs: number };

function submitHeaders(options: SubmitOptions): Pick<Call, "headers"> {
  return options.idempotencyKey === undefined
    ? {}
    : { headers: { "idempotency-key": options.idempotencyKey } };
}

function waitCall({ waitMs }: WaitOptions): Pick<Call, "query" | "silenceMs"> {
  return { query: { wait: String(waitMs) }, silenceMs: waitMs + DEFAULT_SILENCE_MS };
}

function logCall(query: LogQuery): Pick<Call, "query" | "silenceMs"> {
  return {
    query: { ...texts(query), follow: query.follow ? "1" : undefined },
    silenceMs: query.follow ? 0 : DEFAULT_SILENCE_MS,
  };
}

/** A query as text; booleans are left to the caller. */
function texts(query: Readonly<Record<string, unknown>>): Record<string, string | undefined> {
  return Object.fromEntries(
    Object.entries(query).map(([name, value]) => [name, value === undefined ? undefined : String(value)]),
  );
}

function readStream(json: string): StreamText {
  const members = readMembers(json);
  const status: JobBody["status"] = JSON.parse(members.get("status") ?? "null");
  const chunks = elements(members.get("stream") ?? "[]").map(
    (item) => readMembers(item).get("output") ?? "null",
  );
  return { status, chunks };
}
