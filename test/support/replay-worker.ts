/**
 * Says again what the real RunPod SDK said, so that a suite can meet its wire where the SDK's source is not at hand.
 *
 * The recordings are under test/fixtures/stock-sdk/recorded (written by test/support/stock-sdk/record.ts). A replay posts recorded
 * bodies, whatever the job's input; it follows the real loops (take, stop and ping beside each other, results one after another). In
 * one thing it is quicker: where the SDK sleeps out its second before it looks for room, a replay goes on once all its jobs have ended.
 */
import { once } from "node:events";
import { Agent, request as httpRequest, type IncomingMessage } from "node:http";
import { setTimeout as pause } from "node:timers/promises";
import {
  type ClientRecording,
  type RecordedRequest,
  readClientRecording,
  readWorkerRecording,
  replaceAll,
  type WorkerChannel,
  type WorkerRecording,
  type WorkerRequest,
} from "./stock-sdk/recording.ts";

/** What stands for the parts of a user agent that say only which machine it was. */
const AGENT_PARTS = new Map([
  ["<os>", "Linux 6.1; x86_64"],
  ["<python>", "3.11.2"],
]);
/** The SDK's own pause after a job-stop poll that named nothing. */
const STOP_POLL_PAUSE_MS = 1_000;
const TOO_MANY_REQUESTS_PAUSE_MS = 5_000;
/** After a take that failed. The SDK asks again at once; a test that waits for a daemon's restart should not spin. */
const FAILED_TAKE_PAUSE_MS = 50;
/** The SDK's own pause before it looks again whether it has room for a job. */
const FULL_QUEUE_PAUSE_MS = 1_000;
const PING_INTERVAL_MS = 10_000;
/** How often a client asks for a job's state, and how often at most. */
const POLL_PAUSE_MS = 100;
const POLLS_MAX = 300;

export interface ReplayOptions {
  /** Without a path: `http://127.0.0.1:PORT`. */
  readonly baseUrl: string;
  readonly key: string;
  readonly workerId: string;
  readonly endpointId: string;
  /** The SDK's version, such as "1.12.0". */
  readonly version: string;
  /** A handler of test/fixtures/stock-sdk/handlers. */
  readonly handlerName: string;
  /** Its abort is a SIGKILL: connections are closed and nothing more is said. */
  readonly signal: AbortSignal;
  /** Default 10 000, as the SDK's. */
  readonly pingIntervalMs?: number;
}

export interface Said {
  readonly channel: WorkerChannel;
  readonly method: string;
  readonly url: string;
  readonly body: string | undefined;
  /** 0 where the connection was refused or reset. */
  readonly status: number;
}

export interface ReplayedWorker {
  /** Every request with the status it met, in order of its answer. */
  readonly said: readonly Said[];
  /** As SIGTERM: takes no more, ends its jobs, leaves once its open polls are answered. */
  drain(): void;
  /** "drained" after `drain`, "left" by a handler that leaves after its job, "killed" by the signal. */
  readonly ended: Promise<"drained" | "left" | "killed">;
}

interface Reply {
  readonly status: number;
  readonly body: string;
  readonly contentType: string;
}

type Send = (request: RecordedRequest, values: ReadonlyMap<string, string>) => Promise<Reply>;

/** Starts a worker that says what `handlerName` said under the real SDK. It runs until it is drained, leaves, or is killed. */
export function replayWorker(options: ReplayOptions): ReplayedWorker {
  const recording = readWorkerRecording(`${options.version}-${options.handlerName}`);
  const said: Said[] = [];
  const agent = new Agent({ keepAlive: true });
  const drained = new AbortController();
  const fixed = new Map([
    ["<endpoint>", options.endpointId],
    ["<worker>", options.workerId],
    ["<key>", options.key],
    ["<handlers>", "/app"],
    ["<sdk>", "/sdk"],
  ]);

  const sendRecorded = async (request: WorkerRequest, ids: ReadonlyMap<string, string>): Promise<Reply> => {
    const filled = fill(request, new Map([...ids, ...fixed]));
    const reply = await exchange(options.baseUrl, filled, agent, options.signal);
    said.push({
      channel: request.channel,
      method: filled.method,
      url: filled.url,
      body: filled.body,
      status: reply.status,
    });
    return reply;
  };

  const jobs = createReplayedJobs(recording, sendRecorded);
  const isGoing = (): boolean => !drained.signal.aborted && !options.signal.aborted;

  const run = async (): Promise<"drained" | "left" | "killed"> => {
    const leave = (): void => {
      if (recording.ends === "itself") {
        drained.abort();
      }
    };
    const pings = pingLoop(recording, options, jobs, sendRecorded);
    try {
      await Promise.all([
        takeLoop(recording, jobs, sendRecorded, isGoing, leave),
        stopLoop(recording, jobs, sendRecorded, isGoing, drained.signal),
      ]);
      await jobs.allEnded();
    } catch (error) {
      if (!options.signal.aborted) {
        throw error;
      }
    } finally {
      jobs.end();
      pings.end();
      agent.destroy();
    }
    if (options.signal.aborted) {
      return "killed";
    }
    return recording.ends === "itself" ? "left" : "drained";
  };

  const ended = run();
  // Whoever does not wait for the end still must not meet an unhandled rejection; a waiter sees it all the same.
  ended.catch(() => undefined);
  return { said, drain: () => drained.abort(), ended };
}

