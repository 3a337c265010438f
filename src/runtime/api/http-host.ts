import { createServer, type RequestListener, type Server, type ServerOptions, STATUS_CODES } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { Socket } from "node:net";
import { VERSION_HEADER } from "../../contract/routes.ts";
import type { Clock } from "../ports/clock.ts";
import type { Exchange, Frame } from "./exchange.ts";

/** How long a connection may take. `checkEveryMs`: how often Node looks for those that are too late. */
export type HttpTimeouts = {
  readonly headersMs: number;
  /** Headers and body together. */
  readonly requestMs: number;
  readonly keepAliveMs: number;
  readonly checkEveryMs: number;
};

export const HTTP_TIMEOUTS: HttpTimeouts = {
  headersMs: 10_000,
  requestMs: 60_000,
  keepAliveMs: 75_000,
  checkEveryMs: 1_000,
};

const MAX_HEADER_BYTES = 16 * 1024;
const MAX_HEADERS = 200;
/** TCP probes after this long without traffic: a held reply must notice a peer that vanished without a word. */
const TCP_PROBE_AFTER_MS = 60_000;

/**
 * A connection that looks idle may have a request on its way, which closing it would reset. So an idle one may send one
 * more, answered with `Connection: close`, for this long.
 */
const LAST_CALL_MS = 250;

export type TlsFiles = { readonly cert: string | Buffer; readonly key: string | Buffer };

/** A server that serves connections accepted elsewhere. */
export type HttpHost = {
  /** Serves one accepted connection. After `close` it is ended at once. */
  accept(socket: Socket): void;
  /**
   * Ends idle connections after a last call, makes every further reply close its connection, and resolves when the last has ended. Held replies
   * and streams end when their handlers do, and a silent connection after `headersMs`: the caller bounds the wait.
   */
  drain(): Promise<void>;
  /** Ends every connection now and aborts the calls' signals. Resolves when every handler has returned. */
  close(): Promise<void>;
};

/** Node's HTTP server with our limits. It never listens: it is told so once, or its timeouts would not run. */
export function createNodeServer(
  options: { readonly timeouts: HttpTimeouts; readonly tls: TlsFiles | undefined },
  handler: RequestListener,
): Server {
  const { timeouts, tls } = options;
  const limits: ServerOptions = {
    headersTimeout: timeouts.headersMs,
    requestTimeout: timeouts.requestMs,
    keepAliveTimeout: timeouts.keepAliveMs,
    connectionsCheckingInterval: timeouts.checkEveryMs,
    maxHeaderSize: MAX_HEADER_BYTES,
    requireHostHeader: true,
    insecureHTTPParser: false,
    // Two Host or Authorization headers become one that no check accepts, where Node would keep the first.
    joinDuplicateHeaders: true,
  };
  const server =
    tls === undefined
      ? createServer(limits, handler)
      : createTlsServer({ ...limits, ...tls, handshakeTimeout: timeouts.headersMs }, handler);
  server.maxHeadersCount = MAX_HEADERS;
  // Refusals come before the sender is asked for its body (exchange.ts asks).
  server.on("checkContinue", handler);
  return server;
}

/** Accepts, drains and closes for a server made by {@link createNodeServer}. */
export function createHttpHost(server: Server, frame: Frame, clock: Pick<Clock, "sleep">): HttpHost {
  const sockets = new Set<Socket>();
  const waiting: { readonly isOver: () => boolean; readonly resolve: () => void }[] = [];
  let closed = false;
  let isLastCallOver = false;

  const check = (): void => {
    for (const { isOver, resolve } of waiting) if (isOver()) resolve();
  };
  const until = (isOver: () => boolean): Promise<void> => {
    const { promise, resolve } = Promise.withResolvers<void>();
    waiting.push({ isOver, resolve });
    check();
    return promise;
  };
  frame.ended = () => {
    // A reply begun before the drain did not say that it closes its connection.
    if (isLastCallOver) server.closeIdleConnections();
    check();
  };
  const forget = (socket: Socket): void => {
    sockets.delete(socket);
    check();
  };
  server.emit("listening");

  return {
    accept: (socket) => {
      if (closed) return void socket.destroy();
      sockets.add(socket);
      socket.once("close", () => forget(socket));
      // A listening server would set all three itself.
      socket.allowHalfOpen = true;
      socket.setNoDelay(true).setKeepAlive(true, TCP_PROBE_AFTER_MS);
      server.emit("connection", socket);
      if (socket.isPaused()) socket.resume();
    },
    drain: async () => {
      frame.draining = true;
      const over = until(() => sockets.size === 0 && frame.open.size === 0);
      await Promise.race([over, clock.sleep(LAST_CALL_MS)]);
      isLastCallOver = true;
      server.closeIdleConnections();
      await over;
    },
    close: async () => {
      closed = true;
      frame.draining = true;
      for (const socket of sockets) socket.destroy();
      server.close();
      await until(() => sockets.size === 0 && frame.open.size === 0);
    },
  };
}

/**
 * Answers what the parser refuses, without a body, and ends the connection: what follows cannot be told apart from a request.
 * Silent where a reply of an earlier request is due, which the refusal would be taken for.
 */
export function refuseMalformed(frame: Frame, error: NodeJS.ErrnoException, socket: Socket): void {
  const status = malformedStatus(error.code ?? "");
  if (status === null || !socket.writable || owesReply(frame.open, socket)) return void socket.destroy();
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${VERSION_HEADER}: ${frame.version}\r\n` +
      "Connection: close\r\nContent-Length: 0\r\n\r\n",
  );
  socket.destroySoon();
}

/** Null: not the parser's, so there is nobody to answer. */
function malformedStatus(code: string): number | null {
  if (code === "ERR_HTTP_REQUEST_TIMEOUT") return 408;
  if (code === "HPE_HEADER_OVERFLOW") return 431;
  return code.startsWith("HPE_") ? 400 : null;
}

function owesReply(open: ReadonlySet<Exchange>, socket: Socket): boolean {
  for (const { request, response } of open) {
    if (request.socket === socket && (request.complete || response.headersSent)) return true;
  }
  return false;
}
