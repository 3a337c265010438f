import type { JobId, WorkerId } from "../core/model.ts";
import type { LogLine, LogQuery, LogStore } from "../ports/log-store.ts";
import type { JobStore, JournalStore } from "../ports/store.ts";

/** A line with what can be said of it: the job it belongs to, its level and text where the SDK wrote JSON. */
export type TaggedLine = LogLine & { readonly jobId: JobId | null; readonly level: string | null };

export type LogRequest = LogQuery & {
  readonly jobId?: JobId;
  readonly level?: string;
  readonly source?: string;
  /** Plain text that the line contains. */
  readonly grep?: string;
  /** Only lines of this owner's jobs: what a key sees of a shared endpoint. */
  readonly owner?: string;
};

export type Logs = {
  read(request: LogRequest): Promise<readonly TaggedLine[]>;
  follow(
    request: LogRequest,
    onLines: (lines: readonly TaggedLine[]) => void,
    signal: AbortSignal,
  ): Promise<void>;
};

export type LogsOptions = {
  readonly logs: LogStore;
  readonly journal: JournalStore;
  readonly jobs: Pick<JobStore, "find">;
  /** A text of a worker without its secrets. */
  readonly redact: (workerId: WorkerId, text: string) => string;
};

type Span = { readonly jobId: JobId; readonly fromMs: number; untilMs: number };

/** Journal rows of one worker that are looked at to tell whose line is whose. */
const MAX_ROWS = 20_000;
/** With a filter, this many times more lines are read than asked for. */
const FILTER_DEPTH = 20;

/** Worker output without secrets, each line with its job: the line's own requestId, else the only job that the worker held then. */
export function createLogs({ logs, journal, jobs, redact }: LogsOptions): Logs {
  /** When the worker held which job. */
  function spansOf(workerId: WorkerId): readonly Span[] {
    const spans: Span[] = [];
    for (const { jobId, data, atMs } of journal.read({ workerId, limit: MAX_ROWS })) {
      if (jobId === null) continue;
      if (data.to === "IN_PROGRESS" && data.from === "IN_QUEUE")
        spans.push({ jobId, fromMs: atMs, untilMs: Number.POSITIVE_INFINITY });
      else if (data.from === "IN_PROGRESS" && data.to !== "IN_PROGRESS") {
        const open = spans.findLast(
          (span) => span.jobId === jobId && span.untilMs === Number.POSITIVE_INFINITY,
        );
        if (open) open.untilMs = atMs;
      }
    }
    return spans;
  }

  function tag(lines: readonly LogLine[]): TaggedLine[] {
    const spans = new Map<WorkerId, readonly Span[]>();
    return lines.map((line) => {
      const text = redact(line.workerId, line.line);
      const parsed = parseSdkLine(text);
      let held = spans.get(line.workerId);
      if (!held) {
        held = spansOf(line.workerId);
        spans.set(line.workerId, held);
      }
      return {
        ...line,
        // Once more: JSON has more spellings than are looked for.
        line: parsed ? redact(line.workerId, parsed.message) : text,
        level: parsed?.level ?? null,
        jobId: parsed?.requestId ?? onlyJob(held, line.tsMs),
      };
    });
  }

  const ownerOf = ({ jobId }: TaggedLine) => (jobId === null ? null : (jobs.find(jobId)?.owner ?? null));

  const matches = (request: LogRequest) => (line: TaggedLine) =>
    (request.jobId === undefined || line.jobId === request.jobId) &&
    (request.level === undefined || line.level?.toLowerCase() === request.level.toLowerCase()) &&
    (request.source === undefined || line.source === request.source) &&
    (request.grep === undefined || line.line.includes(request.grep)) &&
    (request.owner === undefined || ownerOf(line) === request.owner);

  return {
    read: async (request) => {
      const filtered = [request.jobId, request.level, request.source, request.grep, request.owner].some(
        (value) => value !== undefined,
      );
      const lines = await logs.read({
        ...request,
        tail: filtered ? request.tail * FILTER_DEPTH : request.tail,
      });
      return tag(lines).filter(matches(request)).slice(-request.tail);
    },
    follow: (request, onLines, signal) =>
      logs.follow(
        request,
        (lines) => {
          const kept = tag(lines).filter(matches(request));
          if (kept.length > 0) onLines(kept);
        },
        signal,
      ),
  };
}

function onlyJob(spans: readonly Span[], tsMs: number): JobId | null {
  const held = spans.filter(({ fromMs, untilMs }) => fromMs <= tsMs && tsMs <= untilMs);
  return held.length === 1 ? (held[0]?.jobId ?? null) : null;
}

/** The SDK's own log lines: one JSON object with requestId, message and level. */
function parseSdkLine(line: string): { requestId: JobId | null; message: string; level: string } | null {
  if (!line.startsWith('{"requestId"')) return null;
  try {
    const { requestId, message, level } = JSON.parse(line) as Record<string, unknown>;
    if (typeof message !== "string" || typeof level !== "string") return null;
    return { requestId: typeof requestId === "string" ? (requestId as JobId) : null, message, level };
  } catch {
    return null;
  }
}
