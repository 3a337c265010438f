/** Puts the real clients through every call they have and writes down what they said. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createRequire } from "node:module";
import { join } from "node:path";
import { walkThroughJsClient } from "./js-client.ts";
import { type ClientRecording, type ClientStep, recordedFrom } from "./recording.ts";
import { type Answer, type SeenRequest, startRecordingServer } from "./recording-server.ts";
import type { StockSdk } from "./stock-sdk.ts";

const CLIENT_SCRIPTS = join(import.meta.dirname, "../../fixtures/stock-sdk/clients");
const ENDPOINT = "endpoint-of-recording";
const KEY = "key-of-recording";

/** `runpod.Endpoint`, `runpod.AsyncioEndpoint`, and npm's runpod-sdk. */
export const CLIENTS = ["sync", "asyncio", "js"] as const;
export type ClientName = (typeof CLIENTS)[number];

export interface StockClientOptions {
  readonly sdk: StockSdk;
  readonly client: "sync" | "asyncio";
  /** Ends in `/v2`. */
  readonly baseUrl: string;
  readonly key: string;
  readonly endpointId: string;
  readonly stepUrl?: string;
}

/** What one call of the client gave back. */
export interface ClientAnswer {
  readonly step: string;
  readonly answer: unknown;
}

/** Runs one of the Python clients through all its calls; fails when it does. */
export async function runStockClient(options: StockClientOptions): Promise<ClientAnswer[]> {
  const script = join(CLIENT_SCRIPTS, `${options.client}_client.py`);
  const child = spawn(options.sdk.python, [script, options.endpointId], {
    env: {
      PATH: process.env.PATH ?? "",
      ...options.sdk.env,
      RUNPOD_ENDPOINT_BASE_URL: options.baseUrl,
      RUNPOD_KEY: options.key,
      ...(options.stepUrl === undefined ? {} : { STEP_URL: options.stepUrl }),
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const texts = { out: "", err: "" };
  child.stdout.setEncoding("utf8").on("data", (part: string) => {
    texts.out += part;
  });
  child.stderr.setEncoding("utf8").on("data", (part: string) => {
    texts.err += part;
  });
  const [code] = (await once(child, "close")) as [number | null];
  if (code !== 0) {
    throw new Error(`the ${options.client} client ended with ${code}\n${texts.out}${texts.err}`);
  }
  return texts.out
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as ClientAnswer);
}

/** Records one client against answers that walk a job through its states. The Python SDK is needed for the Python ones only. */
export async function recordClient(client: ClientName, sdk?: StockSdk): Promise<ClientRecording> {
  const server = await startRecordingServer({ client: createClientApi() });
  const target = { baseUrl: `${server.origin}/v2`, key: KEY, endpointId: ENDPOINT, stepUrl: server.stepUrl };
  try {
    if (client === "js") {
      await walkThroughJsClient(target);
    } else if (sdk !== undefined) {
      await runStockClient({ ...target, client, sdk });
    } else {
      throw new Error(`the ${client} client needs the Python SDK`);
    }
    const version = client === "js" ? jsSdkVersion() : (sdk?.version ?? "");
    return { sdk: version, client, steps: stepsOf(server.seen) };
  } finally {
    await server.close();
  }
}

function jsSdkVersion(): string {
  const main = createRequire(import.meta.url).resolve("runpod-sdk");
  return (createRequire(main)("../../package.json") as { version: string }).version;
}

function stepsOf(seen: readonly SeenRequest[]): ClientStep[] {
  const placeholders = new Map([
    [ENDPOINT, "<endpoint>"],
    [KEY, "<key>"],
  ]);
  for (let index = 1; index < 99; index++) {
    placeholders.set(jobId(index), `<job-${index}>`);
  }
  const steps = Map.groupBy(seen, (request) => request.step ?? "");
  return [...steps].map(([step, requests]) => ({
    step,
    requests: requests.map((request) => recordedFrom(request, placeholders)),
  }));
}

function jobId(index: number): string {
  return `job-of-recording-${index}-u1`;
}

/** Answers as RunPod's job API does. Each job is in progress at its first look and completed from its second on. */
export function createClientApi(): (request: SeenRequest) => Answer {
  const looks = new Map<string, number>();
  let jobs = 0;

  const submit = (): string => {
    jobs += 1;
    return jobId(jobs);
  };
  const isDone = (id: string): boolean => {
    const seen = (looks.get(id) ?? 0) + 1;
    looks.set(id, seen);
    return seen > 1;
  };

  return (request) => {
    const url = new URL(request.url, "http://localhost");
    const [, , , operation = "", id = ""] = url.pathname.split("/");
    switch (operation) {
      case "run":
        return { status: 200, body: { id: submit(), status: "IN_QUEUE" } };
      case "runsync":
        return { status: 200, body: syncBody(submit(), request.body) };
      case "status":
      case "status-sync":
        return { status: 200, body: isDone(id) ? completed(id) : inProgress(id) };
      case "stream":
        return { status: 200, body: chunks(looks, id) };
      case "cancel":
        return { status: 200, body: { id, status: "CANCELLED" } };
      case "health":
        return { status: 200, body: HEALTH };
      case "purge-queue":
        return { status: 200, body: { removed: 2, status: "completed" } };
      default:
        return { status: 404, body: { error: `nothing at ${url.pathname}` } };
    }
  };
}

const HEALTH = {
  jobs: { completed: 1, failed: 0, inProgress: 0, inQueue: 0, retried: 0 },
  workers: { idle: 1, initializing: 0, ready: 1, running: 0, throttled: 0, unhealthy: 0 },
};

function completed(id: string): Record<string, unknown> {
  return { ...inProgress(id), status: "COMPLETED", executionTime: 7, output: { done: true } };
}

function inProgress(id: string): Record<string, unknown> {
  return { id, status: "IN_PROGRESS", delayTime: 12, workerId: "worker-1" };
}

/** A job whose input is named "pending" is answered before its end, as when `wait` has passed. */
function syncBody(id: string, body: string): Record<string, unknown> {
  return body.includes("pending") ? inProgress(id) : completed(id);
}

/** One chunk, then the last one, then the end: the order that every client reads to its end. */
function chunks(looks: Map<string, number>, id: string): Record<string, unknown> {
  const look = (looks.get(id) ?? 0) + 1;
  looks.set(id, look);
  switch (look) {
    case 1:
      return { status: "IN_PROGRESS", stream: [{ output: "first" }] };
    case 2:
      return { status: "COMPLETED", stream: [{ output: "last" }] };
    default:
      return { status: "COMPLETED", stream: [] };
  }
}