interface ReplayedJobs {
  /** Starts to report a job that the server handed out. */
  start(id: string): Promise<void>;
  stop(id: string): void;
  /** Drops every job that waits to be stopped: the worker is gone. */
  end(): void;
  count(): number;
  runningIds(): readonly string[];
  /** The ids handed out so far, as the placeholders of the recording. */
  ids(): ReadonlyMap<string, string>;
  /** Waits until fewer than `limit` jobs run, looking when all have ended and, as the SDK, every second. */
  roomBelow(limit: number): Promise<void>;
  allEnded(): Promise<void>;
}

/** The recorded posts of job n go out for the n-th job handed out; after the last one recorded, the first comes again. */
function createReplayedJobs(recording: WorkerRecording, send: SendWorker): ReplayedJobs {
  const running = new Map<string, { ended: Promise<void>; stop: AbortController }>();
  const ids = new Map<string, string>();
  let handedOut = 0;

  const report = async (
    posts: readonly WorkerRequest[],
    placeholder: string,
    id: string,
    stop: AbortSignal,
  ) => {
    const mine = new Map([...ids, [placeholder, id]]);
    for (const post of posts) {
      if (stop.aborted) {
        return;
      }
      await send(post, mine);
    }
    if (posts.length === 0 && isStoppedJob(recording) && !stop.aborted) {
      await once(stop, "abort");
    }
  };

  const allEnded = async (): Promise<void> => {
    await Promise.all([...running.values()].map(({ ended }) => ended));
  };

  return {
    start: async (id) => {
      const placeholder = `<job-${(handedOut % recording.inputs.length) + 1}>`;
      handedOut += 1;
      ids.set(placeholder, id);
      const posts = recording.requests.filter(
        ({ channel, url }) => (channel === "done" || channel === "stream") && url.includes(placeholder),
      );
      const stop = new AbortController();
      const ended = report(posts, placeholder, id, stop.signal).finally(() => running.delete(id));
      running.set(id, { ended, stop });
      await ended;
    },
    stop: (id) => running.get(id)?.stop.abort(),
    end: () => {
      for (const { stop } of running.values()) {
        stop.abort();
      }
    },
    count: () => running.size,
    runningIds: () => [...running.keys()],
    ids: () => ids,
    roomBelow: async (limit) => {
      while (running.size >= limit) {
        await Promise.race([allEnded(), pause(FULL_QUEUE_PAUSE_MS)]);
      }
    },
    allEnded,
  };
}

type SendWorker = (request: WorkerRequest, ids: ReadonlyMap<string, string>) => Promise<Reply>;

/** A job that was recorded to its job-stop ran until then; one that could not report its result had ended. */
function isStoppedJob(recording: WorkerRecording): boolean {
  return recording.requests.filter(({ channel }) => channel === "stop").length > 1;
}

async function takeLoop(
  recording: WorkerRecording,
  jobs: ReplayedJobs,
  send: SendWorker,
  isGoing: () => boolean,
  onJobEnd: () => void,
): Promise<void> {
  const takes = recording.requests.filter(({ channel }) => channel === "take");
  const limit = Math.max(1, ...takes.map(({ url }) => Number(queryOf(url).get("batch_size") ?? "1")));
  const failures: unknown[] = [];
  for (let index = 0; isGoing() && failures.length === 0; index++) {
    const recorded = takes[Math.min(index, takes.length - 1)];
    if (recorded === undefined) {
      throw new Error(`the recording of ${recording.handler} takes no job`);
    }
    const take = { ...recorded, url: takeUrl(recorded.url, limit - jobs.count(), jobs.count() > 0) };
    const reply = await send(take, jobs.ids());
    if (reply.status !== 200 && reply.status !== 204) {
      await pause(reply.status === 429 ? TOO_MANY_REQUESTS_PAUSE_MS : FAILED_TAKE_PAUSE_MS);
    }
    for (const id of jobIdsOf(reply)) {
      jobs
        .start(id)
        .then(onJobEnd)
        .catch((error) => failures.push(error));
    }
    await jobs.roomBelow(limit);
  }
  if (failures.length > 0) {
    throw failures[0];
  }
}

