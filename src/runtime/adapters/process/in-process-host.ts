/** Both hosts without a supervisor, for unit and api tests: worker processes and sockets end with this process. */
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { createWorkers } from "../../../supervisor/workers.ts";
import type { ProcessHost } from "../../ports/process-host.ts";
import type { BoundAddress, ListenOptions, SocketHost } from "../../ports/socket-host.ts";

export type InProcessHost = {
  readonly processHost: ProcessHost;
  readonly socketHost: SocketHost;
  /** Kills every worker, closes every socket and connection; resolves when all workers are gone. */
  close(): Promise<void>;
};

/** Connections are passed to `accept` at once; a name listens anew only after it was closed. */
export function createInProcessHost(): InProcessHost {
  const workers = createWorkers();
  const servers = new Map<string, Server>();
  const connections = new Set<Socket>();

  const track = (socket: Socket): void => {
    connections.add(socket);
    socket.once("close", () => connections.delete(socket));
    socket.on("error", () => {});
  };
  const closeServer = (name: string): void => {
    servers.get(name)?.close();
    servers.delete(name);
  };
  const listen: SocketHost["listen"] = async (options, accept) => {
    closeServer(options.name);
    const server = createServer({ noDelay: true }, (socket) => {
      track(socket);
      accept(socket);
    });
    const bound = await listening(server, options);
    servers.set(options.name, server);
    return bound;
  };
  return {
    processHost: workers,
    socketHost: { listen, close: async (name) => closeServer(name) },
    close: async () => {
      for (const name of [...servers.keys()]) closeServer(name);
      for (const socket of connections) socket.destroy();
      workers.killAll();
      await workers.stopAll();
    },
  };
}

function listening(server: Server, { host, port }: ListenOptions): Promise<BoundAddress> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host, port }, () => {
      const { address, port: bound } = server.address() as AddressInfo;
      resolve({ host: address, port: bound });
    });
  });
}
