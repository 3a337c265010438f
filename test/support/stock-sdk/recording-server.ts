/**
 * A job server and client API for the real RunPod SDKs to talk to: it writes down every request and answers only as the
 * scenario tells it to. No queue rules live here; what it hands out and when is the scenario's business.
 */
import { EventEmitter, once } from "node:events";
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { WorkerChannel } from "./recording.ts";

/** How long a scenario waits for a request that should come. A worker's start takes seconds on a busy machine. */
const REQUEST_LIMIT_MS = 30_000;

/** Told by a client script through `STEP_URL`, to say which call the next requests belong to. */
const STEP_PATH = "/recording-step";

export interface SeenRequest {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  /** Undefined for a request of the client API. */
  readonly channel: WorkerChannel | undefined;
  /** The step a client script was in; undefined for a worker. */
  readonly step: string | undefined;
  readonly atMs: number;
}

export interface Answer {
  readonly status: number;
  /** Sent as JSON, or as it stands when it is a string. */
  readonly body?: unknown;
}

/** A request that waits for the scenario to answer it, as a long poll does. */
export interface HeldRequest {
  readonly seen: SeenRequest;
  answer(answer: Answer): void;
  /** Closes the connection with no answer. */
  reset(): void;
  readonly isOpen: () => boolean;
}

export interface RecordingServer {
  readonly origin: string;
  readonly stepUrl: string;
  readonly seen: readonly SeenRequest[];
  /** Every channel that is not in `held` is answered 200 at once, unless an answer was queued by `answerNext`. */
  answerNext(channel: WorkerChannel, ...answers: readonly (Answer | "reset")[]): void;
  /** The longest waiting request of a held channel (take, stop); waits for one. */
  nextHeld(channel: "take" | "stop"): Promise<HeldRequest>;
  /** Answers every held request 204, those to come included. */
  release(): void;
  /** Waits until what was seen satisfies `condition`; `what` names it in the failure. */
  until(what: string, condition: (seen: readonly SeenRequest[]) => boolean): Promise<void>;
  close(): Promise<void>;
}

export interface RecordingServerOptions {
  /** Answers the client API; without it such a request is a 404. */
  readonly client?: (request: SeenRequest) => Answer;
}

export async function startRecordingServer(options: RecordingServerOptions = {}): Promise<RecordingServer> {
  const seen: SeenRequest[] = [];
  const held: Record<"take" | "stop", HeldRequest[]> = { take: [], stop: [] };
  const queued = new Map<WorkerChannel, (Answer | "reset")[]>();
  const changes = new EventEmitter().setMaxListeners(0);
  let step: string | undefined;
  let isReleased = false;

  const receive = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const url = request.url ?? "/";
    if (url.startsWith(STEP_PATH)) {
      step = new URL(url, "http://localhost").searchParams.get("name") ?? undefined;
      send(response, { status: 200 });
      return;
    }
    const body = await readBody(request);
    const channel = channelOf(url);
    const noted: SeenRequest = {
      method: request.method ?? "",
      url,
      headers: request.headers,
      body,
      channel,
      step,
      atMs: performance.now(),
    };
    seen.push(noted);
    respond(noted, response);
    changes.emit("change");
  };

  const respond = (noted: SeenRequest, response: ServerResponse): void => {
    if (noted.channel === undefined) {
      send(response, options.client?.(noted) ?? { status: 404, body: { error: "no client API here" } });
      return;
    }
    const next = queued.get(noted.channel)?.shift();
    if (next === "reset") {
      response.destroy();
    } else if (next !== undefined) {
      send(response, next);
    } else if (noted.channel === "take" || noted.channel === "stop") {
      hold(noted.channel, noted, response);
    } else {
      send(response, { status: 200, body: {} });
    }
  };

  const hold = (channel: "take" | "stop", noted: SeenRequest, response: ServerResponse): void => {
    if (isReleased) {
      send(response, { status: 204 });
      return;
    }
    held[channel].push({
      seen: noted,
      answer: (answer) => send(response, answer),
      reset: () => response.destroy(),
      isOpen: () => !response.destroyed && !response.writableEnded,
    });
  };

  const until = async (what: string, condition: () => boolean): Promise<void> => {
    const signal = AbortSignal.timeout(REQUEST_LIMIT_MS);
    while (!condition()) {
      try {
        await once(changes, "change", { signal });
      } catch {
        const last = seen.slice(-5).map((request) => `${request.method} ${request.url}`);
        throw new Error(
          `waited ${REQUEST_LIMIT_MS} ms for ${what}; last seen: ${last.join(", ") || "nothing"}`,
        );
      }
    }
  };

  const server = createServer((request, response) => {
    receive(request, response).catch(() => response.destroy());
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

  return {
    origin,
    stepUrl: `${origin}${STEP_PATH}`,
    seen,
    answerNext: (channel, ...answers) => {
      queued.set(channel, [...(queued.get(channel) ?? []), ...answers]);
    },
    nextHeld: async (channel) => {
      await until(`a ${channel} request`, () => held[channel].length > 0);
      const [first, ...rest] = held[channel];
      held[channel] = rest;
      if (first === undefined) {
        throw new Error("a held request disappeared");
      }
      return first;
    },
    release: () => {
      isReleased = true;
      for (const request of [...held.take.splice(0), ...held.stop.splice(0)]) {
        request.answer({ status: 204 });
      }
    },
    until: (what, condition) => until(what, () => condition(seen)),
    close: async () => {
      server.close();
      server.closeAllConnections();
      await once(server, "close");
    },
  };
}

function channelOf(url: string): WorkerChannel | undefined {
  const operation = url.split("/")[3];
  switch (operation) {
    case "job-take":
    case "job-take-batch":
      return "take";
    case "job-done":
      return "done";
    case "job-stream":
      return "stream";
    case "job-stop":
      return "stop";
    case "ping":
      return "ping";
    default:
      return undefined;
  }
}

async function readBody(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of request) {
    parts.push(part as Buffer);
  }
  return Buffer.concat(parts).toString("utf8");
}

function send(response: ServerResponse, answer: Answer): void {
  if (answer.body === undefined) {
    response.writeHead(answer.status).end();
    return;
  }
  const text = typeof answer.body === "string" ? answer.body : JSON.stringify(answer.body);
  response.writeHead(answer.status, { "content-type": "application/json" }).end(text);
}
