/**
 * Writes docs/openapi.json from the route table and the schemas of the contract: `node scripts/openapi.ts`. A test fails when the
 * file is stale. A route that is not described here does not type-check.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import {
  type Access,
  API_ROUTES,
  type ApiRouteName,
  JOB_ROUTES,
  type JobRouteName,
  type Method,
  type Route,
  WORKER_ROUTES,
  type WorkerRouteName,
} from "../src/contract/routes.ts";
import {
  createdKeySchema,
  createKeySchema,
  errorBodySchema,
  keySchema,
  statusSchema,
} from "../src/contract/schemas/daemon.ts";
import {
  createEndpointSchema,
  endpointConfigSchema,
  endpointSchema,
  updateEndpointSchema,
} from "../src/contract/schemas/endpoint.ts";
import {
  buildImageSchema,
  builtImageSchema,
  imageSchema,
  prunedSchema,
  pruneImagesSchema,
  pulledImageSchema,
  pullImageSchema,
} from "../src/contract/schemas/image.ts";
import {
  eventSchema,
  healthSchema,
  jobBodySchema,
  jobDetailSchema,
  jobRecordSchema,
  policySchema,
  WAIT_RANGE_MS,
} from "../src/contract/schemas/job.ts";
import {
  registrySchema,
  removedRegistrySchema,
  setRegistrySchema,
  storedRegistrySchema,
} from "../src/contract/schemas/registry.ts";
import { releaseSchema, rollbackSchema, warmSchema } from "../src/contract/schemas/release.ts";
import {
  secretSchema,
  setSecretSchema,
  storedSecretSchema,
  unsetSecretSchema,
} from "../src/contract/schemas/secret.ts";
import { logLineSchema, workerSchema } from "../src/contract/schemas/worker.ts";

const ROOT = join(import.meta.dirname, "..");

/** Where the document lies. */
export const OPENAPI_PATH = join(ROOT, "docs/openapi.json");

type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json | undefined };
type JsonObject = { readonly [key: string]: Json | undefined };

const SCHEMAS = {
  Error: errorBodySchema,
  Status: statusSchema,
  EndpointConfig: endpointConfigSchema,
  Endpoint: endpointSchema,
  CreateEndpoint: createEndpointSchema,
  UpdateEndpoint: updateEndpointSchema,
  Release: releaseSchema,
  Rollback: rollbackSchema,
  Warm: warmSchema,
  Job: jobBodySchema,
  JobRecord: jobRecordSchema,
  JobDetail: jobDetailSchema,
  Health: healthSchema,
  Worker: workerSchema,
  LogLine: logLineSchema,
  Event: eventSchema,
  Key: keySchema,
  CreateKey: createKeySchema,
  CreatedKey: createdKeySchema,
  Registry: registrySchema,
  SetRegistry: setRegistrySchema,
  StoredRegistry: storedRegistrySchema,
  RemovedRegistry: removedRegistrySchema,
  Image: imageSchema,
  BuildImage: buildImageSchema,
  BuiltImage: builtImageSchema,
  PullImage: pullImageSchema,
  PulledImage: pulledImageSchema,
  PruneImages: pruneImagesSchema,
  Pruned: prunedSchema,
  Secret: secretSchema,
  SetSecret: setSecretSchema,
  StoredSecret: storedSecretSchema,
  UnsetSecret: unsetSecretSchema,
  RunRequest: z
    .looseObject({
      input: z.unknown().describe("what the handler gets as input"),
      webhook: z
        .string()
        .optional()
        .describe("http or https address that gets the job's body when it has ended"),
      policy: policySchema.optional(),
      s3Config: z.record(z.string(), z.unknown()).optional().describe("handed to the worker as it is"),
    })
    .describe("Further members are handed to the worker."),
  JobTicket: jobBodySchema.pick({ id: true, status: true }),
  Stream: z.object({
    status: jobBodySchema.shape.status.describe("final only once every chunk was handed out"),
    stream: z.array(z.object({ output: z.unknown() })),
  }),
  Purged: z.object({ removed: z.number().int(), status: z.literal("completed") }),
  Requests: z.object({ requests: z.array(jobBodySchema.omit({ input: true, output: true })) }),
  EndpointMetrics: z.object({ readyWorkers: z.array(z.string()), workers: healthSchema.shape.workers }),
  Deleted: z.object({ id: z.string(), name: z.string(), deleted: z.literal(true) }),
  Bundle: z.object({ digest: z.string() }),
  Ready: z.object({ status: z.literal("ok") }),
} as const;
type SchemaName = keyof typeof SCHEMAS;

