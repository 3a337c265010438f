/** Keeps one daemon child running, replaces it, and ends everything in order. */
import { setTimeout as sleep } from "node:timers/promises";
import { type ChildEnd, type DaemonChild, startDaemonChild } from "./daemon-child.ts";
import type { Sockets } from "./sockets.ts";
import type { Workers } from "./workers.ts";

/** Before a crashed child is started again: doubled with each crash in a row, with up to a fifth more or less. */
const FIRST_RESTART_MS = 50;
const MAX_RESTART_MS = 2000;
/** A child that served this long ended a row of crashes. */
const STEADY_MS = 1000;
/** The old child may answer what it has begun for this long, then it is killed. */
const MAX_HANDOVER_MS = 30_000;
/** A socket that the new child has not asked for after this is closed, so that nobody waits at it for ever. */
const UNCLAIMED_MS = 60_000;
/** Exit codes of start-up that a restart cannot cure: usage, not found, not allowed, wrong state. */
const FATAL_START_CODES: ReadonlySet<number> = new Set([2, 3, 4, 6]);
const EXIT_BUG = 1;

export type Supervision = {
  /** Resolves with the exit code once no child runs and none will: workers and sockets are still there. */
  run(): Promise<number>;
  /** Ends the child in its own time and starts none after it. */
  drain(): void;
  /** Replaces the child; false when there is none that serves. */
  replace(): boolean;
  /** Kills the child. */
  kill(): void;
};

type Phase = "serving" | "replacing" | "draining";

export function createSupervision(options: {
  entry: string;
  config: unknown;
  sockets: Sockets;
  workers: Workers;
  /** Hears each child's pid, so that a later supervisor can find it. */
  onChild: (pid: number | undefined) => void;
  log: (text: string) => void;
}): Supervision {
  const { sockets, log } = options;
  const pause = new AbortController();
  let phase: Phase = "serving";
  let child: DaemonChild | null = null;
  let crashes = 0;

  const drain = (): void => {
    phase = "draining";
    child?.ask("drain");
    pause.abort();
  };
  const runChild = async (): Promise<ChildEnd> => {
    let readyAtMs = Number.POSITIVE_INFINITY;
    let unclaimed: NodeJS.Timeout | undefined;
    const onReady = (): void => {
      readyAtMs = performance.now();
      unclaimed = setTimeout(() => logClosed(log, sockets.closeUnclaimed()), UNCLAIMED_MS);
    };
    child = startDaemonChild({ ...options, onReady, onBye: drain });
    options.onChild(child.pid);
    const end = await child.ended;
    clearTimeout(unclaimed);
    child = null;
    if (performance.now() - readyAtMs >= STEADY_MS) crashes = 0;
    return end;
  };
  const restartDelay = async (end: ChildEnd): Promise<void> => {
    const delayMs = restartDelayMs(crashes);
    crashes += 1;
    log(`the daemon ended (${describeEnd(end)}); it is started again in ${delayMs} ms`);
    await sleep(delayMs, undefined, { signal: pause.signal }).catch(() => {});
  };
  /** A function of its own, because signals change the phase between two looks at it. */
  const isIn = (wanted: Phase): boolean => phase === wanted;

  const run = async (): Promise<number> => {
    while (!isIn("draining")) {
      const end = await runChild();
      if (isIn("draining")) return end.code ?? EXIT_BUG;
      if (!end.wasReady && end.code !== null && FATAL_START_CODES.has(end.code)) return end.code;
      if (isIn("replacing")) phase = "serving";
      else await restartDelay(end);
    }
    return 0;
  };
  const replace = (): boolean => {
    if (child === null || !child.isReady() || phase !== "serving") return false;
    const old = child;
    phase = "replacing";
    old.ask("handover");
    const limit = setTimeout(() => old.kill(), MAX_HANDOVER_MS);
    void old.ended.then(() => clearTimeout(limit));
    return true;
  };
  return { run, drain, replace, kill: () => child?.kill() };
}

/** Milliseconds before the restart after `crashes` crashes in a row. */
export function restartDelayMs(crashes: number): number {
  const steadyMs = Math.min(MAX_RESTART_MS, FIRST_RESTART_MS * 2 ** Math.min(crashes, 20));
  return Math.round(steadyMs * (0.8 + 0.4 * Math.random()));
}

function describeEnd(end: ChildEnd): string {
  if (end.error !== null) return `it could not be started: ${end.error.message}`;
  return end.signal === null ? `exit ${end.code}` : end.signal;
}

function logClosed(log: (text: string) => void, names: readonly string[]): void {
  if (names.length > 0) log(`closed listeners that the daemon no longer asks for: ${names.join(", ")}`);
}
