import type { WorkerId } from "../../core/model.ts";
import type { Clock } from "../../ports/clock.ts";
import type { ContainerDetails, Containers, SeenContainer } from "./containers.ts";
import type { EngineEvent } from "./engine-events.ts";
import type { Quarantine } from "./quarantine.ts";
import { type Entry, isUp, type Roster } from "./roster.ts";

export type Survey = {
  /**
   * Compares what is known with what the engine has, and tells the ends that it finds. `closely` looks into each running container too: for
   * what no listing shows. One look at a time; a look asked for while one runs follows it.
   */
  look(options?: { readonly closely?: boolean; readonly afterAbsence?: boolean }): Promise<void>;
  /** Looks into the container that an event is about: a listing may still show what was before. */
  hear(event: EngineEvent): Promise<void>;
  /** A container was just taken in: what was heard of it before was put by. */
  catchUp(entry: Entry): Promise<void>;
};

export type SurveyDeps = {
  readonly roster: Roster;
  readonly containers: Containers;
  readonly quarantine: Quarantine;
  /** Workers whose container is being made: not ours to judge yet. */
  readonly starting: ReadonlySet<WorkerId>;
  /** Ends a container's processes now. */
  readonly end: (entry: Entry) => Promise<void>;
  /** Lets a frozen one go on. */
  readonly thaw: (entry: Entry) => Promise<void>;
  readonly clock: Clock;
};

/** Containers looked into at a time. */
const MAX_AT_ONCE = 16;
/** The engine notes an out-of-memory kill a moment after the end that it caused. */
const OOM_NOTE_MS = 200;
const KILLED_CODE = 137;
/** Containers not taken in yet of which an out-of-memory event was heard; others are never asked for. */
const MAX_EARLY = 1_000;
/** A removal begins with the same signal as a stop. */
const STOPPED = "stopped or removed";
/** Signals by which people and tools end a container. */
const ENDING_SIGNALS: ReadonlySet<string> = new Set([
  "2",
  "3",
  "9",
  "15",
  "SIGINT",
  "SIGQUIT",
  "SIGKILL",
  "SIGTERM",
]);
/** Events after which a container is not what it was. */
const TELLING: ReadonlySet<string> = new Set(["die", "destroy", "pause", "restart", "start", "stop"]);

