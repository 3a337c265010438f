/** One daemon child: its process, its channel, and what it asks for. */
import { type ChildProcess, spawn } from "node:child_process";
import type { ProcessExit } from "../runtime/ports/process-host.ts";
import {
  type ChildRequest,
  type MessageToChild,
  type MessageToSupervisor,
  PROTOCOL_VERSION,
  type ReplyValue,
} from "./messages.ts";
import { signalGroup } from "./process-identity.ts";
import type { OfferConnection, Sockets } from "./sockets.ts";
import type { Workers } from "./workers.ts";

/** After the exit the channel is read to its end; it ends by itself, this is the limit. */
const CHANNEL_END_MS = 1000;

/** How a child ended. `code` is null when a signal ended it or when it could not be started (`error`). */
export type ChildEnd = {
  readonly code: number | null;
  readonly signal: string | null;
  readonly error: Error | null;
  /** It said that it serves. */
  readonly wasReady: boolean;
};

export type DaemonChild = {
  readonly pid: number | undefined;
  isReady(): boolean;
  /** Asks it to end for good, or to make room for a successor (it is offered no connection after that). */
  ask(kind: "drain" | "handover"): void;
  /** SIGKILL to the child and what it started. */
  kill(): void;
  /** Resolves once it is gone and everything it acknowledged is known. Never rejects. */
  readonly ended: Promise<ChildEnd>;
};

/** Starts the daemon entry. It gets a group of its own, so that Ctrl-C reaches the supervisor alone. */
export function startDaemonChild(options: {
  entry: string;
  config: unknown;
  sockets: Sockets;
  workers: Workers;
  onReady: () => void;
  onBye: () => void;
}): DaemonChild {
  const child = spawn(process.execPath, [...process.execArgv, options.entry], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
    serialization: "advanced",
    detached: true,
  });
  let isReady = false;
  let isLeaving = false;

  const send = (message: MessageToChild): void => {
    if (child.connected) child.send(message, ignoreFailure);
  };
  const offer: OfferConnection = ({ id, listener, socket }) => {
    if (!child.connected) return;
    const message: MessageToChild = { kind: "connection", id, listener };
    child.send(message, socket, { keepOpen: true }, ignoreFailure);
  };
  const becomeReady = (): void => {
    if (isReady) return;
    isReady = true;
    if (!isLeaving) options.sockets.attach(offer);
    options.onReady();
  };
  const ask = (kind: "drain" | "handover"): void => {
    if (kind === "handover") {
      isLeaving = true;
      options.sockets.detach();
    }
    send({ kind });
  };
  const receive = (message: MessageToSupervisor): void => {
    if (message.kind === "accepted") options.sockets.acknowledge(message.id);
    else if (message.kind === "request") void answer(message, options, send);
    else if (message.kind === "ready") becomeReady();
    else if (message.kind === "bye") options.onBye();
  };

  child.on("message", (message) => receive(message as MessageToSupervisor));
  send({ kind: "hello", protocol: PROTOCOL_VERSION, config: options.config });
  const unsubscribe = options.workers.onExit((exit: ProcessExit) => send({ kind: "exit", exit }));
  const ended = endOf(child).then((end) => {
    unsubscribe();
    options.sockets.detach();
    options.sockets.reclaim();
    return { ...end, wasReady: isReady };
  });
  return { pid: child.pid, isReady: () => isReady, ask, kill: () => killGroup(child), ended };
}

/** The channel breaks when the child dies; its end is seen elsewhere. */
function ignoreFailure(): void {}

function killGroup(child: ChildProcess): void {
  if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) {
    signalGroup(child.pid, "SIGKILL");
  }
}

function endOf(child: ChildProcess): Promise<Omit<ChildEnd, "wasReady">> {
  return new Promise((resolve) => {
    child.on("error", (error) => {
      if (child.pid === undefined) resolve({ code: null, signal: null, error });
    });
    child.once("exit", (code, signal) => {
      const finish = (): void => resolve({ code, signal, error: null });
      if (!child.connected) return finish();
      // Not left to `disconnect` alone: where the child died in the middle of a message, Node waits for the rest of it.
      const limit = setTimeout(() => {
        if (child.connected) child.disconnect();
        finish();
      }, CHANNEL_END_MS);
      child.once("disconnect", () => {
        clearTimeout(limit);
        finish();
      });
    });
  });
}

type Hosts = { readonly sockets: Sockets; readonly workers: Workers };
type RequestMessage = Extract<MessageToSupervisor, { kind: "request" }>;

async function answer(
  { request, body }: RequestMessage,
  hosts: Hosts,
  send: (message: MessageToChild) => void,
): Promise<void> {
  try {
    send({ kind: "reply", request, value: await perform(body, hosts) });
  } catch (error) {
    const { message, code } = error as NodeJS.ErrnoException;
    send({ kind: "failure", request, failure: { code: code ?? null, message } });
  }
}

async function perform(body: ChildRequest, { sockets, workers }: Hosts): Promise<ReplyValue> {
  switch (body.op) {
    case "listen":
      return sockets.listen(body.options);
    case "close":
      sockets.close(body.name);
      return null;
    case "spawn":
      return workers.spawn(body.spec);
    case "signal":
      return workers.signal(body.id, body.signal);
    case "list":
      return workers.list();
    case "forget":
      await workers.forget(body.id);
      return null;
    default:
      throw new Error(
        `this supervisor (protocol ${PROTOCOL_VERSION}) does not know "${(body as { op: string }).op}": restart rpx serve`,
      );
  }
}
