import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Logger } from "pino";
import { RpxError } from "../../contract/error.ts";
import { VERSION_HEADER } from "../../contract/routes.ts";
import type { Clock } from "../ports/clock.ts";
import { announcesBody, discardBody } from "./raw-body.ts";
import { type Answer, contentHeaders, errorAnswer, type Headers, INTERNAL_ERROR } from "./reply.ts";

/** Most of an unread body that is read and dropped so that a refusal reaches a sender that reads only after sending. */
const DISCARD_LIMIT_BYTES = 64_000_000;

/** Most requests that one connection may have waiting behind one another; with more it is cut. */
const MAX_PIPELINED = 64;

/** What all exchanges of one server share. */
export type Frame = {
  readonly version: string;
  readonly log: Logger;
  readonly clock: Pick<Clock, "nowMs">;
  /** Requests whose handler runs or whose reply is on its way. */
  readonly open: Set<Exchange>;
  /** Set once the server drains: every further reply closes its connection. */
  draining: boolean;
  /** Called after each exchange has ended. Set by the host (http-host.ts). */
  ended: () => void;
};

export function createFrame(shared: Pick<Frame, "version" | "log" | "clock">): Frame {
  const { version, log, clock } = shared;
  return { version, log, clock, open: new Set(), draining: false, ended: () => {} };
}

/** One request and its reply. Mutable: it is the state of a connection, seen by this folder alone. */
export type Exchange = {
  readonly frame: Frame;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** The route's pattern, for the log: the path itself may hold anything. */
  readonly route: string;
  readonly startedAtMs: number;
  /** The sender waits for `100 Continue` before it sends its body. */
  awaitsContinue: boolean;
  /** False: the reply closes the connection. */
  keepAlive: boolean;
  /** Further headers of the reply, whatever it is. */
  headers: Headers;
  /** Gives back what was taken for the time of the request. */
  release: (() => void) | null;
  answer: Answer | null;
  /** What became of the reply. */
  fate: "open" | "sent" | "lost";
  handling: boolean;
  abort: AbortController | null;
};

/** Starts to follow a request. Its reply is followed by two events: `finish`, and `close` where that comes first. */
export function openExchange(
  frame: Frame,
  request: IncomingMessage,
  response: ServerResponse,
  route: string,
): Exchange {
  const exchange: Exchange = {
    frame,
    request,
    response,
    route,
    startedAtMs: frame.clock.nowMs(),
    awaitsContinue: request.headers.expect !== undefined,
    keepAlive: true,
    headers: {},
    release: null,
    answer: null,
    fate: "open",
    handling: true,
    abort: null,
  };
  frame.open.add(exchange);
  // Node emits "finish" also when a destroyed socket has dropped what was written.
  response.once("finish", () => settle(exchange, request.socket.destroyed ? "lost" : "sent"));
  response.once("close", () => settle(exchange, "lost"));
  if (response.socket === null) followSocket(exchange);
  return exchange;
}

/** A pipelined reply waits for its turn without a socket, and would not hear that the connection has ended. */
function followSocket(exchange: Exchange): void {
  const { socket } = exchange.request;
  const lost = (): void => settle(exchange, "lost");
  if (socket.listenerCount("close") >= MAX_PIPELINED) {
    socket.destroy();
    lost();
    return;
  }
  socket.setMaxListeners(2 * MAX_PIPELINED).once("close", lost);
  exchange.response.once("finish", () => socket.off("close", lost));
}

/** The signal of `Call.signal`; made when first asked for, as most handlers never do. */
export function signalOf(exchange: Exchange): AbortSignal {
  if (exchange.abort === null) {
    exchange.abort = new AbortController();
    if (exchange.fate === "lost") exchange.abort.abort();
  }
  return exchange.abort.signal;
}

/** Tells a sender that waits for it to send its body: called only once every check that needs no body has passed. */
export function askForBody(exchange: Exchange): void {
  if (!exchange.awaitsContinue) return;
  exchange.awaitsContinue = false;
  exchange.response.writeContinue();
}

function settle(exchange: Exchange, fate: "sent" | "lost"): void {
  if (exchange.fate !== "open") return;
  exchange.fate = fate;
  exchange.release?.();
  if (fate === "lost") exchange.abort?.abort();
  if (exchange.answer !== null) notify(exchange, exchange.answer, fate);
  endIfDone(exchange);
}

