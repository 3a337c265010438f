import type { Socket } from "node:net";

/** Who owns the listening sockets: the supervisor in a running rpx, this process in unit and api tests. */
export type SocketHost = {
  /**
   * Listens under a name that is unique per host and calls `accept` for each connection. A name that is already
   * open (a daemon child that was replaced) keeps its socket, and connections that waited are offered now.
   * Rejects with `EADDRINUSE` and the like as Node does.
   */
  listen(options: ListenOptions, accept: (socket: Socket) => void): Promise<BoundAddress>;
  /** Stops listening; connections already accepted go on. */
  close(name: string): Promise<void>;
};

/** Port 0 takes a free one. */
export type ListenOptions = { readonly name: string; readonly host: string; readonly port: number };

export type BoundAddress = { readonly host: string; readonly port: number };
