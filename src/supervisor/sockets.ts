/**
 * Listening sockets that outlive the daemon child. A connection is accepted here, offered to the child, and kept until
 * the child acknowledges it: what a dead child had not acknowledged goes to its successor. Nothing is read here, so a
 * half-sent header waits in the kernel.
 */
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import type { BoundAddress, ListenOptions } from "../runtime/ports/socket-host.ts";

/**
 * Connections of one listener that wait for a child. Node cannot stop accepting without closing the socket, which would
 * refuse and reset everybody in the backlog; so beyond this number it closes the newest ones.
 */
export const MAX_WAITING_CONNECTIONS = 4096;
/** Offered and not acknowledged at once: few, so that `handover` and `drain` are never far behind in the channel. */
export const MAX_OFFERED_CONNECTIONS = 128;
/** The kernel's queue of connections that this process has not accepted yet (it caps it at net.core.somaxconn). */
const BACKLOG = 4096;

/** Takes an offered connection; it is gone from here once {@link Sockets.acknowledge} names its id. */
export type OfferConnection = (offer: { id: number; listener: string; socket: Socket }) => void;

export type Sockets = {
  /** Opens a socket, or keeps the one of that name and address. The present child is offered its connections. */
  listen(options: ListenOptions): Promise<BoundAddress>;
  /** Stops listening; what was accepted is still offered. */
  close(name: string): void;
  /** A child serves: what waits for the names it asked for is offered now, the rest when it asks. */
  attach(offer: OfferConnection): void;
  /** The child takes no more (it hands over or it is gone); what it has not acknowledged may still be. */
  detach(): void;
  /** The child is gone and its channel read to the end: what it did not acknowledge waits again. */
  reclaim(): void;
  /** The child owns the connection now: our copy is closed. */
  acknowledge(id: number): void;
  /** Closes every listener that no child asked for since the last `reclaim`; returns their names. */
  closeUnclaimed(): readonly string[];
  closeAll(): void;
};

type Listener = {
  readonly options: ListenOptions;
  readonly server: Server;
  readonly bound: BoundAddress;
  claimed: boolean;
};
type Waiting = { readonly listener: string; readonly socket: Socket; offered: boolean };

/** `onDrop` hears when a connection had to be closed because too many wait. */
export function createSockets(options: { onDrop: (listener: string) => void }): Sockets {
  const listeners = new Map<string, Listener>();
  const waiting = new Map<number, Waiting>();
  let offer: OfferConnection | null = null;
  let offeredCount = 0;
  let nextId = 1;

  const offerOne = (id: number, connection: Waiting): void => {
    if (offer === null || connection.offered || offeredCount >= MAX_OFFERED_CONNECTIONS) return;
    const listener = listeners.get(connection.listener);
    if (listener !== undefined && !listener.claimed) return;
    connection.offered = true;
    offeredCount += 1;
    offer({ id, listener: connection.listener, socket: connection.socket });
  };
  const offerWaiting = (): void => {
    for (const [id, connection] of waiting) {
      if (offeredCount >= MAX_OFFERED_CONNECTIONS) return;
      offerOne(id, connection);
    }
  };
  const receive = (listener: string, socket: Socket): void => {
    const connection = { listener, socket, offered: false };
    const id = nextId;
    nextId += 1;
    socket.on("error", () => {});
    waiting.set(id, connection);
    offerOne(id, connection);
  };
  const open = async (wanted: ListenOptions): Promise<Listener> => {
    const server = createServer({ pauseOnConnect: true, noDelay: true });
    server.maxConnections = MAX_WAITING_CONNECTIONS;
    server.on("connection", (socket) => receive(wanted.name, socket));
    server.on("drop", () => options.onDrop(wanted.name));
    const bound = await listening(server, wanted);
    const listener = { options: wanted, server, bound, claimed: true };
    listeners.set(wanted.name, listener);
    return listener;
  };
  const close = (name: string): void => {
    listeners.get(name)?.server.close();
    listeners.delete(name);
  };

  return {
    listen: async (wanted) => {
      const known = listeners.get(wanted.name);
      if (known !== undefined && isSameAddress(known, wanted)) {
        known.claimed = true;
        offerWaiting();
        return known.bound;
      }
      close(wanted.name);
      return (await open(wanted)).bound;
    },
    close,
    attach: (takesOffer) => {
      offer = takesOffer;
      offerWaiting();
    },
    detach: () => {
      offer = null;
    },
    reclaim: () => {
      for (const listener of listeners.values()) listener.claimed = false;
      for (const connection of waiting.values()) connection.offered = false;
      offeredCount = 0;
    },
    acknowledge: (id) => {
      const connection = waiting.get(id);
      if (connection === undefined) return;
      waiting.delete(id);
      offeredCount -= 1;
      connection.socket.destroy();
      offerWaiting();
    },
    closeUnclaimed: () => {
      const unclaimed = [...listeners].filter(([, listener]) => !listener.claimed).map(([name]) => name);
      for (const name of unclaimed) close(name);
      return unclaimed;
    },
    closeAll: () => {
      for (const name of [...listeners.keys()]) close(name);
      for (const { socket } of waiting.values()) socket.destroy();
      waiting.clear();
    },
  };
}

/** Port 0 asked again means the free port that was taken the first time. */
function isSameAddress(listener: Listener, wanted: ListenOptions): boolean {
  const { host, port } = listener.options;
  return wanted.host === host && (wanted.port === port || wanted.port === listener.bound.port);
}

function listening(server: Server, wanted: ListenOptions): Promise<BoundAddress> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host: wanted.host, port: wanted.port, backlog: BACKLOG }, () => {
      server.off("error", reject);
      server.on("error", () => {});
      const { address, port } = server.address() as AddressInfo;
      resolve({ host: address, port });
    });
  });
}
