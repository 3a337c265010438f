/** An HTTP server that never listens: it serves the sockets that a supervisor hands over. */
import type { Server, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { Clock } from "../../src/runtime/ports/clock.ts";

/**
 * A connection that looks idle may have a request on its way; closing it then resets the request. So an idle one may
 * send one more, which is answered with `Connection: close`, for this long.
 */
const LAST_CALL_MS = 250;

export type HandedOverServer = {
  /** Serves a socket: what a socket host calls for each connection. */
  accept(socket: Socket): void;
  /** Answers what is in flight, closes each connection after its answer; resolves when none is open. */
  finish(): Promise<void>;
};

/**
 * `listening` starts the server's timer for `headersTimeout`, `requestTimeout` and idle connections, which does not run
 * without it. Sockets are made half-open as those of a server that listens are: it is the server that ends them.
 */
export function serveHandedOver({ server, clock }: { server: Server; clock: Clock }): HandedOverServer {
  const connections = new Set<Socket>();
  const answering = new Set<ServerResponse>();
  let isLeaving = false;
  let isLastCallOver = false;
  let onEmpty: () => void = () => {};

  server.prependListener("request", (_request, response: ServerResponse) => {
    answering.add(response);
    if (isLeaving) response.shouldKeepAlive = false;
    response.once("close", () => {
      answering.delete(response);
      if (isLastCallOver) server.closeIdleConnections();
    });
  });
  server.emit("listening");

  const accept = (socket: Socket): void => {
    connections.add(socket);
    socket.once("close", () => {
      connections.delete(socket);
      if (connections.size === 0) onEmpty();
    });
    socket.allowHalfOpen = true;
    server.emit("connection", socket);
  };
  const finish = async (): Promise<void> => {
    isLeaving = true;
    for (const response of answering) response.shouldKeepAlive = false;
    const empty = new Promise<void>((resolve) => {
      onEmpty = resolve;
    });
    if (connections.size === 0) return;
    await Promise.race([empty, clock.sleep(LAST_CALL_MS)]);
    isLastCallOver = true;
    server.closeIdleConnections();
    if (connections.size > 0) await empty;
  };
  return { accept, finish };
}