/** The take as the SDK would say it now: one job by job-take, more by job-take-batch. */
function takeUrl(recorded: string, room: number, isBusy: boolean): string {
  const single = recorded.replace("/job-take-batch/", "/job-take/").replace(/&batch_size=\d+/, "");
  const said = single.replace(/&job_in_progress=[01]/, `&job_in_progress=${isBusy ? 1 : 0}`);
  if (room <= 1) {
    return said;
  }
  return said
    .replace("/job-take/", "/job-take-batch/")
    .replace("&job_in_progress=", `&batch_size=${room}&job_in_progress=`);
}

function jobIdsOf(reply: Reply): string[] {
  if (reply.status !== 200 || reply.contentType !== "application/json" || reply.body === "") {
    return [];
  }
  const parsed = JSON.parse(reply.body) as { id: string } | { id: string }[];
  return (Array.isArray(parsed) ? parsed : [parsed]).map(({ id }) => id);
}

async function stopLoop(
  recording: WorkerRecording,
  jobs: ReplayedJobs,
  send: SendWorker,
  isGoing: () => boolean,
  drained: AbortSignal,
): Promise<void> {
  const poll = recording.requests.find(({ channel }) => channel === "stop");
  while (poll !== undefined && isGoing()) {
    const reply = await send(poll, jobs.ids());
    const ids =
      reply.status === 200 && reply.body !== "" ? (JSON.parse(reply.body) as { jobsToStop?: string[] }) : {};
    for (const id of ids.jobsToStop ?? []) {
      jobs.stop(id);
    }
    if ((ids.jobsToStop ?? []).length === 0 && isGoing()) {
      await pause(reply.status === 429 ? TOO_MANY_REQUESTS_PAUSE_MS : STOP_POLL_PAUSE_MS, undefined, {
        signal: drained,
      }).catch(() => undefined);
    }
  }
}

/** Pings beside the loops, as the SDK's own process does; a failed one is nobody's business. */
function pingLoop(
  recording: WorkerRecording,
  options: ReplayOptions,
  jobs: ReplayedJobs,
  send: SendWorker,
): { end(): void } {
  const ping = recording.requests.find(({ channel }) => channel === "ping");
  if (ping === undefined) {
    return { end: () => undefined };
  }
  const say = (): void => {
    const running = jobs.runningIds().map(encodeURIComponent).join("%2C");
    const without = ping.url.replace(/&job_id=[^&]*/, "");
    const url =
      running === "" ? without : without.replace("&runpod_version=", `&job_id=${running}&runpod_version=`);
    send({ ...ping, url }, jobs.ids()).catch(() => undefined);
  };
  say();
  const timer = setInterval(say, options.pingIntervalMs ?? PING_INTERVAL_MS);
  const end = (): void => clearInterval(timer);
  options.signal.addEventListener("abort", end, { once: true });
  return { end };
}

export interface ReplayClientOptions {
  /** Without a path: `http://127.0.0.1:PORT`. */
  readonly baseUrl: string;
  readonly key: string;
  readonly endpointId: string;
  /** "sync" and "asyncio" are the Python SDK's, "js" is npm's runpod-sdk. */
  readonly client: "sync" | "asyncio" | "js";
  /** The client's version, such as "1.12.0". */
  readonly version: string;
  /** Leaves out all other steps but `run`, whose job the others may need. */
  readonly steps?: readonly string[];
  readonly signal?: AbortSignal;
}

export interface ClientReply {
  readonly step: string;
  readonly method: string;
  /** With real ids. */
  readonly url: string;
  readonly status: number;
  /** Raw text of the answer. */
  readonly body: string;
}

/**
 * Says what a real client said, step by step, and gives every answer. `<job-n>` is the id that the n-th submission really got. Where the
 * client asked again and again (status, status-sync, stream) or waited for the output, so does the replay, until the job's state is final and its stream empty.
 */
