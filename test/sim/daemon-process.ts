import type { Logger } from "pino";
import { RpxError } from "../../src/contract/error.ts";
import { API_ROUTES, JOB_ROUTES, type Route } from "../../src/contract/routes.ts";
import { createSystemClock } from "../../src/runtime/adapters/system/clock.ts";
import type { HttpHost } from "../../src/runtime/api/http-host.ts";
import { type Answer, errorAnswer, INTERNAL_ERROR } from "../../src/runtime/api/reply.ts";
import type { Call } from "../../src/runtime/api/request.ts";
import type { ClientServerOptions, Handler, WorkerServerOptions } from "../../src/runtime/api/server.ts";
import type { Daemon } from "../../src/runtime/daemon.ts";
import type { Clock } from "../../src/runtime/ports/clock.ts";
import type { WorkerPool } from "../../src/runtime/ports/worker-pool.ts";
import type { Principal } from "../../src/runtime/service/keys.ts";
import type { WorkerPrincipal } from "../../src/runtime/service/workers.ts";
import { orderOf } from "./history.ts";
import { type Exchange, jobsIn, type Reply, type Request } from "./network.ts";
import type { World } from "./world.ts";

const CLIENT_ROUTES: Readonly<Record<string, Route>> = { ...JOB_ROUTES, ...API_ROUTES };

/** One daemon process. */
export type Process = {
  readonly number: number;
  alive: boolean;
  /** What waits while the process is stopped; null while it runs. */
  held: (() => void)[] | null;
  /** It takes connections: not before it is up, and not while it hands over to its successor. */
  ready: boolean;
  /** It was asked to end or to hand over: it is asked nothing more. */
  ending: boolean;
  /** Aborted with it: what it did itself goes no further. */
  readonly gone: AbortController;
  readonly open: Set<Exchange>;
  readonly waiting: Set<() => void>;
  client: ClientServerOptions<Principal> | null;
  worker: WorkerServerOptions<WorkerPrincipal> | null;
  daemon: Daemon | null;
  disconnect: () => void;
};

export function createProcess(number: number): Process {
  return {
    number,
    alive: true,
    held: null,
    ready: false,
    ending: false,
    gone: new AbortController(),
    open: new Set(),
    waiting: new Set(),
    client: null,
    worker: null,
    daemon: null,
    disconnect: () => {},
  };
}

/** Runs something in the process: nothing reaches it while it is stopped, or after its end. */
export function enter(own: Process, run: () => void): void {
  if (!own.alive) return;
  if (own.held) own.held.push(run);
  else run();
}

/** What the outside answers, as the process learns of it. */
export function within<T>(own: Process, outside: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    outside.then(
      (value) => enter(own, () => resolve(value)),
      (error) => enter(own, () => reject(error)),
    );
  });
}

/** The real daemon's clock over simulated time; `onRead` hears each reading. */
export function clockOf(
  own: Process,
  clock: Clock,
  options: { readonly wallMs: () => number; readonly newestStoredMs: number; onRead(ownMs: number): void },
): Clock {
  const { wallMs, newestStoredMs, onRead } = options;
  const source = { wallMs, monotonicMs: clock.nowMs };
  const { nowMs } = createSystemClock({ newestStoredMs, source });
  return {
    nowMs: () => {
      const ownMs = nowMs();
      onRead(ownMs);
      return ownMs;
    },
    sleep: (ms, signal) => within(own, clock.sleep(ms, signal)),
    endOfTurn: (callback) => clock.endOfTurn(() => enter(own, callback)),
  };
}

export function poolOf(own: Process, pool: WorkerPool): WorkerPool {
  const asked = <T>(ask: () => Promise<T>): Promise<T> =>
    own.alive ? within(own, ask()) : new Promise(() => {});
  return {
    kind: pool.kind,
    sleeps: pool.sleeps,
    isolation: pool.isolation,
    away: pool.away,
    address: pool.address,
    prepare: pool.prepare,
    onChange: (listener) => pool.onChange(() => enter(own, listener)),
    start: (worker, onPhase, signal) => asked(() => pool.start(worker, onPhase, signal)),
    stop: (workerId) => asked(() => pool.stop(workerId)),
    kill: (workerId) => asked(() => pool.kill(workerId)),
    park: (workerId, depth) => asked(() => pool.park(workerId, depth)),
    wake: (workerId) => asked(() => pool.wake(workerId)),
    list: () => asked(() => pool.list()),
    forget: (workerId) => asked(() => pool.forget(workerId)),
    onExit: (listener) => pool.onExit((exit) => enter(own, () => listener(exit))),
  };
}

