import type { Server } from "node:http";
import { Readable } from "node:stream";
import { type FastifyInstance, type FastifyReply, type FastifyRequest, fastify } from "fastify";
import type { Logger } from "pino";
import { RpxError } from "../../contract/error.ts";
import {
  type Access,
  API_ROUTES,
  type ApiRouteName,
  JOB_ROUTES,
  type JobRouteName,
  type Route,
  WORKER_ROUTES,
  type WorkerRouteName,
} from "../../contract/routes.ts";
import type { Clock } from "../ports/clock.ts";
import { answerWith, askForBody, createFrame, type Exchange, type Frame, openExchange } from "./exchange.ts";
import { refuseForeign } from "./host-check.ts";
import {
  createHttpHost,
  createNodeServer,
  HTTP_TIMEOUTS,
  type HttpHost,
  type HttpTimeouts,
  refuseMalformed,
  type TlsFiles,
} from "./http-host.ts";
import { announcesBody, readBody, refuseAnnounced, refuseCoded, streamBody } from "./raw-body.ts";
import type { Answer, Headers } from "./reply.ts";
import { type Call, IncomingCall } from "./request.ts";

export type Handler<Principal> = (call: Call<Principal>) => Promise<Answer>;

const CLIENT_ROUTES = { ...JOB_ROUTES, ...API_ROUTES } as const;
export type ClientRouteName = JobRouteName | ApiRouteName;

/** A handler for every client route. Handlers of open routes get no principal. */
export type ClientHandlers<Principal> = {
  readonly [Name in ClientRouteName]: Handler<
    (typeof CLIENT_ROUTES)[Name]["access"] extends "open" ? null : Principal
  >;
};

export type WorkerHandlers<Principal> = { readonly [Name in WorkerRouteName]: Handler<Principal> };

/** Whether a request is within its rate limit; one that is must `leave` at its end. */
export type LimitVerdict =
  | { readonly ok: true; leave(): void }
  | { readonly ok: false; readonly retryAfterSeconds: number; readonly headers: Headers };

type ServerOptions = {
  readonly version: string;
  readonly log: Logger;
  readonly clock: Pick<Clock, "nowMs" | "sleep">;
  readonly tls?: TlsFiles;
  readonly timeouts?: Partial<HttpTimeouts>;
};

export type ClientServerOptions<Principal> = ServerOptions & {
  readonly handlers: ClientHandlers<Principal>;
  /** Reads the Authorization header. Throws `unauthorized` or `rate_limited`. */
  authenticate(authorization: string | undefined, remoteAddress: string): Principal;
  allows(principal: Principal, access: Access): boolean;
  /** Names and addresses that the Host header may hold: lower case, no port, IPv6 without brackets. */
  allowedHosts(): ReadonlySet<string>;
  enterLimit?(principal: Principal, endpoint: string, operation: NonNullable<Route["limit"]>): LimitVerdict;
};

export type WorkerServerOptions<Principal> = ServerOptions & {
  readonly handlers: WorkerHandlers<Principal>;
  /** Answers a post whose body is over the limit, unread: a refusal would lose the job. */
  readonly oversize?: Handler<Principal>;
  /** Throws unless the header holds the key of just this worker. */
  authenticateWorker(authorization: string | undefined, endpoint: string, worker: string): Principal;
};

/** Request header of our own SDKs: their connections stay open. Stock workers connect anew for each request. */
export const WORKER_SDK_HEADER = "x-rpx-worker";

/** Routes whose body is handed on as it comes. */
const STREAMED: ReadonlySet<string> = new Set<ClientRouteName>(["putBundle"]);

/** Longest path parameter in characters; longer ones name nothing. */
const MAX_PARAMETER_LENGTH = 256;
const NO_BYTES = Buffer.alloc(0);

type Params = Readonly<Record<string, string>>;

/** One route with what guards it. `admit` refuses by throwing, before any of the body is read. */
type Binding<Principal> = {
  readonly route: Route;
  readonly streams: boolean;
  readonly admit: (exchange: Exchange, params: Params) => Principal;
  readonly handler: Handler<Principal>;
  /** Called instead of refusing a body over the limit. */
  readonly oversize?: Handler<Principal>;
};

