/** The daemon's side of the supervisor: both hosts over the IPC channel. */
import type { Socket } from "node:net";
import { RpxError } from "../../../contract/error.ts";
import {
  type ChildRequest,
  type MessageToChild,
  type MessageToSupervisor,
  OLDEST_PROTOCOL_VERSION,
  PROTOCOL_VERSION,
  type RemoteFailure,
  type ReplyValue,
  type ReplyValues,
} from "../../../supervisor/messages.ts";
import type { ProcessExit, ProcessHost } from "../../ports/process-host.ts";
import type { SocketHost } from "../../ports/socket-host.ts";

/** Questions to the supervisor without an answer; it answers in milliseconds. */
const MAX_OPEN_REQUESTS = 4096;
/** Without its supervisor a daemon has neither sockets nor workers. */
const EXIT_WITHOUT_SUPERVISOR = 1;

export type SupervisorChannel = {
  /** What the supervisor was started with as `daemonConfig`. */
  readonly config: unknown;
  readonly processHost: ProcessHost;
  readonly socketHost: SocketHost;
  /** Stop admitting, wait within your grace, exit 0. Calls back at once when it was said before. */
  onDrain(callback: () => void): void;
  /** A successor waits: finish the responses in flight (`HandedOverServer.finish`), exit 0. No connection comes after it. */
  onHandover(callback: () => void): void;
  /**
   * The daemon serves: connections come from now on, those that waited first. Until then an exit code of 2, 3, 4 or 6
   * ends the supervisor too; later every exit but a drained one is a crash.
   */
  ready(): void;
  /** Ends the supervisor too: it drains this daemon, which then exits 0. */
  bye(): void;
};

/**
 * Connects a daemon child to its supervisor. From now on the process ends when the supervisor does, and leaves
 * SIGTERM, SIGINT and SIGHUP to it. Rejects when there is no supervisor or when it speaks another protocol.
 */
export async function connectSupervisor(): Promise<SupervisorChannel> {
  if (process.send === undefined) {
    throw new RpxError("usage", "the daemon runs under its supervisor only", { hint: "rpx serve" });
  }
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => {});
  process.on("disconnect", () => process.exit(EXIT_WITHOUT_SUPERVISOR));
  const requests = createRequests();
  const sockets = createChildSockets(requests.ask);
  const exits = createListeners<ProcessExit>();
  const drain = createMoment();
  const handover = createMoment();
  const config = await new Promise<unknown>((resolve, reject) => {
    process.on("message", (raw, socket) => {
      const message = raw as MessageToChild;
      if (message.kind === "connection") sockets.receive(message, socket as Socket | undefined);
      else if (message.kind === "reply") requests.resolve(message.request, message.value);
      else if (message.kind === "failure") requests.reject(message.request, message.failure);
      else if (message.kind === "exit") exits.emit(message.exit);
      else if (message.kind === "drain") drain.arrive();
      else if (message.kind === "handover") handover.arrive();
      else if (!isSpoken(message.protocol)) reject(unknownProtocol(message.protocol));
      else resolve(message.config);
    });
  });
  return {
    config,
    processHost: createProcessHost(requests.ask, exits.subscribe),
    socketHost: sockets.host,
    onDrain: drain.onArrival,
    onHandover: handover.onArrival,
    ready: () => send({ kind: "ready" }),
    bye: () => send({ kind: "bye" }),
  };
}

function isSpoken(protocol: number): boolean {
  return protocol >= OLDEST_PROTOCOL_VERSION && protocol <= PROTOCOL_VERSION;
}

function unknownProtocol(protocol: number): RpxError {
  return new RpxError("version_mismatch", "this daemon cannot run under the supervisor that started it", {
    why: `the supervisor speaks protocol ${protocol}, the daemon ${OLDEST_PROTOCOL_VERSION} to ${PROTOCOL_VERSION}`,
    hint: "stop rpx serve and start it again: only the daemon was replaced",
  });
}

/** A broken channel shows as `disconnect`, which ends the process. */
function send(message: MessageToSupervisor): void {
  process.send?.(message, undefined, undefined, () => {});
}

type Ask = <Op extends ChildRequest["op"]>(
  body: Extract<ChildRequest, { op: Op }>,
) => Promise<ReplyValues[Op]>;
type OpenRequest = { readonly resolve: (value: never) => void; readonly reject: (error: Error) => void };

function createRequests(): {
  ask: Ask;
  resolve(request: number, value: ReplyValue): void;
  reject(request: number, failure: RemoteFailure): void;
} {
  const open = new Map<number, OpenRequest>();
  let nextRequest = 1;
  const take = (request: number): OpenRequest | undefined => {
    const found = open.get(request);
    open.delete(request);
    return found;
  };
  const ask: Ask = (body) => {
    if (open.size >= MAX_OPEN_REQUESTS) throw new RpxError("unavailable", "the supervisor does not answer");
    const request = nextRequest;
    nextRequest += 1;
    return new Promise((resolve, reject) => {
      open.set(request, { resolve, reject });
      send({ kind: "request", request, body });
    });
  };
  return {
    ask,
    resolve: (request, value) => take(request)?.resolve(value as never),
    reject: (request, { code, message }) =>
      take(request)?.reject(Object.assign(new Error(message), code === null ? {} : { code })),
  };
}

type ConnectionMessage = Extract<MessageToChild, { kind: "connection" }>;

function createChildSockets(ask: Ask): {
  host: SocketHost;
  receive(message: ConnectionMessage, socket: Socket | undefined): void;
} {
  const accepts = new Map<string, (socket: Socket) => void>();
  const receive = (message: ConnectionMessage, socket: Socket | undefined): void => {
    // Acknowledged before its first byte is read: reading starts in a later turn of the event loop.
    send({ kind: "accepted", id: message.id });
    const accept = accepts.get(message.listener);
    if (accept === undefined) socket?.destroy();
    else if (socket !== undefined) accept(socket);
  };
  const host: SocketHost = {
    listen: async (options, accept) => {
      const before = accepts.get(options.name);
      accepts.set(options.name, accept);
      try {
        return await ask<"listen">({ op: "listen", options });
      } catch (error) {
        if (before === undefined) accepts.delete(options.name);
        else accepts.set(options.name, before);
        throw error;
      }
    },
    close: async (name) => {
      await ask<"close">({ op: "close", name });
    },
  };
  return { host, receive };
}

function createProcessHost(
  ask: Ask,
  onExit: (listener: (exit: ProcessExit) => void) => () => void,
): ProcessHost {
  return {
    spawn: (spec) => ask<"spawn">({ op: "spawn", spec }),
    signal: (id, signal) => ask<"signal">({ op: "signal", id, signal }),
    list: () => ask<"list">({ op: "list" }),
    forget: async (id) => {
      await ask<"forget">({ op: "forget", id });
    },
    onExit,
  };
}

function createListeners<Value>(): {
  emit(value: Value): void;
  subscribe(listener: (value: Value) => void): () => void;
} {
  const listeners = new Set<(value: Value) => void>();
  return {
    emit: (value) => {
      for (const listener of listeners) listener(value);
    },
    subscribe: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

/** Something that happens once and may have happened before anybody asked. */
function createMoment(): { arrive(): void; onArrival(callback: () => void): void } {
  const callbacks: (() => void)[] = [];
  let hasArrived = false;
  return {
    arrive: () => {
      hasArrived = true;
      for (const callback of callbacks.splice(0)) callback();
    },
    onArrival: (callback) => {
      if (hasArrived) callback();
      else callbacks.push(callback);
    },
  };
}
