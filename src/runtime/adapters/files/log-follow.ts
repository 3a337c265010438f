import { watch } from "node:fs";
import type { WorkerId } from "../../core/model.ts";
import type { Clock } from "../../ports/clock.ts";
import type { LogLine } from "../../ports/log-store.ts";
import { openIfThere, parseLine, readAt, segmentId, segmentsOf } from "./log-segments.ts";

/** How far a follower has read a worker's log. */
export type LogCursor = { readonly segment: string; readonly offset: number };
type Step = { readonly lines: readonly LogLine[]; readonly cursor: LogCursor | null; readonly more: boolean };

/** Read of one worker before the next one gets its turn. */
const STEP_BYTES = 256 * 1024;
/** Where the kernel's notices cannot be had (too many watches, a network file system), and for what they miss. */
const POLL_MS = 1_000;
/** Notices within this time are one. */
const COALESCE_MS = 50;
const NEWLINE = 10;

/**
 * Reads on behind a cursor: at most {@link STEP_BYTES}, over renamed segments into the current one. A null cursor begins at the
 * oldest segment. `more` says that another step would find something already.
 */
async function step(
  path: string,
  workerId: WorkerId,
  cursor: LogCursor | null,
  nowMs: number,
): Promise<Step> {
  const segments = await segmentsOf(path);
  const index = segments.findIndex(({ id, size }) => id === cursor?.segment && size >= cursor.offset);
  const oldest = segments.at(-1);
  if (oldest === undefined) return { lines: [], cursor, more: false };
  if (cursor === null || index === -1) {
    // Renamed twice since the last look: more than two segments came at once.
    const lines = cursor === null ? [] : [lostLines(workerId, nowMs)];
    return { lines, cursor: { segment: oldest.id, offset: 0 }, more: true };
  }
  const read = await readOn(segments[index]?.path ?? path, workerId, cursor);
  if (read === null || read.more) return read ?? { lines: [], cursor, more: true };
  const next = segments[index - 1];
  return next === undefined ? read : { ...read, cursor: { segment: next.id, offset: 0 }, more: true };
}

/** Null when the segment was renamed between looking and opening. */
async function readOn(path: string, workerId: WorkerId, cursor: LogCursor): Promise<Step | null> {
  const handle = await openIfThere(path);
  if (handle === null) return null;
  await using file = handle;
  const stats = await file.stat();
  if (segmentId(stats) !== cursor.segment) return null;
  const bytes = await readAt(file, cursor.offset, Math.min(STEP_BYTES, stats.size - cursor.offset));
  const wholeBytes = bytes.lastIndexOf(NEWLINE) + 1;
  // A full step without a line break is nothing the supervisor wrote: passed over.
  const usedBytes = wholeBytes === 0 && bytes.length === STEP_BYTES ? bytes.length : wholeBytes;
  const texts = bytes.toString("utf8", 0, wholeBytes).split("\n");
  const lines = texts.flatMap((text) => parseLine(text, workerId) ?? []);
  const offset = cursor.offset + usedBytes;
  return { lines, cursor: { ...cursor, offset }, more: usedBytes > 0 && offset < stats.size };
}

function lostLines(workerId: WorkerId, nowMs: number): LogLine {
  return {
    tsMs: nowMs,
    source: "stderr",
    workerId,
    line: "[rpx: lines are missing here: they came faster than they were read]",
  };
}

/**
 * Calls back with what the logs in a folder grow by, until the signal aborts or `isOver` says so. `cursors` says where each
 * worker's log was read to; a worker that comes later is read from its beginning.
 */
export async function followFolder(options: {
  readonly folder: string;
  readonly cursors: Map<WorkerId, LogCursor | null>;
  readonly workersIn: () => Promise<readonly WorkerId[]>;
  readonly isFollowed: (workerId: WorkerId) => boolean;
  readonly pathOf: (workerId: WorkerId) => string;
  readonly clock: Clock;
  readonly onLines: (lines: readonly LogLine[]) => void;
  readonly isOver: () => boolean;
  readonly signal: AbortSignal;
}): Promise<void> {
  const { cursors, clock, signal } = options;
  using bell = createBell(options.folder, clock);
  let changed: ReadonlySet<WorkerId> | null = null;
  while (!signal.aborted && !options.isOver()) {
    const workerIds = changed === null ? await options.workersIn() : [...changed].filter(options.isFollowed);
    const lines = await passOver(workerIds);
    if (lines.length > 0 && !signal.aborted) options.onLines(lines);
    changed = await bell.next(signal);
  }

  /** One round over workers, each read to its end in bounded steps; a flood is handed on in parts. */
  async function passOver(workerIds: readonly WorkerId[]): Promise<LogLine[]> {
    const found: LogLine[] = [];
    for (const workerId of workerIds) {
      let more = true;
      while (more && !signal.aborted) {
        const read = await step(
          options.pathOf(workerId),
          workerId,
          cursors.get(workerId) ?? null,
          clock.nowMs(),
        );
        cursors.set(workerId, read.cursor);
        more = read.more;
        found.push(...read.lines);
        if (more && found.length > 0) options.onLines(found.splice(0).sort(byTime));
      }
    }
    return found.sort(byTime);
  }
}

/** For sorting lines; those of one worker stay in the order they were written. */
export function byTime(a: LogLine, b: LogLine): number {
  return a.tsMs - b.tsMs;
}

/** Waits for a change in a folder: resolves with the workers whose logs changed, or null when all must be looked at. */
function createBell(folder: string, clock: Clock) {
  let changed = new Set<WorkerId>();
  let ring: () => void = () => {};
  const watcher = watchQuietly(folder, (name) => {
    const workerId = name?.split(".log")[0];
    if (workerId) changed.add(workerId as WorkerId);
    ring();
  });

  return {
    async next(signal: AbortSignal): Promise<ReadonlySet<WorkerId> | null> {
      const rung = new AbortController();
      ring = () => rung.abort();
      if (changed.size === 0) await clock.sleep(POLL_MS, AbortSignal.any([signal, rung.signal]));
      if (changed.size === 0) return null;
      await clock.sleep(COALESCE_MS, signal);
      const seen = changed;
      changed = new Set();
      return seen;
    },
    [Symbol.dispose]: () => watcher?.close(),
  };
}

function watchQuietly(folder: string, onChange: (name: string | null) => void) {
  try {
    const watcher = watch(folder, { persistent: false }, (_, name) => onChange(name));
    // The poll goes on without it.
    watcher.on("error", () => watcher.close());
    return watcher;
  } catch {
    return null;
  }
}
