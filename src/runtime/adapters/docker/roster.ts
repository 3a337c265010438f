import type { AskedEnd } from "../../core/exit-reason.ts";
import type { EndpointId, WorkerId } from "../../core/model.ts";
import type { Clock } from "../../ports/clock.ts";
import type { LogStore } from "../../ports/log-store.ts";
import type { SleepDepth, WorkerExit } from "../../ports/worker-pool.ts";
import { containerExit } from "./container-exit.ts";
import { containerName } from "./container-spec.ts";
import type { ContainerDetails, Containers, SeenContainer } from "./containers.ts";
import type { Engine } from "./engine.ts";
import type { FindFreezer, Freezer } from "./freezer.ts";
import { followLog, type LogFollower } from "./log-follow.ts";

/** A worker and what is known of its container. */
export type Entry = {
  readonly workerId: WorkerId;
  readonly endpointId: EndpointId;
  readonly containerId: string;
  readonly diskBytesLimit: number | null;
  asleep: SleepDepth | null;
  asked: AskedEnd | null;
  /** The run of its program: another value is another run, which nobody here began. */
  startedAt: string;
  /** Being put to sleep or woken: what the engine shows meanwhile means nothing. */
  busy: boolean;
  /** The kernel's switch of it, where this daemon may use it. */
  freezer: Freezer | null;
  /** The engine holds it, and must be the one to let it go on. */
  isPaused: boolean;
  follower: LogFollower;
  byHand: { readonly what: string; readonly atMs: number } | null;
  oom: boolean;
  overDisk: string | null;
  /** Set once, when its end is being told. */
  ending: boolean;
  /** It had ended before this daemon first saw it: `list` tells, nobody is called. */
  isOld: boolean;
  exit: WorkerExit | null;
};

/** The workers that this daemon knows of, and how each is told to have ended. */
export type Roster = {
  all(): readonly Entry[];
  get(workerId: WorkerId): Entry | undefined;
  find(containerId: string): Entry | undefined;
  /** Takes a container in, its output followed from now on. */
  add(container: Joining, details: ContainerDetails): Promise<Entry>;
  /** Tells how a worker ended, once, after its last lines were written. `details` null: its container is gone. */
  conclude(entry: Entry, details: ContainerDetails | null, unseen?: boolean): Promise<void>;
  delete(workerId: WorkerId): void;
  onExit(listener: (exit: WorkerExit) => void): () => void;
  close(): Promise<void>;
};

type Joining = Pick<SeenContainer, "id" | "name" | "workerId" | "endpointId" | "diskBytesLimit">;

export type RosterDeps = {
  readonly engine: Engine;
  readonly containers: Containers;
  readonly logs: Pick<LogStore, "pathOf" | "lastLines" | "read">;
  readonly clock: Clock;
  readonly findFreezer: FindFreezer;
  readonly log: { warn(fields: object, message: string): void };
};

/** An end is told when its last lines are written, or after this. */
const OUTPUT_END_MS = 1_000;
/** Lines among which the last one with text is looked for. */
const LAST_WORDS_LINES = 5;
/** What somebody did to a container explains an end this long after it; the engine's own stop takes 10 s. */
const BY_HAND_MS = 15_000;
/** The name of a container that is kept while its worker sleeps says so: a restarted daemon knows it by that. */
const PARKED_SUFFIX = ".parked";

export function parkedName(workerId: WorkerId): string {
  return `${containerName(workerId)}${PARKED_SUFFIX}`;
}

export function createRoster(deps: RosterDeps): Roster {
  const { engine, clock, logs } = deps;
  const entries = new Map<WorkerId, Entry>();
  const listeners = new Set<(exit: WorkerExit) => void>();

  async function add(container: Joining, details: ContainerDetails): Promise<Entry> {
    const { id: containerId, workerId, endpointId, diskBytesLimit } = container;
    const isParked = container.name.endsWith(PARKED_SUFFIX) && !isUp(details);
    const freezer = engine.isSocket ? await deps.findFreezer({ pid: details.pid, containerId, clock }) : null;
    const isFrozen = details.status === "paused" || (await freezer?.isFrozen()) === true;
    const entry: Entry = {
      ...{ workerId, endpointId, containerId, diskBytesLimit, freezer },
      asleep: isParked ? "stopped" : isFrozen ? "frozen" : null,
      isPaused: details.status === "paused",
      startedAt: details.startedAt,
      follower: followLog(deps, { containerId, endpointId, workerId }),
      ...{ asked: null, busy: false, byHand: null, oom: false, overDisk: null, ending: false, exit: null },
      isOld: !isUp(details) && !isParked,
    };
    entries.set(workerId, entry);
    return entry;
  }

  async function conclude(entry: Entry, details: ContainerDetails | null, unseen = false): Promise<void> {
    if (entry.ending) return;
    entry.ending = true;
    // What is asked while its last lines come is not why it ended.
    const { workerId, endpointId, asked } = entry;
    const limit = new AbortController();
    await Promise.race([entry.follower.ended, clock.sleep(OUTPUT_END_MS, limit.signal)]);
    limit.abort();
    const { oom, overDisk, byHand } = entry;
    const isRecent = byHand !== null && clock.nowMs() - byHand.atMs < BY_HAND_MS;
    entry.exit = containerExit({
      ...{ workerId, details, asked, oom, overDisk, unseen },
      byHand: isRecent ? byHand.what : null,
      lastLines: logs.lastLines(endpointId, workerId, LAST_WORDS_LINES),
    });
    if (entry.isOld) return;
    for (const listener of [...listeners]) listener(entry.exit);
  }

  return {
    all: () => [...entries.values()],
    get: (workerId) => entries.get(workerId),
    find: (containerId) => [...entries.values()].find((entry) => entry.containerId === containerId),
    add,
    conclude,
    delete(workerId) {
      void entries.get(workerId)?.follower.stop();
      entries.delete(workerId);
    },
    onExit(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    async close() {
      await Promise.all([...entries.values()].map(({ follower }) => follower.stop()));
    },
  };
}

export function isUp({ status }: { readonly status: string }): boolean {
  return status === "running" || status === "paused" || status === "restarting";
}