/** The client listener: job operations and the native API. */
export async function createClientServer<Principal>(
  options: ClientServerOptions<Principal>,
): Promise<HttpHost> {
  const guard = (exchange: Exchange): void => refuseForeign(exchange.request, options.allowedHosts());
  const bindings = Object.entries<Route>(CLIENT_ROUTES).map(([name, route]) => ({
    route,
    streams: STREAMED.has(name),
    admit: admitClient(options, route, guard),
    // The keys of the two tables are the same; that open routes get null and others a principal is admitClient's rule.
    handler: options.handlers[name as ClientRouteName] as Handler<Principal | null>,
  }));
  return createServer(options, { bindings, guard });
}

/** The worker listener: it knows the worker protocol and nothing else (T-10). */
export async function createWorkerServer<Principal>(
  options: WorkerServerOptions<Principal>,
): Promise<HttpHost> {
  const guard = (exchange: Exchange): void => {
    exchange.keepAlive = exchange.request.headers[WORKER_SDK_HEADER] !== undefined;
  };
  const admit = (exchange: Exchange, params: Params): Principal => {
    guard(exchange);
    const { authorization } = exchange.request.headers;
    return options.authenticateWorker(authorization, params.endpoint ?? "", params.worker ?? "");
  };
  const bindings = Object.entries<Route>(WORKER_ROUTES).map(([name, route]) => ({
    route,
    streams: false,
    admit,
    handler: options.handlers[name as WorkerRouteName],
    ...(options.oversize && { oversize: options.oversize }),
  }));
  return createServer(options, { bindings, guard });
}

/** In this order: where the request comes from, whose it is, what that key may do, how often. */
function admitClient<Principal>(
  options: ClientServerOptions<Principal>,
  route: Route,
  guard: (exchange: Exchange) => void,
): (exchange: Exchange, params: Params) => Principal | null {
  return (exchange, params) => {
    guard(exchange);
    if (route.access === "open") return null;
    const { headers, socket } = exchange.request;
    const principal = options.authenticate(headers.authorization, socket.remoteAddress ?? "");
    if (!options.allows(principal, route.access)) throw beyondScope(route.access);
    if (route.limit !== undefined && options.enterLimit !== undefined) {
      enter(exchange, options.enterLimit(principal, params.endpoint ?? "", route.limit));
    }
    return principal;
  };
}

function beyondScope(access: Access): RpxError {
  return new RpxError("forbidden", `this key may not do that: it needs the scope "${access}"`, {
    hint: `Use a key made with --scope ${access}.`,
  });
}

function enter(exchange: Exchange, verdict: LimitVerdict): void {
  if (verdict.ok) {
    exchange.release = () => verdict.leave();
    return;
  }
  exchange.headers = verdict.headers;
  const { retryAfterSeconds } = verdict;
  throw new RpxError("rate_limited", "too many requests for this operation", { retryAfterSeconds });
}

type Table<Principal> = {
  readonly bindings: readonly Binding<Principal>[];
  /** Also asked before an unknown path or method is refused. */
  readonly guard: (exchange: Exchange) => void;
};

async function createServer<Principal>(options: ServerOptions, table: Table<Principal>): Promise<HttpHost> {
  const frame = createFrame(options);
  const refuse = refusal(frame, table);
  const { app, server } = createApp(options, frame, refuse);
  for (const binding of table.bindings) bind(app, frame, binding);
  app.all("*", { onRequest: (request, reply) => refuse(request, reply) }, unreached);
  app.setNotFoundHandler((request, reply) => refuse(request, reply));
  await app.ready();
  return createHttpHost(server, frame, options.clock);
}

type Refuse = (request: FastifyRequest, reply: FastifyReply, error?: RpxError) => void;