/** What of a route is not in the route table. */
type Description = {
  readonly body?: SchemaName | { readonly type: string; readonly text: string };
  /** One schema, a list of it, or a stream of another type. */
  readonly reply:
    | SchemaName
    | { readonly list: SchemaName }
    | { readonly type: string; readonly of?: SchemaName; readonly text: string };
  readonly query?: readonly Parameter[];
  readonly headers?: readonly Parameter[];
};
type Parameter = { readonly name: string; readonly text: string; readonly schema?: JsonObject };

const WAIT: Parameter = {
  name: "wait",
  text: "ms that the request may be held; beyond the range it is clamped",
  schema: { type: "number", minimum: WAIT_RANGE_MS.min, maximum: WAIT_RANGE_MS.max },
};
const IDEMPOTENCY: Parameter = {
  name: "Idempotency-Key",
  text: "1 to 255 printable ASCII characters: a repeat with the same key and body gets the first job",
};
const LOG_QUERY: readonly Parameter[] = [
  { name: "follow", text: "1: goes on with new lines" },
  { name: "tail", text: "lines to begin with", schema: { type: "integer", minimum: 0 } },
  { name: "since", text: "ISO 8601, or ms since 1970" },
  { name: "until", text: "ISO 8601, or ms since 1970" },
  { name: "job", text: "lines of one job" },
  { name: "grep", text: "lines that hold this text" },
  { name: "level", text: "lines of this level" },
  { name: "source", text: "stdout, stderr or system" },
];
const LOG_LINES = { type: "application/x-ndjson", of: "LogLine", text: "One line of JSON each" } as const;

const JOBS: Record<JobRouteName, Description> = {
  run: { body: "RunRequest", reply: "JobTicket", headers: [IDEMPOTENCY] },
  runSync: { body: "RunRequest", reply: "Job", query: [WAIT], headers: [IDEMPOTENCY] },
  jobStatus: {
    reply: "Job",
    query: [
      { name: "ttl", text: "ms that the result is kept from now on", schema: { type: "number", minimum: 0 } },
    ],
  },
  jobStatusSync: { reply: "Job", query: [WAIT] },
  jobStreamRead: { reply: "Stream", query: [WAIT] },
  jobCancel: { reply: "JobTicket" },
  jobRetry: { reply: "JobTicket" },
  purgeQueue: { reply: "Purged" },
  health: { reply: "Health" },
  requests: { reply: "Requests" },
  endpointMetrics: { reply: "EndpointMetrics" },
};