export async function replayClient(options: ReplayClientOptions): Promise<ClientReply[]> {
  const recording: ClientRecording = readClientRecording(`client-${options.client}-${options.version}`);
  const agent = new Agent({ keepAlive: true });
  const signal = options.signal ?? new AbortController().signal;
  const ids = new Map<string, string>();
  const replies: ClientReply[] = [];
  let submissions = 0;

  const sendOnce = async (step: string, request: RecordedRequest): Promise<Reply> => {
    const fixed = new Map([...ids, ["<endpoint>", options.endpointId], ["<key>", options.key]]);
    const filled = fill(request, fixed);
    const reply = await exchange(options.baseUrl, filled, agent, signal);
    replies.push({ step, method: filled.method, url: filled.url, status: reply.status, body: reply.body });
    return reply;
  };

  try {
    for (const { step, requests } of recording.steps) {
      if (options.steps !== undefined && !options.steps.includes(step) && step !== "run") {
        submissions += requests.filter(isSubmission).length;
        continue;
      }
      for (const [request, times] of runs(requests)) {
        const send: Send = (said) => sendOnce(step, said);
        const reply =
          times > 1 || step === "output" ? await untilFinal(send, request) : await send(request, ids);
        if (isSubmission(request)) {
          submissions += 1;
          ids.set(`<job-${submissions}>`, idOf(reply));
        }
      }
    }
    return replies;
  } finally {
    agent.destroy();
  }
}

function isSubmission(request: RecordedRequest): boolean {
  return /\/(run|runsync)(\?|$)/.test(request.url);
}

function idOf(reply: Reply): string {
  if (reply.status !== 200) {
    throw new Error(`a submission met ${reply.status}: ${reply.body}`);
  }
  return (JSON.parse(reply.body) as { id: string }).id;
}

/** Requests with how often each was said in a row: more than once means the client was polling. */
function runs(requests: readonly RecordedRequest[]): [RecordedRequest, number][] {
  const result: [RecordedRequest, number][] = [];
  for (const request of requests) {
    const last = result.at(-1);
    if (last !== undefined && last[0].url === request.url && last[0].method === request.method) {
      last[1] += 1;
    } else {
      result.push([request, 1]);
    }
  }
  return result;
}

const FINAL = ["COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"];

async function untilFinal(send: Send, request: RecordedRequest): Promise<Reply> {
  for (let polls = 0; polls < POLLS_MAX; polls++) {
    const reply = await send(request, new Map());
    if (reply.status !== 200) {
      return reply;
    }
    const body = JSON.parse(reply.body) as { status: string; stream?: unknown[] };
    if (FINAL.includes(body.status) && (body.stream ?? []).length === 0) {
      return reply;
    }
    await pause(POLL_PAUSE_MS);
  }
  throw new Error(`${request.url} was not final after ${POLLS_MAX} polls`);
}

function fill(request: RecordedRequest, values: ReadonlyMap<string, string>): RecordedRequest {
  const all = new Map([...values, ...AGENT_PARTS]);
  const headers = Object.fromEntries(
    Object.entries(request.headers).map(([name, value]) => [name, replaceAll(value, all)]),
  );
  const filled = { method: request.method, url: replaceAll(request.url, all), headers };
  return request.body === undefined ? filled : { ...filled, body: replaceAll(request.body, all) };
}

/** One request with exactly the recorded headers. A refused or reset connection is status 0: the SDK drops the result and goes on. */
async function exchange(
  baseUrl: string,
  recorded: RecordedRequest,
  agent: Agent,
  signal: AbortSignal,
): Promise<Reply> {
  const headers: Record<string, string> = { ...recorded.headers };
  if (recorded.body !== undefined) {
    headers["content-length"] = String(Buffer.byteLength(recorded.body));
  }
  const request = httpRequest(new URL(baseUrl + recorded.url), {
    method: recorded.method,
    headers,
    agent,
    signal,
  });
  request.end(recorded.body);
  try {
    const [response] = (await once(request, "response")) as [IncomingMessage];
    const parts: Buffer[] = [];
    for await (const part of response) {
      parts.push(part as Buffer);
    }
    const contentType = (response.headers["content-type"] ?? "").split(";")[0] ?? "";
    return { status: response.statusCode ?? 0, body: Buffer.concat(parts).toString("utf8"), contentType };
  } catch (error) {
    if (signal.aborted) {
      throw error;
    }
    return { status: 0, body: "", contentType: "" };
  }
}

function queryOf(url: string): URLSearchParams {
  return new URL(url, "http://localhost").searchParams;
}
