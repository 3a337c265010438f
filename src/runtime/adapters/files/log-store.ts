import { readdirSync } from "node:fs";
import { mkdir, readdir, stat } from "node:fs/promises";
import path from "node:path";
import { RpxError } from "../../../contract/error.ts";
import type { EndpointId, WorkerId } from "../../core/model.ts";
import type { Clock } from "../../ports/clock.ts";
import type { LogLine, LogQuery, LogStore } from "../../ports/log-store.ts";
import { byTime, followFolder, type LogCursor } from "./log-follow.ts";
import { pruneLogs } from "./log-prune.ts";
import {
  lineEnd,
  openIfThere,
  readEndSync,
  readTail,
  type Segment,
  segmentId,
  segmentsOf,
} from "./log-segments.ts";

/** Answers beyond these are cut to the newest lines. */
const MAX_TAIL_LINES = 50_000;
const MAX_TAIL_BYTES = 64 * 1024 * 1024;
/** Read for a worker's last words. */
const LAST_LINES_BYTES = 16 * 1024;
/** A file's time is written after its last line's stamp was taken. */
const STAMP_SLACK_MS = 5_000;
/** Ids as they appear in paths (T-20). */
const SAFE_ID = /^[A-Za-z0-9_-]{1,64}$/;
const CURRENT = /^([A-Za-z0-9_-]{1,64})\.log$/;

export type FileLogStore = LogStore & {
  /** Whose log there is of a worker that nobody remembers, or null. */
  endpointOf(workerId: WorkerId): EndpointId | null;
};

type WorkerLog = { readonly workerId: WorkerId; readonly path: string; readonly writtenAtMs: number };
type Limits = ReadonlyMap<string, number> | null;

/**
 * Reads the bounded files that the supervisor writes: `<dataDir>/logs/<endpoint>/<worker>.log` and its older segments. Nothing is
 * kept in memory between calls.
 */
export function createLogStore(deps: { readonly dataDir: string; readonly clock: Clock }): FileLogStore {
  const root = path.join(deps.dataDir, "logs");

  function folderOf(endpointId: EndpointId): string {
    return path.join(root, safeId(endpointId));
  }
  function pathOf(endpointId: EndpointId, workerId: WorkerId): string {
    return path.join(folderOf(endpointId), `${safeId(workerId)}.log`);
  }

  async function logsOf({ endpointId, workerId }: LogQuery): Promise<WorkerLog[]> {
    const workerIds = workerId === undefined ? await workersIn(folderOf(endpointId)) : [workerId];
    const found = await Promise.all(workerIds.map((id) => describeLog(pathOf(endpointId, id), id)));
    return found.filter((log) => log !== null).sort((a, b) => b.writtenAtMs - a.writtenAtMs);
  }

  /** Newest logs first, and none whose last line is older than what is kept already. */
  async function read(query: LogQuery, limits: Limits): Promise<LogLine[]> {
    const lines = Math.min(query.tail, MAX_TAIL_LINES);
    const sinceMs = query.sinceMs ?? 0;
    const untilMs = query.untilMs ?? Number.POSITIVE_INFINITY;
    const options = { lines, bytes: MAX_TAIL_BYTES, sinceMs, untilMs, limits };
    let kept: LogLine[] = [];
    if (lines <= 0) return kept;
    for (const log of await logsOf(query)) {
      const oldestMs = kept.length < lines ? sinceMs : (kept[0]?.tsMs ?? sinceMs);
      if (log.writtenAtMs + STAMP_SLACK_MS < oldestMs) break;
      kept = [...kept, ...(await readTail(log.path, log.workerId, options))].sort(byTime).slice(-lines);
    }
    return kept;
  }

  async function follow(query: LogQuery, onLines: (lines: readonly LogLine[]) => void, signal: AbortSignal) {
    const folder = folderOf(query.endpointId);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const { cursors, limits } = await snapshot(await logsOf(query));
    const backlog = await read(query, limits);
    if (backlog.length > 0 && !signal.aborted) onLines(backlog);
    const { sinceMs = 0, untilMs = Number.POSITIVE_INFINITY, workerId } = query;
    await followFolder({
      folder,
      cursors,
      workersIn: async () => (workerId === undefined ? workersIn(folder) : [workerId]),
      isFollowed: (id) => workerId === undefined || id === workerId,
      pathOf: (id) => pathOf(query.endpointId, id),
      clock: deps.clock,
      onLines(lines) {
        const wanted = lines.filter(({ tsMs }) => tsMs >= sinceMs && tsMs <= untilMs);
        if (wanted.length > 0) onLines(wanted);
      },
      isOver: () => deps.clock.nowMs() > untilMs,
      signal,
    });
  }

  return {
    pathOf,
    read: (query) => read(query, null),
    follow,
    lastLines(endpointId, workerId, count) {
      const lines = readEndSync(pathOf(endpointId, workerId), workerId, LAST_LINES_BYTES);
      const errors = lines.filter(({ source }) => source === "stderr");
      return (errors.length > 0 ? errors : lines).slice(-count).map(({ line }) => line);
    },
    prune: (options) => pruneLogs(root, options),
    endpointOf(workerId) {
      const name = `${safeId(workerId)}.log`;
      return (namesIn(root).find((id) => namesIn(path.join(root, id)).includes(name)) ??
        null) as EndpointId | null;
    },
  };
}

function safeId(id: string): string {
  if (!SAFE_ID.test(id)) throw new RpxError("not_found", "there is no log of that name");
  return id;
}

async function workersIn(folder: string): Promise<WorkerId[]> {
  const names = await readdir(folder).catch(() => []);
  return names.flatMap((name) => (CURRENT.exec(name)?.[1] as WorkerId | undefined) ?? []);
}

async function describeLog(file: string, workerId: WorkerId): Promise<WorkerLog | null> {
  const found = await stat(file).catch(() => null);
  return found === null ? null : { workerId, path: file, writtenAtMs: found.mtimeMs };
}

/** Where each log ends now: what is before belongs to the backlog, what is behind to the follower. */
async function snapshot(logs: readonly WorkerLog[]) {
  const cursors = new Map<WorkerId, LogCursor | null>();
  const limits = new Map<string, number>();
  for (const { workerId, path: file } of logs) {
    const segments = await segmentsOf(file);
    for (const { id, size } of segments) limits.set(id, size);
    const [current] = segments;
    if (current === undefined) continue;
    const cursor = await endOf(current);
    limits.set(cursor.segment, cursor.offset);
    cursors.set(workerId, cursor);
  }
  return { cursors, limits };
}

/** Behind the last whole line. Where the segment was renamed since it was looked at, it is whole, and what opens is another. */
async function endOf({ path: file, id, size }: Segment): Promise<LogCursor> {
  const handle = await openIfThere(file);
  if (handle === null) return { segment: id, offset: size };
  await using segment = handle;
  const stats = await segment.stat();
  return { segment: segmentId(stats), offset: await lineEnd(segment, stats.size) };
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