const API: Record<ApiRouteName, Description> = {
  healthz: { reply: "Ready" },
  status: { reply: "Status" },
  listEndpoints: { reply: { list: "Endpoint" } },
  createEndpoint: { body: "CreateEndpoint", reply: "Endpoint" },
  getEndpoint: { reply: "Endpoint" },
  updateEndpoint: { body: "UpdateEndpoint", reply: "Endpoint" },
  deleteEndpoint: { reply: "Deleted" },
  listReleases: { reply: { list: "Release" } },
  getRelease: { reply: "Release" },
  rollbackEndpoint: { body: "Rollback", reply: "Endpoint" },
  pauseEndpoint: { reply: "Endpoint" },
  resumeEndpoint: { reply: "Endpoint" },
  warmEndpoint: { body: "Warm", reply: "Endpoint" },
  endpointLogs: { reply: LOG_LINES, query: [...LOG_QUERY, { name: "worker", text: "lines of one worker" }] },
  putBundle: {
    body: { type: "application/x-tar", text: "The folder; the path names its SHA-256 in hex" },
    reply: "Bundle",
  },
  hasBundle: { reply: "Bundle" },
  listJobs: {
    reply: { list: "JobRecord" },
    query: [
      { name: "endpoint", text: "id or name" },
      { name: "status", text: "states, separated by commas" },
      { name: "worker", text: "jobs that this worker holds or ended" },
      { name: "idPrefix", text: "beginning of an id" },
      { name: "limit", text: "jobs in one answer", schema: { type: "integer", minimum: 1 } },
      { name: "before", text: "the seq of the job to page on from", schema: { type: "integer", minimum: 1 } },
    ],
  },
  getJob: { reply: "JobDetail" },
  listWorkers: {
    reply: { list: "Worker" },
    query: [
      { name: "endpoint", text: "id or name" },
      { name: "all", text: "present: workers that are gone too" },
    ],
  },
  getWorker: { reply: "Worker" },
  workerLogs: { reply: LOG_LINES, query: LOG_QUERY },
  stopWorker: { reply: "Worker" },
  drainWorker: { reply: "Worker" },
  listKeys: { reply: { list: "Key" } },
  createKey: { body: "CreateKey", reply: "CreatedKey" },
  revokeKey: { reply: "Key" },
  listRegistries: { reply: { list: "Registry" } },
  setRegistry: { body: "SetRegistry", reply: "StoredRegistry" },
  removeRegistry: {
    reply: "RemovedRegistry",
    query: [{ name: "force", text: "1: also one that an endpoint uses" }],
  },
  listImages: { reply: { list: "Image" } },
  buildImage: { body: "BuildImage", reply: "BuiltImage" },
  pullImage: { body: "PullImage", reply: "PulledImage" },
  pruneImages: { body: "PruneImages", reply: "Pruned" },
  listSecrets: { reply: { list: "Secret" } },
  setSecret: { body: "SetSecret", reply: "StoredSecret" },
  unsetSecret: {
    reply: "UnsetSecret",
    query: [
      { name: "force", text: "1: also one that an endpoint uses" },
      { name: "owner", text: "whose it is; only an admin may name another than the key's own" },
    ],
  },
  events: {
    reply: { type: "text/event-stream", of: "Event", text: "Events; each data is one" },
    query: [{ name: "after", text: "the number to go on from", schema: { type: "integer", minimum: 0 } }],
    headers: [{ name: "Last-Event-ID", text: "as `after`" }],
  },
};

const RAW_JOBS = {
  type: "application/json",
  text: "A job, or a list of jobs; 204 when there is none",
} as const;
const ANY_JSON = { type: "application/json", text: "Ignored by workers" } as const;
const POST = { type: "application/json", text: "JSON, whatever the content type says" } as const;

const WORKER: Record<WorkerRouteName, Description> = {
  jobTake: { reply: RAW_JOBS, query: [{ name: "job_in_progress", text: "0: the worker holds no job" }] },
  jobTakeBatch: {
    reply: RAW_JOBS,
    query: [
      { name: "batch_size", text: "most jobs wanted", schema: { type: "integer", minimum: 1 } },
      { name: "job_in_progress", text: "0: the worker holds no job" },
    ],
  },
  jobDone: { body: POST, reply: ANY_JSON },
  jobStream: { body: POST, reply: ANY_JSON },
  jobStop: { reply: { type: "application/json", text: "The ids of jobs to stop; 204 when there is none" } },
  ping: { reply: ANY_JSON },
};

const ACCESS_TEXT: Record<Access, string> = {
  open: "No key.",
  read: "A key of scope read or more.",
  run: "A key of scope run or more.",
  deploy: "A key of scope deploy or more.",
  admin: "A key of scope admin.",
  worker: "The token of the worker in the path; on the worker listener only.",
};

/** The document as it is written to the file. */
export function openApiText(): string {
  return `${JSON.stringify(openApiDocument(), null, 2)}\n`;
}

function openApiDocument(): JsonObject {
  const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { version: string };
  const paths: Record<string, Record<string, JsonObject>> = {};
  addRoutes(paths, "jobs", JOB_ROUTES, JOBS);
  addRoutes(paths, "api", API_ROUTES, API);
  addRoutes(paths, "worker protocol", WORKER_ROUTES, WORKER);
  return {
    openapi: "3.1.0",
    info: {
      title: "rpx",
      version,
      description:
        "Job operations as RunPod's, the native API, and the worker protocol, which a listener of its own serves. {endpoint} is an id or a name.",
    },
    servers: [{ url: "http://127.0.0.1:7790" }],
    security: [{ key: [] }],
    paths,
    components: {
      securitySchemes: {
        key: {
          type: "http",
          scheme: "bearer",
          description: "The bare key in Authorization is accepted too.",
        },
      },
      responses: {
        Failure: { description: "What happened, why, and what next", content: jsonContent("Error") },
      },
      schemas: Object.fromEntries(
        Object.entries(SCHEMAS).map(([name, schema]) => [name, jsonSchema(schema)]),
      ),
    },
  };
}

