import { PassThrough, type Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import got, { type Request, TimeoutError } from "got";
import { RpxError } from "../contract/error.ts";
import { kindOf, type Outcome, pauseBeforeRepeat } from "./repeat.ts";
import { type Call, DEFAULT_SILENCE_MS, openBody, type Reply, type Send } from "./send.ts";
import { callHeaders, callUrl, explain, type HttpTarget, silent } from "./send-http.ts";

/** Longest times in ms to look up a name, to connect, and to agree on keys: a daemon is near, or at least on a network that works. */
const LOOKUP_MS = 5_000;
const CONNECT_MS = 5_000;
const SECURE_CONNECT_MS = 10_000;

/** Phases in which time can run out before there is a connection. */
const CONNECTING: readonly string[] = ["lookup", "connect", "secureConnect"];

/** Why a call is repeated, in words, and after how many ms. */
export type Repeat = { readonly reason: string; readonly pauseMs: number };

export type GotSendOptions = {
  /** Told before each pause. */
  readonly onRepeat?: (repeat: Repeat) => void;
  /** From 0 to below 1. */
  readonly random?: () => number;
  /** Whether a refused connection is final: true where nothing says that there is a daemon at all. */
  readonly isRefusalFinal?: boolean;
};

/**
 * Sends over got, for commands that may take a moment: outlives a daemon that is replaced or started again. A refused connection is
 * tried again whatever the call; a lost one, and a 502 or 503 that says it will pass, only where a repeat does no harm. What has begun
 * to answer is never repeated. No redirects, no pool, and no proxy, whatever the environment says: the key goes to `target` alone.
 */
export function createGotSend(target: HttpTarget, options: GotSendOptions = {}): Send {
  const { onRepeat, random = Math.random, isRefusalFinal = false } = options;
  return async (call) => {
    let mayHaveArrived = false;
    for (let repeats = 0; ; repeats += 1) {
      call.signal?.throwIfAborted();
      const outcome = await attempt(target, call);
      const pauseMs = pauseBeforeRepeat(call, outcome, { repeats, random, isRefusalFinal });
      if (pauseMs === null) return finish(outcome, { target, call, mayHaveArrived });
      if (outcome.kind !== "refused") mayHaveArrived = true;
      onRepeat?.({ reason: reasonOf(outcome, target), pauseMs });
      if (outcome.kind === "reply") outcome.reply.body.destroy();
      await pause(pauseMs, call.signal);
    }
  };
}

/** Rejects with the signal's reason, which the sleep would hide behind its own error. */
async function pause(pauseMs: number, signal: AbortSignal | undefined): Promise<void> {
  await sleep(pauseMs, undefined, signal === undefined ? {} : { signal }).catch(() => {});
  signal?.throwIfAborted();
}

function reasonOf(outcome: Outcome, target: HttpTarget): string {
  if (outcome.kind === "reply") return `the daemon at ${target.url} answered ${outcome.reply.status}`;
  const { message, why } = explain(outcome.error, target);
  return why === undefined ? message : `${message}: ${why}`;
}

function finish(
  outcome: Outcome,
  { target, call, mayHaveArrived }: { target: HttpTarget; call: Call; mayHaveArrived: boolean },
): Reply {
  if (outcome.kind !== "reply") throw translate(outcome.error, target, call);
  const { reply } = outcome;
  // The first DELETE did it, and only its answer was lost.
  const isDone = call.method === "DELETE" && mayHaveArrived && reply.status === 404;
  return isDone ? { ...reply, status: 200 } : reply;
}

function attempt(target: HttpTarget, call: Call): Promise<Outcome> {
  return new Promise((resolve) => {
    const request = openRequest(target, call);
    const fail = (error: unknown): void => resolve({ kind: kindOf(error), error });
    request.on("error", fail);
    request.once("response", ({ statusCode, headers }) => {
      resolve({
        kind: "reply",
        reply: { status: statusCode, headers, body: bodyOf(request, target, call) },
      });
    });
  });
}

function openRequest(target: HttpTarget, call: Call): Request {
  const silenceMs = call.silenceMs ?? DEFAULT_SILENCE_MS;
  const body = openBody(call);
  const request = got.stream(callUrl(target, call), {
    method: call.method,
    headers: { "user-agent": undefined, ...callHeaders(target, call) },
    ...(body === undefined ? {} : { body }),
    ...(call.signal === undefined ? {} : { signal: call.signal }),
    agent: { http: false, https: false },
    timeout: {
      ...{ lookup: LOOKUP_MS, connect: CONNECT_MS, secureConnect: SECURE_CONNECT_MS },
      ...(silenceMs > 0 ? { socket: silenceMs } : {}),
    },
    retry: { limit: 0 },
    throwHttpErrors: false,
    followRedirect: false,
    decompress: false,
  });
  if (body === undefined && call.method !== "GET") request.end(); // or got waits for one to be written
  return request;
}

/** The answer's bytes as they come. Ends with the signal's reason or an RpxError when it is cut off. */
function bodyOf(request: Request, target: HttpTarget, call: Call): Readable {
  const body = new PassThrough();
  request.on("error", (error) => void body.destroy(cutOff(error, target, call)));
  body.once("close", () => void request.destroy());
  return request.pipe(body);
}

function cutOff(error: unknown, target: HttpTarget, call: Call): Error {
  if (call.signal?.aborted || kindOf(error) !== "lost") return translate(error, target, call);
  return new RpxError("unreachable", `the answer of the daemon at ${target.url} broke off`, {
    why: "the connection was closed in the middle of it",
    hint: "try again; rpx doctor shows whether the daemon runs",
    cause: error,
  });
}

/** The error that a caller sees for one of got's. */
function translate(error: unknown, target: HttpTarget, call: Call): Error {
  const { signal } = call;
  if (signal?.aborted)
    return signal.reason instanceof Error ? signal.reason : new Error(String(signal.reason));
  if (error instanceof TimeoutError && !CONNECTING.includes(error.event))
    return silent(target, call.silenceMs ?? DEFAULT_SILENCE_MS);
  return explain(error, target);
}
