import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { performance } from "node:perf_hooks";
import { setTimeout as pause } from "node:timers/promises";

/** The worker-side routes of RunPod's worker protocol. */
export type WorkerRoute = "job-take" | "job-take-batch" | "job-done" | "job-stream" | "job-stop" | "ping";

/** What the next requests of a route meet: a status, or a connection that is reset before or after the body was read. */
export type Fault = number | "reset-before" | "reset-after";

/** One request as it came. `body` is the raw text: workers send Python's JSON, which may hold NaN and big integers. */
export interface SeenRequest {
  readonly route: WorkerRoute;
  readonly worker: string;
  readonly job: string | undefined;
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  /** The client's port: two requests with one port shared a connection. */
  readonly port: number;
  readonly atMs: number;
}

/** A job as handed out; `attempt` goes into X-Rpx-Attempts when the fast path is on. */
export interface MockJob {
  readonly id: string;
  readonly input: unknown;
  readonly [key: string]: unknown;
}

export interface MockJobServer {
  readonly origin: string;
  /** Everything seen, in order of arrival. */
  readonly seen: readonly SeenRequest[];
  /** Where a worker broke the protocol of RunPod's worker protocol. A test expects none. */
  readonly violations: readonly string[];
  /** The environment that makes an SDK serve this server. */
  env(): Record<string, string>;
  submit(...jobs: MockJob[]): void;
  setAttempt(jobId: string, attempt: number): void;
  /** Sends the ids to the worker's stop channel. */
  stop(...jobIds: string[]): void;
  /** Lets the next request of `route` meet each of `faults` in turn. */
  failNext(route: WorkerRoute, ...faults: Fault[]): void;
  /** The requests of one route, of one job when it is named. */
  of(route: WorkerRoute, jobId?: string): SeenRequest[];
  /** The first final post of a job; waits for it. */
  result(jobId: string): Promise<SeenRequest>;
  /** Waits until `condition` holds; looked at after every request. Fails after `limitMs`. */
  until(what: string, condition: () => boolean, limitMs?: number): Promise<void>;
  /** Answers the held polls with 204, as a draining platform does. */
  releasePolls(): void;
  close(): Promise<void>;
}

export interface MockJobServerOptions {
  /** Speak the fast path: X-Rpx-Fast, X-Rpx-Attempts, jobs in the reply to job-done. Default false. */
  readonly isFast?: boolean;
  /** How long polls are held before 204, in ms. Default 20 s. */
  readonly holdMs?: number;
  /** Answer every take with up to this many jobs, whatever was asked for. */
  readonly prefetch?: number;
}

const KEY = "rpx-test-key";
const WORKER = "w-test";
const ENDPOINT = "ep-test";
const QUERY = "gpu=NVIDIA+H100";
const UNTIL_LIMIT_MS = 8_000;

interface HeldPoll {
  readonly wanted: number;
  readonly response: ServerResponse;
}