export function createSurvey(deps: SurveyDeps): Survey {
  const { roster, containers, quarantine, starting, clock } = deps;
  let queue: Promise<void> = Promise.resolve();
  /** A fast worker has its job, and outgrows its memory with it, before its start is over. */
  const early = new Set<string>();

  async function look(closely: boolean, afterAbsence: boolean): Promise<void> {
    await quarantine.retry();
    // One that joins while the engine is being asked is not missing from its answer.
    const before = roster.all();
    const seen = (await containers.list()).filter(({ id, name }) => !quarantine.has(id, name));
    const present = new Set(seen.map(({ id }) => id));
    for (let first = 0; first < seen.length; first += MAX_AT_ONCE)
      await Promise.all(
        seen.slice(first, first + MAX_AT_ONCE).map((each) => lookAt(each, closely, afterAbsence)),
      );
    await Promise.all(
      before
        .filter(isCurrent)
        .filter(({ containerId }) => !present.has(containerId))
        .map((entry) => judge(entry, null, false)),
    );
  }

  async function lookAt(container: SeenContainer, closely: boolean, afterAbsence: boolean): Promise<void> {
    const { id, workerId, status } = container;
    if (starting.has(workerId)) return;
    // Made and never started: a daemon ended in between.
    if (status === "created") return quarantine.drop(id);
    const entry = roster.get(workerId) ?? (await adopt(container));
    if (entry === null || isSettled(entry)) return;
    if (entry.containerId !== id) return quarantine.drop(id);
    if (status === "running" && !closely) return;
    await judge(entry, await containers.inspect(id), afterAbsence);
  }

  /** A container of an earlier daemon. One that has ended is told of by `list`, not as news. */
  async function adopt(container: SeenContainer): Promise<Entry | null> {
    const details = await containers.inspect(container.id);
    if (details === null) return null;
    const entry = await roster.add(container, details);
    await catchUp(entry);
    return entry;
  }

  async function catchUp(entry: Entry): Promise<void> {
    if (early.delete(entry.containerId)) await noteOom(entry);
  }

  /** The kernel ended a process of it. Whether that was the worker itself, the end shows; where it was not, there is none to come (F-14). */
  async function noteOom(entry: Entry): Promise<void> {
    if (entry.asked !== null || entry.exit !== null || entry.ending) return;
    entry.oom = true;
    await deps.end(entry);
  }

  function putBy(containerId: string): void {
    early.add(containerId);
    for (const oldest of early) if (early.size > MAX_EARLY) early.delete(oldest);
  }

  async function judge(entry: Entry, details: ContainerDetails | null, unseen: boolean): Promise<void> {
    if (isSettled(entry)) return;
    if (details === null) return roster.conclude(entry, null);
    if (isUp(details)) return judgeRunning(entry, details);
    if (details.status === "removing" || entry.asleep === "stopped") return;
    await roster.conclude(entry, await withOom(entry, details), unseen && !entry.isOld);
  }

  async function judgeRunning(entry: Entry, details: ContainerDetails): Promise<void> {
    if (entry.asked !== null) return;
    if (details.status === "paused" && entry.asleep !== "frozen") return endForeign(entry, "paused");
    if (details.startedAt !== entry.startedAt) return endForeign(entry, "restarted");
    if (!details.oomKilled) return;
    // Newer engines keep what the event said.
    entry.oom = true;
    await deps.end(entry);
  }

  /** A worker that somebody beside rpx has paused or started anew: its jobs cannot wait for it, and its id is used up. */
  async function endForeign(entry: Entry, what: string): Promise<void> {
    entry.byHand = { what, atMs: clock.nowMs() };
    await deps.end(entry);
  }

  async function withOom(entry: Entry, details: ContainerDetails | null): Promise<ContainerDetails | null> {
    const isMaybe =
      details?.exitCode === KILLED_CODE &&
      !details.oomKilled &&
      details.memoryBytes !== null &&
      entry.asked === null;
    if (!isMaybe || entry.oom) return details;
    await clock.sleep(OOM_NOTE_MS);
    return (await containers.inspect(entry.containerId)) ?? details;
  }

  /** Somebody asks it to end: one that stands still behind the engine's back would never hear. */
  function noteStop(entry: Entry): void {
    entry.byHand = { what: STOPPED, atMs: clock.nowMs() };
    if (entry.asleep === "frozen" && !entry.isPaused) void deps.thaw(entry).catch(() => {});
  }

  return {
    look({ closely = false, afterAbsence = false } = {}) {
      const next = queue.then(() => look(closely, afterAbsence));
      queue = next.catch(() => {});
      return next;
    },
    async hear(event) {
      const { action, attributes } = event;
      const entry = roster.find(event.containerId);
      if (action === "oom") return entry === undefined ? putBy(event.containerId) : noteOom(entry);
      if (entry === undefined || isSettled(entry)) return;
      const isForeignSignal = action === "kill" && ENDING_SIGNALS.has(attributes.signal ?? "");
      if (isForeignSignal && !isEndedByUs(entry)) noteStop(entry);
      if (TELLING.has(action)) await judge(entry, await containers.inspect(entry.containerId), false);
    },
    catchUp,
  };

  /** Not forgotten meanwhile. */
  function isCurrent(entry: Entry): boolean {
    return roster.get(entry.workerId) === entry;
  }
}

/** Whether a signal to it now is one of ours. */
function isEndedByUs({ asked, asleep, oom, overDisk, byHand }: Entry): boolean {
  const isForeign = byHand !== null && byHand.what !== STOPPED;
  return asked !== null || asleep === "stopped" || oom || overDisk !== null || isForeign;
}

/** Nothing that the engine shows of it now means anything. */
function isSettled({ exit, ending, busy }: Entry): boolean {
  return exit !== null || ending || busy;
}