/** As "input": what a reader may count on. The other view would promise that no member is ever added. */
function jsonSchema(schema: z.ZodType): JsonObject {
  const { $schema: _draft, $defs: _anyJson, ...rest } = z.toJSONSchema(schema, { io: "input" });
  return JSON.parse(JSON.stringify(rest), (_key, value) => (isAnyJson(value) ? {} : value));
}

/** What zod says of z.json(), the one schema of ours that refers to itself: any value will do. */
function isAnyJson(value: unknown): boolean {
  const reference = (value as { readonly $ref?: unknown } | null)?.$ref;
  return typeof reference === "string" && reference.startsWith("#/$defs/");
}

function addRoutes<Name extends string>(
  paths: Record<string, Record<string, JsonObject>>,
  tag: string,
  routes: Readonly<Record<Name, Route>>,
  descriptions: Readonly<Record<Name, Description>>,
): void {
  for (const [name, route] of Object.entries<Route>(routes)) {
    const path = route.path.replace(/:([a-z]+)/g, "{$1}");
    const item = paths[path] ?? {};
    paths[path] = item;
    for (const method of route.methods) {
      const operation = describe(route, descriptions[name as Name], { tag, name, method });
      item[method.toLowerCase()] = operation;
    }
  }
}

function describe(
  route: Route,
  description: Description,
  { tag, name, method }: { readonly tag: string; readonly name: string; readonly method: Method },
): JsonObject {
  const { access, summary, path, methods, bodyLimit } = route;
  const isFirst = methods[0] === method;
  const names = [...path.matchAll(/:([a-z]+)/g)].map((match) => match[1] ?? "");
  const parameters = [
    ...names.map((parameter) => ({
      name: parameter,
      in: "path",
      required: true,
      schema: { type: "string" },
    })),
    ...(description.query ?? []).map((one) => parameterOf("query", one)),
    ...(description.headers ?? []).map((one) => parameterOf("header", one)),
  ];
  return {
    operationId: isFirst ? name : `${name}${method}`,
    tags: [tag],
    summary,
    description: ACCESS_TEXT[access],
    ...(access === "open" ? { security: [] } : {}),
    ...(parameters.length > 0 ? { parameters } : {}),
    ...(description.body && bodyLimit !== undefined
      ? { requestBody: bodyOf(description.body, bodyLimit) }
      : {}),
    responses: { "200": replyOf(description.reply), default: { $ref: "#/components/responses/Failure" } },
  };
}

function parameterOf(place: "query" | "header", { name, text, schema }: Parameter): JsonObject {
  return { name, in: place, description: text, schema: schema ?? { type: "string" } };
}

function bodyOf(body: NonNullable<Description["body"]>, limitBytes: number): JsonObject {
  const limit = `At most ${limitBytes / 1_000_000} MB.`;
  if (typeof body === "string") return { required: true, description: limit, content: jsonContent(body) };
  return { required: true, description: `${body.text}. ${limit}`, content: { [body.type]: {} } };
}

function replyOf(reply: Description["reply"]): JsonObject {
  if (typeof reply === "string") return { description: "Done", content: jsonContent(reply) };
  if ("list" in reply) {
    const schema = { type: "array", items: { $ref: `#/components/schemas/${reply.list}` } };
    return {
      description: "Newest first where time orders them",
      content: { "application/json": { schema } },
    };
  }
  const content = reply.of === undefined ? {} : { schema: { $ref: `#/components/schemas/${reply.of}` } };
  return { description: reply.text, content: { [reply.type]: content } };
}

function jsonContent(name: SchemaName): JsonObject {
  return { "application/json": { schema: { $ref: `#/components/schemas/${name}` } } };
}

if (import.meta.main) writeFileSync(OPENAPI_PATH, openApiText());
