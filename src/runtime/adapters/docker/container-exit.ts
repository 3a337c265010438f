import { formatSize } from "../../../text/size.ts";
import { type AskedEnd, exitReason, signalOfCode } from "../../core/exit-reason.ts";
import type { WorkerId } from "../../core/model.ts";
import type { WorkerExit } from "../../ports/worker-pool.ts";
import type { ContainerDetails } from "./containers.ts";

/** What is known of a container's end beside what the engine says of it. */
export type EndFacts = {
  readonly workerId: WorkerId;
  /** Null: it is not there any more. */
  readonly details: ContainerDetails | null;
  readonly asked: AskedEnd | null;
  /** What somebody beside rpx did to it, as a sentence goes on: "stopped". */
  readonly byHand: string | null;
  /** A process in it was ended for want of memory. */
  readonly oom: boolean;
  /** Why it was ended for its disk, in words. */
  readonly overDisk: string | null;
  /** It ended while the engine could not be asked. */
  readonly unseen: boolean;
  readonly lastLines: readonly string[];
};

/** Signals by number as Linux has them: containers are Linux, whatever this daemon runs on. */
const SIGNAL_NUMBERS: Readonly<Record<string, number>> = {
  ...{
    SIGHUP: 1,
    SIGINT: 2,
    SIGQUIT: 3,
    SIGILL: 4,
    SIGTRAP: 5,
    SIGABRT: 6,
    SIGBUS: 7,
    SIGFPE: 8,
    SIGKILL: 9,
  },
  ...{ SIGUSR1: 10, SIGSEGV: 11, SIGUSR2: 12, SIGPIPE: 13, SIGALRM: 14, SIGTERM: 15, SIGSTKFLT: 16 },
  ...{ SIGXCPU: 24, SIGXFSZ: 25, SIGSYS: 31 },
};
/** An init process says so of a program that it cannot find or run. */
const NOT_FOUND = 127;
const NOT_RUNNABLE = 126;

/** How a worker's container ended, for people and for the reconciler. Pure. */
export function containerExit(facts: EndFacts): WorkerExit {
  const { workerId, details, asked } = facts;
  if (details === null && asked === null)
    return gone(workerId, `its container was ${facts.byHand ?? "removed"} by hand`);
  const code = details?.exitCode ?? null;
  // An init process is the container's first: it passes the signal that ended the worker on as a code.
  const signal = code === null ? null : signalOfCode(code, SIGNAL_NUMBERS);
  const end = { workerId, code: signal === null ? code : null, signal };
  if (asked === null) {
    const { overDisk, byHand } = facts;
    if (overDisk !== null) return { ...end, reason: overDisk, cause: "disk" };
    if (facts.oom || details?.oomKilled === true) return { ...end, reason: oomReason(details), cause: "oom" };
    if (byHand !== null) return { ...end, reason: `its container was ${byHand} by hand`, cause: "removed" };
  }
  // Removed before its end was looked at, or asleep: it ended as it was asked to.
  if (details === null) return askedEnd(workerId, asked);
  return { ...end, reason: plainReason(facts, details, end) };
}

function gone(workerId: WorkerId, reason: string): WorkerExit {
  return { workerId, code: null, signal: null, reason, cause: "removed" };
}

function askedEnd(workerId: WorkerId, asked: AskedEnd | null): WorkerExit {
  return asked === "stop"
    ? { workerId, code: 0, signal: null, reason: "stopped by rpx" }
    : { workerId, code: null, signal: "SIGKILL", reason: "killed by rpx" };
}

function oomReason(details: ContainerDetails | null): string {
  const limit = details?.memoryBytes ?? null;
  return limit === null
    ? "ran out of memory: the machine had none left"
    : `ran out of memory: its limit is ${formatSize(limit)}`;
}

function plainReason(
  { asked, lastLines, unseen }: EndFacts,
  { exitCode, error }: ContainerDetails,
  { code, signal }: Pick<WorkerExit, "code" | "signal">,
): string {
  if (asked === null && error !== "") return `could not run: ${error}`;
  const reason = exitReason({ code, signal, asked, lastLines, signalNumbers: SIGNAL_NUMBERS });
  if (asked !== null) return reason;
  if (exitCode === NOT_FOUND || exitCode === NOT_RUNNABLE) return `its program could not be run: ${reason}`;
  return unseen ? `ended while the Docker engine was away: ${reason}` : reason;
}