/** Fastify as a router: it gets no logger, parses no body and writes no reply. */
function createApp(
  options: ServerOptions,
  frame: Frame,
  refuse: Refuse,
): { readonly app: FastifyInstance; readonly server: Server } {
  const timeouts = { ...HTTP_TIMEOUTS, ...options.timeouts };
  const app = fastify({
    logger: false,
    exposeHeadRoutes: false,
    routerOptions: { maxParamLength: MAX_PARAMETER_LENGTH, querystringParser: () => ({}) },
    serverFactory: (handler) => createNodeServer({ timeouts, tls: options.tls }, handler),
    clientErrorHandler: (error, socket) => refuseMalformed(frame, error, socket),
    frameworkErrors: (_error, request, reply) => {
      refuse(request, reply, new RpxError("bad_request", "the path is malformed"));
    },
  });
  return { app, server: app.server };
}

/** The hook takes the reply out of Fastify's hands before it would look at the body, and so never calls it back. */
function bind<Principal>(app: FastifyInstance, frame: Frame, binding: Binding<Principal>): void {
  const { methods, path } = binding.route;
  app.route({
    method: [...methods],
    url: path,
    onRequest: (request, reply, _done) => {
      reply.hijack();
      const exchange = openExchange(frame, request.raw, reply.raw, path);
      void answerWith(exchange, () => serve(exchange, binding, request.params as Params));
    },
    handler: unreached,
  });
}

function unreached(): never {
  throw new Error("a hook has answered already");
}

/** Answers 404, or 405 with the methods that the path knows. */
function refusal<Principal>(frame: Frame, table: Table<Principal>): Refuse {
  const allowedMethods = methodsByPath(table.bindings.map(({ route }) => route));
  return (request, reply, error) => {
    reply.hijack();
    const exchange = openExchange(frame, request.raw, reply.raw, "(none)");
    void answerWith(exchange, async () => {
      table.guard(exchange);
      if (error !== undefined) throw error;
      const methods = allowedMethods(request.raw.url ?? "");
      // Known and yet here: a parameter is too long to name anything.
      if (methods.length === 0 || methods.some((method) => method === request.method)) throw nothingHere();
      const list = methods.join(", ");
      exchange.headers = { Allow: list };
      throw new RpxError("method_not_allowed", `this path takes ${list}`);
    });
  };
}

function nothingHere(): RpxError {
  return new RpxError("not_found", "there is nothing at this path");
}

/** The methods that a target's path knows. Only refusals ask, so it may be slow. */
function methodsByPath(routes: readonly Route[]): (target: string) => readonly string[] {
  const known = routes.map(({ path, methods }) => ({
    pattern: new RegExp(`^${path.replace(/:[a-z]+/g, "[^/]+")}$`),
    methods,
  }));
  return (target) => {
    const path = target.split("?", 1)[0] ?? "";
    const methods = known.filter(({ pattern }) => pattern.test(path)).flatMap((route) => route.methods);
    return [...new Set(methods)];
  };
}

/** From the request to the handler's answer. Nothing is awaited where there is no body. */
async function serve<Principal>(
  exchange: Exchange,
  binding: Binding<Principal>,
  params: Params,
): Promise<Answer> {
  const { request } = exchange;
  const { route, streams, handler } = binding;
  const principal = binding.admit(exchange, params);
  refuseCoded(request);
  const { bodyLimit } = route;
  if (bodyLimit === undefined || !announcesBody(request)) {
    const call = new IncomingCall(exchange, params, principal, NO_BYTES);
    return handler(streams ? Object.assign(call, { body: Readable.from([]) }) : call);
  }
  if (streams) {
    refuseAnnounced(request, bodyLimit);
    askForBody(exchange);
    const body = streamBody(request, bodyLimit);
    return handler(Object.assign(new IncomingCall(exchange, params, principal, NO_BYTES), { body }));
  }
  try {
    refuseAnnounced(request, bodyLimit);
    askForBody(exchange);
    const bytes = await readBody(request, bodyLimit);
    return handler(new IncomingCall(exchange, params, principal, bytes));
  } catch (error) {
    if (!binding.oversize || !(error instanceof RpxError) || error.code !== "too_large") throw error;
    return binding.oversize(new IncomingCall(exchange, params, principal, NO_BYTES));
  }
}