/** An expected failure is one of a full disk; any other is a bug. */
export function logOf(own: Process, world: World): Logger {
  const quiet = (): void => {};
  const error = (fields: { readonly err?: unknown }, message: string): void => {
    if (!own.alive || fields.err instanceof RpxError) return;
    world.fail(
      "no internal error",
      `${message}: ${fields.err instanceof Error ? fields.err.stack : fields.err}`,
    );
  };
  const log = { debug: quiet, info: quiet, warn: quiet, error, fatal: quiet, isLevelEnabled: () => false };
  return log as unknown as Logger;
}

/** A server whose requests are function calls. */
export function hostOf(own: Process, listener: Request["listener"]): HttpHost {
  const openOnes = () => [...own.open].filter(({ request }) => request.listener === listener);
  const drained = (): Promise<void> =>
    new Promise((resolve) => {
      const look = (): void => {
        if (openOnes().length > 0) return;
        own.waiting.delete(look);
        resolve();
      };
      own.waiting.add(look);
      look();
    });
  return {
    accept: () => {},
    drain: drained,
    close: () => {
      for (const exchange of openOnes()) {
        exchange.abort.abort();
        exchange.reset();
      }
      return drained();
    },
  };
}

/** Answers one request through the daemon's own handlers, as its HTTP server does. */
export async function serve(world: World, own: Process, exchange: Exchange): Promise<void> {
  if (exchange.abort.signal.aborted) return;
  own.open.add(exchange);
  const answer = await answerOf(world, own, exchange);
  if (!own.alive) return;
  own.open.delete(exchange);
  const reply = replyOf(answer);
  noteDepartures(world, exchange, reply);
  if (exchange.answer(reply)) answer.onSent?.();
  else answer.onUnsent?.();
  for (const look of [...own.waiting]) look();
}

function noteDepartures({ history, nowMs }: World, { request }: Exchange, reply: Reply): void {
  for (const { id, step, number } of jobsIn(reply))
    history.departures.push({
      jobId: id,
      step,
      atMs: nowMs(),
      workerId: request.params.worker ?? "",
      order: orderOf(history, number),
    });
}

async function answerOf(world: World, own: Process, exchange: Exchange): Promise<Answer> {
  try {
    return await call(own, exchange);
  } catch (error) {
    if (error instanceof RpxError) return errorAnswer(error);
    if (own.alive) world.fail("no internal error", `${exchange.request.route}: ${(error as Error).stack}`);
    return INTERNAL_ERROR;
  }
}

function call({ client, worker }: Process, exchange: Exchange): Promise<Answer> {
  const { listener, route, params, headers = {}, oversize } = exchange.request;
  if (listener === "worker" && worker) {
    const principal = worker.authenticateWorker(
      headers.authorization,
      params.endpoint ?? "",
      params.worker ?? "",
    );
    const handler = oversize ? worker.oversize : worker.handlers[route as keyof typeof worker.handlers];
    return (handler as Handler<WorkerPrincipal>)(callOf(exchange, principal));
  }
  if (!client) throw new Error("nobody listens");
  const principal = client.authenticate(headers.authorization, "127.0.0.1");
  const access = CLIENT_ROUTES[route]?.access ?? "admin";
  if (!client.allows(principal, access)) throw new RpxError("forbidden", "beyond its scope");
  const handler = client.handlers[route as keyof typeof client.handlers] as Handler<Principal>;
  return handler(callOf(exchange, principal));
}

function callOf<P>({ request, abort }: Exchange, principal: P): Call<P> {
  const { params, query = {}, headers = {}, body = "" } = request;
  return {
    params,
    query: new URLSearchParams(query),
    headers,
    bytes: Buffer.from(body),
    principal,
    remoteAddress: "127.0.0.1",
    signal: abort.signal,
    text: () => body,
  };
}

function replyOf(answer: Answer): Reply {
  if (answer.kind === "stream") throw new Error("streamed answers are not simulated");
  const headers = Object.entries(answer.headers ?? {}).map(([name, value]) => [name.toLowerCase(), value]);
  const text = answer.kind === "json" ? answer.text : "";
  return { status: answer.status ?? 200, text, headers: Object.fromEntries(headers) };
}
