/** What supervisor and daemon child say to each other over the IPC channel, both ways. Types only but for the version. */
import type {
  HostedProcess,
  ProcessExit,
  ProcessSignal,
  ProcessSpec,
} from "../runtime/ports/process-host.ts";
import type { BoundAddress, ListenOptions } from "../runtime/ports/socket-host.ts";

/**
 * The version this supervisor speaks; it says so in its first message. A SIGHUP starts a newer child under an older
 * supervisor, so it is the child that must understand the version or refuse with the reason.
 */
export const PROTOCOL_VERSION = 1;
/** The oldest supervisor a child of this release still works under. */
export const OLDEST_PROTOCOL_VERSION = 1;

/** What the child can ask for; each is answered by a `reply` with the same number. */
export type ChildRequest =
  | { readonly op: "listen"; readonly options: ListenOptions }
  | { readonly op: "close"; readonly name: string }
  | { readonly op: "spawn"; readonly spec: ProcessSpec }
  | { readonly op: "signal"; readonly id: string; readonly signal: ProcessSignal }
  | { readonly op: "list" }
  | { readonly op: "forget"; readonly id: string };

/** The value of a reply, by operation. */
export type ReplyValues = {
  readonly listen: BoundAddress;
  readonly close: null;
  readonly spawn: HostedProcess;
  readonly signal: boolean;
  readonly list: readonly HostedProcess[];
  readonly forget: null;
};

export type ReplyValue = ReplyValues[keyof ReplyValues];

/** A failure that crosses the channel: `code` is Node's (`EADDRINUSE`, `ENOENT`) where there is one. */
export type RemoteFailure = { readonly code: string | null; readonly message: string };

export type MessageToChild =
  | { readonly kind: "hello"; readonly protocol: number; readonly config: unknown }
  | { readonly kind: "reply"; readonly request: number; readonly value: ReplyValue }
  | { readonly kind: "failure"; readonly request: number; readonly failure: RemoteFailure }
  /** Comes with the socket; it is the child's once `accepted` names its id. */
  | { readonly kind: "connection"; readonly id: number; readonly listener: string }
  | { readonly kind: "exit"; readonly exit: ProcessExit }
  /** Stop admitting, wait for running jobs within your own grace, exit 0. */
  | { readonly kind: "drain" }
  /** A successor waits: finish the responses in flight and exit 0; connections and workers stay with the parent. */
  | { readonly kind: "handover" };

export type MessageToSupervisor =
  | { readonly kind: "request"; readonly request: number; readonly body: ChildRequest }
  | { readonly kind: "accepted"; readonly id: number }
  /** The child serves: connections may be offered, and its exit code is no longer one of start-up. */
  | { readonly kind: "ready" }
  /** The child ends by its own choice and wants no successor. */
  | { readonly kind: "bye" };
