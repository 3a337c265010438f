/** Worker processes: started in groups of their own, listened to, signalled, and remembered until forgotten. */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { HostedProcess, ProcessExit, ProcessHost, ProcessSpec } from "../runtime/ports/process-host.ts";
import { type Capture, captureOutput } from "./output.ts";
import { readStartTime, signalGroup } from "./process-identity.ts";

/** Live workers at once; each costs two pipes and a log file. */
export const MAX_WORKERS = 1024;
/** Exits kept for a daemon that is away; the oldest go first. */
export const MAX_KEPT_EXITS = 4096;
/** An exit is announced when its last lines are written, or after this. */
const OUTPUT_END_MS = 1000;
/** Between SIGTERM and SIGKILL when everything stops. */
export const STOP_GRACE_MS = 5000;
/** How long the kernel may take to end what was killed. */
const KILL_WAIT_MS = 2000;

/** Where a live worker can be found again by another supervisor. */
export type LiveWorker = { readonly id: string; readonly pid: number; readonly startTime: string };

export type Workers = ProcessHost & {
  /** SIGTERM to every group, SIGKILL after {@link STOP_GRACE_MS}; resolves when all are gone. */
  stopAll(): Promise<void>;
  /** SIGKILL to every group, now. */
  killAll(): void;
};

type Worker = { hosted: HostedProcess; readonly ended: Promise<void> };
type WorkerChild = ChildProcessByStdio<null, Readable, Readable>;

/** `onLive` hears the live workers after each change, before a spawn is answered. */
export function createWorkers(options: { onLive?: (live: readonly LiveWorker[]) => void } = {}): Workers {
  const workers = new Map<string, Worker>();
  const starting = new Set<string>();
  const listeners = new Set<(exit: ProcessExit) => void>();

  const live = (): HostedProcess[] =>
    [...workers.values()].map((worker) => worker.hosted).filter((hosted) => hosted.exit === null);
  const announceLive = (): void =>
    options.onLive?.(live().map(({ id, pid, startTime }) => ({ id, pid, startTime })));

  const recordExit = (exit: ProcessExit): void => {
    const worker = workers.get(exit.id);
    if (worker !== undefined) worker.hosted = { ...worker.hosted, exit };
    dropOldExits(workers);
    announceLive();
    for (const listener of listeners) listener(exit);
  };

  const start = async (spec: ProcessSpec): Promise<HostedProcess> => {
    const child = launch(spec);
    const exited = exitOf(child);
    await spawned(child, spec);
    const pid = child.pid ?? 0;
    const capture = captureOutput({
      logPath: spec.logPath,
      stdout: child.stdout,
      stderr: child.stderr,
      nowMs: Date.now,
    });
    const hosted = { id: spec.id, pid, startTime: (await readStartTime(pid)) ?? "", exit: null };
    const ended = exited.then(async ({ code, signal, atMs }) => {
      await endGroup(pid, capture);
      recordExit({ id: spec.id, pid, code, signal, atMs });
    });
    workers.set(spec.id, { hosted, ended });
    announceLive();
    return hosted;
  };

  return {
    spawn: async (spec) => {
      if (workers.has(spec.id) || starting.has(spec.id))
        throw new Error(`worker ${spec.id} was started before`);
      if (live().length + starting.size >= MAX_WORKERS) throw new Error(`${MAX_WORKERS} workers run already`);
      starting.add(spec.id);
      try {
        return await start(spec);
      } finally {
        starting.delete(spec.id);
      }
    },
    signal: async (id, signal) => {
      const hosted = workers.get(id)?.hosted;
      return hosted !== undefined && hosted.exit === null && signalGroup(hosted.pid, signal);
    },
    list: async () => [...workers.values()].map((worker) => worker.hosted),
    forget: async (id) => {
      if (workers.get(id)?.hosted.exit) workers.delete(id);
    },
    onExit: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    stopAll: () => stopAll([...workers.values()].filter((worker) => worker.hosted.exit === null)),
    killAll: () => {
      for (const { pid } of live()) signalGroup(pid, "SIGKILL");
    },
  };
}

/** Detached gives the worker a session and group of its own; nothing of our environment is passed on. */
function launch(spec: ProcessSpec): WorkerChild {
  return spawn(spec.file, spec.args, {
    cwd: spec.cwd,
    env: { ...spec.env },
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
  });
}

/** Resolves when the program runs; Node blames the program for a missing folder, we name the folder. */
function spawned(child: WorkerChild, spec: ProcessSpec): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once("spawn", resolve);
    child.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT" || existsSync(spec.cwd)) return reject(error);
      reject(Object.assign(new Error(`no such folder: ${spec.cwd}`), { code: "ENOENT" }));
    });
  });
}

function exitOf(
  child: WorkerChild,
): Promise<{ code: number | null; signal: NodeJS.Signals | null; atMs: number }> {
  return new Promise((resolve) => {
    child.once("exit", (code, signal) => resolve({ code, signal, atMs: Date.now() }));
  });
}

/**
 * After its leader a group has no reason to live: RunPod's SDK leaves a ping process behind that would report a dead
 * worker as alive. A process that left the group may keep the pipes open: it is not waited for.
 */
async function endGroup(pid: number, capture: Capture): Promise<void> {
  signalGroup(pid, "SIGKILL");
  await within(OUTPUT_END_MS, capture.done);
  capture.abandon();
  await within(OUTPUT_END_MS, capture.done);
}

function dropOldExits(workers: Map<string, Worker>): void {
  const exited = [...workers].filter(([, worker]) => worker.hosted.exit !== null);
  for (const [id] of exited.slice(0, Math.max(0, exited.length - MAX_KEPT_EXITS))) workers.delete(id);
}

/** SIGCONT follows SIGTERM, because a frozen worker would only hear it when thawed. */
async function stopAll(stopping: readonly Worker[]): Promise<void> {
  const ended = Promise.all(stopping.map((worker) => worker.ended));
  for (const { hosted } of stopping) {
    signalGroup(hosted.pid, "SIGTERM");
    signalGroup(hosted.pid, "SIGCONT");
  }
  await within(STOP_GRACE_MS, ended);
  for (const { hosted } of stopping) if (hosted.exit === null) signalGroup(hosted.pid, "SIGKILL");
  await within(KILL_WAIT_MS, ended);
}

/** Resolves with the promise or after `limitMs`, whichever is first, and leaves no timer behind. */
async function within(limitMs: number, promise: Promise<unknown>): Promise<void> {
  const limit = new AbortController();
  await Promise.race([promise, sleep(limitMs, undefined, { signal: limit.signal }).catch(() => {})]);
  limit.abort();
}
