import { once } from "node:events";
import { connect, createServer, type Server, type Socket } from "node:net";

/** A listener of the test's own that hands every connection to `accept`, as the daemon's socket host does. */
export type Listener = {
  readonly port: number;
  /** Connections accepted so far, oldest first. */
  readonly accepted: readonly Socket[];
  close(): Promise<void>;
};

export async function listenFor(
  accept: (socket: Socket) => void,
  options: { readonly pauseOnConnect?: boolean } = {},
): Promise<Listener> {
  const accepted: Socket[] = [];
  const server: Server = createServer(options, (socket) => {
    accepted.push(socket);
    accept(socket);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("no port");
  const close = async (): Promise<void> => {
    server.close();
    for (const socket of accepted) socket.destroy();
    if (server.listening) await once(server, "close");
  };
  return { port: address.port, accepted, close };
}

/** A connection that keeps what arrives as text, for requests that no client would send. */
export type RawConnection = {
  readonly socket: Socket;
  /** Everything received so far. */
  text(): string;
  /** Resolves once the received text satisfies the condition; rejects with the text when the connection ends first. */
  until(condition: (text: string) => boolean): Promise<string>;
  /** Resolves with everything received once the connection has ended, a reset included. */
  ended(): Promise<string>;
};

export async function openRaw(port: number): Promise<RawConnection> {
  const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: false });
  await once(socket, "connect");
  let received = "";
  let over = false;
  socket.setEncoding("latin1");
  socket.on("error", () => {});
  socket.on("close", () => {
    over = true;
  });
  socket.on("data", (chunk: string) => {
    received += chunk;
  });
  return {
    socket,
    text: () => received,
    ended: async () => {
      if (!over) await once(socket, "close");
      return received;
    },
    until: async (condition) => {
      while (!condition(received)) {
        if (over) throw new Error(`the connection ended with: ${JSON.stringify(received)}`);
        await Promise.race([once(socket, "data"), once(socket, "close")]);
      }
      return received;
    },
  };
}

/** Sends a text, and returns all that came back when the server has ended the connection. */
export async function exchangeRaw(port: number, text: string): Promise<string> {
  const connection = await openRaw(port);
  connection.socket.write(text, "latin1");
  return connection.ended();
}

/** Status of each reply in a received text whose bodies contain no line that looks like one. */
export function statuses(received: string): number[] {
  return [...received.matchAll(/^HTTP\/1\.1 (\d{3}) /gm)].map((match) => Number(match[1]));
}