function notify({ frame }: Exchange, answer: Answer, fate: "sent" | "lost"): void {
  try {
    if (fate === "sent") answer.onSent?.();
    else answer.onUnsent?.();
  } catch (error) {
    frame.log.error({ err: error }, "reply callback failed");
  }
}

function endIfDone(exchange: Exchange): void {
  const { frame, request, response, route, startedAtMs } = exchange;
  if (exchange.fate === "open" || exchange.handling || !frame.open.delete(exchange)) return;
  if (frame.log.isLevelEnabled("debug")) {
    const status = exchange.fate === "sent" ? response.statusCode : null;
    frame.log.debug(
      { method: request.method, route, status, ms: frame.clock.nowMs() - startedAtMs },
      "request",
    );
  }
  frame.ended();
}

/** Answers the exchange with what `work` returns, or with the failure it throws. Never rejects. */
export async function answerWith(
  exchange: Exchange,
  work: (exchange: Exchange) => Promise<Answer>,
): Promise<void> {
  try {
    if (exchange.fate === "open") await deliver(exchange, await work(exchange));
  } catch (error) {
    await fail(exchange, error);
  } finally {
    exchange.handling = false;
    endIfDone(exchange);
  }
}

async function fail(exchange: Exchange, error: unknown): Promise<void> {
  const expected = error instanceof RpxError;
  const left = exchange.fate === "lost" && error instanceof Error && error.name === "AbortError";
  if (!expected && !left) {
    const { method } = exchange.request;
    exchange.frame.log.error({ err: error, method, route: exchange.route }, "request failed");
  }
  if (exchange.response.headersSent) {
    exchange.response.destroy(); // cut in the middle, the only way to tell the reader
    return;
  }
  const refused = exchange.answer; // by Node, such as a header it cannot write
  exchange.answer = null;
  if (refused !== null && exchange.fate === "open") notify(exchange, refused, "lost");
  await deliver(exchange, expected ? errorAnswer(error) : INTERNAL_ERROR);
}

/** Resolves when the answer is written, not when it has arrived: {@link settle} learns that. */
async function deliver(exchange: Exchange, answer: Answer): Promise<void> {
  const { request, response } = exchange;
  if (request.socket.destroyed || !request.socket.writable) settle(exchange, "lost");
  if (exchange.fate !== "open") return notify(exchange, answer, "lost");
  exchange.answer = answer;
  // What is left of a body would be read as the next request, or make the kernel reset the connection.
  const rest = announcesBody(request) && !request.complete;
  if (rest) exchange.keepAlive = false;
  response.writeHead(answer.status ?? 200, replyHeaders(exchange, answer));
  if (answer.kind === "stream") await stream(exchange, answer);
  else if (rest) await writeThenDiscard(exchange, answer);
  else if (answer.kind === "json") response.end(answer.text);
  else response.end();
}

function replyHeaders(exchange: Exchange, answer: Answer): Record<string, string | number> {
  const headers = contentHeaders(answer);
  headers[VERSION_HEADER] = exchange.frame.version;
  if (exchange.frame.draining || !exchange.keepAlive) headers.Connection = "close";
  return Object.assign(headers, exchange.headers, answer.headers);
}

/** Closing with unread bytes resets the connection, and a reset can overtake the reply: so the rest is read first. */
async function writeThenDiscard(exchange: Exchange, answer: Answer): Promise<void> {
  const { request, response } = exchange;
  if (answer.kind === "json") response.write(answer.text);
  else response.flushHeaders();
  if (!exchange.awaitsContinue) await discardBody(request, DISCARD_LIMIT_BYTES);
  response.end();
}

type Streamed = Extract<Answer, { kind: "stream" }>;

async function stream(exchange: Exchange, answer: Streamed): Promise<void> {
  const { response } = exchange;
  const closed = signalOf(exchange);
  response.flushHeaders();
  await answer.write({ write: (text) => writeChunk(response, text, closed), closed });
  response.end();
}

/** Waits while the peer reads slower than is written, so that at most one chunk beyond the buffer's mark is kept. */
async function writeChunk(response: ServerResponse, text: string, closed: AbortSignal): Promise<boolean> {
  if (closed.aborted) return false;
  if (text === "" || response.write(text)) return true;
  try {
    await once(response, "drain", { signal: closed });
    return true;
  } catch {
    return false;
  }
}