/** A job server for one worker on a loopback port, as strict as wire.md section 2, that records what it sees. */
export async function createMockJobServer(options: MockJobServerOptions = {}): Promise<MockJobServer> {
  const { isFast = false, holdMs = 20_000, prefetch = 0 } = options;
  const seen: SeenRequest[] = [];
  const violations: string[] = [];
  const queue: MockJob[] = [];
  const attempts = new Map<string, number>();
  const stops: string[] = [];
  const heldTakes = new Set<HeldPoll>();
  const heldStops = new Set<ServerResponse>();
  const faults = new Map<WorkerRoute, Fault[]>();
  const watchers = new Set<() => void>();

  const server = createServer((request, response) => {
    void serve(request, response).catch(() => response.destroy());
  });
  server.keepAliveTimeout = 60_000;
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  function noteViolations(request: SeenRequest, method: string): void {
    const say = (text: string): number => violations.push(`${request.route}: ${text}`);
    const isPost = request.route === "job-done" || request.route === "job-stream";
    if (method !== (isPost ? "POST" : "GET")) say(`method ${method}`);
    if (request.headers.authorization !== KEY) say(`Authorization ${request.headers.authorization}`);
    if (request.worker !== WORKER) say(`worker ${request.worker}`);
    if (request.query.get("gpu") !== "NVIDIA H100") say("the URL's own query was lost");
    if (isPost) noteBadPost(request, say);
    if (request.route.startsWith("job-take")) noteBadTake(request, say);
    if (request.route === "ping" && !request.query.get("runpod_version")) say("no runpod_version");
  }

  function noteBadPost(request: SeenRequest, say: (text: string) => number): void {
    if (request.headers["content-type"] !== "application/x-www-form-urlencoded") say("content type");
    if (request.headers.charset !== "utf-8") say("charset header");
    if (!/^(true|false)$/.test(request.query.get("isStream") ?? "")) say("isStream");
    if (request.job === undefined || request.job.includes("$")) say(`job ${request.job}`);
    if (request.route === "job-stream" && !request.body.startsWith('{"output"')) say("chunk body");
  }

  function noteBadTake(request: SeenRequest, say: (text: string) => number): void {
    if (!/^[01]$/.test(request.query.get("job_in_progress") ?? "")) say("job_in_progress");
    if (!/^(python|node)\/\d/.test(String(request.headers["x-rpx-worker"]))) say("X-Rpx-Worker");
    const size = Number(request.query.get("batch_size") ?? 1);
    if ((request.route === "job-take-batch") !== size > 1) say(`batch_size ${size}`);
  }

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", origin);
    const [, v2, endpoint, route, worker = "", job] = url.pathname.split("/");
    const known = /^(job-take|job-take-batch|job-done|job-stream|job-stop|ping)$/.test(route ?? "");
    if (v2 !== "v2" || endpoint !== ENDPOINT || !known) {
      violations.push(`unknown path ${url.pathname}`);
      response.writeHead(404).end();
      return;
    }
    const name = route as WorkerRoute;
    const fault = faults.get(name)?.shift();
    if (fault === "reset-before") return void request.socket.resetAndDestroy();
    const body = await readText(request);
    if (fault === "reset-after") return void request.socket.resetAndDestroy();
    if (fault !== undefined) return void response.writeHead(fault).end();
    const port = request.socket.remotePort ?? 0;
    const one = { route: name, worker, job, query: url.searchParams, headers: request.headers, body, port };
    const record: SeenRequest = { ...one, atMs: performance.now() };
    noteViolations(record, request.method ?? "");
    seen.push(record);
    answer(record, response);
    for (const watcher of watchers) watcher();
  }

  function answer(request: SeenRequest, response: ServerResponse): void {
    if (request.route.startsWith("job-take")) take(request, response);
    else if (request.route === "job-stop") holdStop(response);
    else answerPost(request, response);
  }

  function answerPost(request: SeenRequest, response: ServerResponse): void {
    const wanted = Number(request.headers["x-rpx-take"] ?? 0);
    if (isFast && request.route === "job-done" && wanted > 0 && queue.length > 0) {
      hand(response, wanted, true);
    } else {
      response.writeHead(200, { "Content-Type": "application/json" }).end("{}");
    }
  }

  function take(request: SeenRequest, response: ServerResponse): void {
    const wanted = Number(request.query.get("batch_size") ?? 1);
    const poll = { wanted, response };
    hold(heldTakes, poll, response);
    deal();
  }

  function hold<T>(held: Set<T>, poll: T, response: ServerResponse): void {
    held.add(poll);
    const timer = setTimeout(() => held.delete(poll) && response.writeHead(204).end(), holdMs);
    response.on("close", () => {
      clearTimeout(timer);
      held.delete(poll);
    });
  }

  function deal(): void {
    for (const poll of heldTakes) {
      if (queue.length === 0) return;
      heldTakes.delete(poll);
      hand(poll.response, Math.max(poll.wanted, prefetch), poll.wanted > 1 || prefetch > 0);
    }
  }

  function hand(response: ServerResponse, wanted: number, isArray: boolean): void {
    const jobs = queue.splice(0, wanted);
    const list = jobs.map((job) => attempts.get(job.id) ?? 1).join(",");
    const headers = isFast ? { "X-Rpx-Fast": "1", "X-Rpx-Attempts": list } : {};
    const body = JSON.stringify(isArray ? jobs : jobs[0]);
    response.writeHead(200, { "Content-Type": "application/json", ...headers }).end(body);
  }

  function holdStop(response: ServerResponse): void {
    hold(heldStops, response, response);
    dealStops();
  }

  function dealStops(): void {
    for (const response of heldStops) {
      if (stops.length === 0) return;
      heldStops.delete(response);
      const body = JSON.stringify({ jobsToStop: stops.splice(0) });
      response.writeHead(200, { "Content-Type": "application/json" }).end(body);
    }
  }

  function of(route: WorkerRoute, jobId?: string): SeenRequest[] {
    return seen.filter(
      (request) => request.route === route && (jobId === undefined || request.job === jobId),
    );
  }

  function finalPost(jobId: string): SeenRequest | undefined {
    return of("job-done", jobId).find(
      (request) =>
        !request.body.includes('"status": "IN_PROGRESS"') && !request.body.includes('"status":"IN_PROGRESS"'),
    );
  }

  async function until(what: string, condition: () => boolean, limitMs = UNTIL_LIMIT_MS): Promise<void> {
    const end = performance.now() + limitMs;
    while (!condition()) {
      if (performance.now() > end)
        throw new Error(`waited ${limitMs} ms for ${what}; seen: ${seen.map(line).join(" | ")}`);
      const woken = Promise.withResolvers<void>();
      watchers.add(woken.resolve);
      await Promise.race([woken.promise, pause(50)]);
      watchers.delete(woken.resolve);
    }
  }

  function releasePolls(): void {
    for (const response of [...[...heldTakes].map((poll) => poll.response), ...heldStops]) {
      response.writeHead(204).end();
    }
    heldTakes.clear();
    heldStops.clear();
  }

  return {
    origin,
    seen,
    violations,
    env: () => workerEnv(origin),
    submit(...jobs) {
      queue.push(...jobs);
      deal();
    },
    setAttempt: (jobId, attempt) => void attempts.set(jobId, attempt),
    stop(...jobIds) {
      stops.push(...jobIds);
      dealStops();
    },
    failNext: (route, ...list) => void faults.set(route, [...(faults.get(route) ?? []), ...list]),
    of,
    async result(jobId) {
      await until(`the result of ${jobId}`, () => finalPost(jobId) !== undefined);
      const post = finalPost(jobId);
      if (post === undefined) throw new Error("unreachable");
      return post;
    },
    until,
    releasePolls,
    async close() {
      if (!server.listening) return;
      server.close();
      server.closeAllConnections();
      await once(server, "close");
    },
  };
}

function line(request: SeenRequest): string {
  return `${request.route} ${request.job ?? ""} ${request.body.slice(0, 80)}`;
}

function workerEnv(origin: string): Record<string, string> {
  const base = `${origin}/v2/${ENDPOINT}`;
  return {
    RUNPOD_WEBHOOK_GET_JOB: `${base}/job-take/$ID?${QUERY}`,
    RUNPOD_WEBHOOK_POST_OUTPUT: `${base}/job-done/$RUNPOD_POD_ID/$ID?${QUERY}`,
    RUNPOD_WEBHOOK_POST_STREAM: `${base}/job-stream/$RUNPOD_POD_ID/$ID?${QUERY}`,
    RUNPOD_WEBHOOK_PING: `${base}/ping/$RUNPOD_POD_ID?${QUERY}`,
    RUNPOD_PING_INTERVAL: "200",
    RUNPOD_AI_API_KEY: KEY,
    RUNPOD_POD_ID: WORKER,
    RUNPOD_ENDPOINT_ID: ENDPOINT,
  };
}

async function readText(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return Buffer.concat(parts).toString("utf8");
}
