import {
  createPace,
  createSegmentFile,
  createStamper,
  MAX_BATCH_BYTES,
  MAX_OUTPUT_BYTES_PER_S,
  type OutputSource,
  type SegmentFile,
} from "../../../supervisor/stamped-lines.ts";
import type { EndpointId, WorkerId } from "../../core/model.ts";
import type { Clock } from "../../ports/clock.ts";
import type { LogStore } from "../../ports/log-store.ts";
import { joinSignals } from "./abort.ts";
import type { Containers } from "./containers.ts";
import type { Engine } from "./engine.ts";
import { createFrameReader, type LogPiece } from "./log-frames.ts";

export type LogFollowDeps = {
  readonly engine: Engine;
  readonly containers: Pick<Containers, "inspect">;
  readonly logs: Pick<LogStore, "pathOf" | "read">;
  readonly clock: Clock;
  readonly log: { warn(fields: object, message: string): void };
};

export type Followed = {
  readonly containerId: string;
  readonly endpointId: EndpointId;
  readonly workerId: WorkerId;
};

export type LogFollower = {
  /** Resolves when the container's run has ended and every line of it is written, or after `stop`. Never rejects. */
  readonly ended: Promise<void>;
  /** Stops reading. What was not written is read by the next follower. */
  stop(): Promise<void>;
};

/** Kept lines are counted from the newest one's millisecond on: as many as can have been printed in one. */
const MAX_COUNTED_LINES = 50_000;
const FIRST_PAUSE_MS = 100;
const MAX_PAUSE_MS = 5_000;

/**
 * Follows a container's output into the worker's log, in the format and within the bounds of the supervisor's, with the engine's times. It
 * goes on behind the last kept line, after a restart of the daemon or the engine too: nothing twice, nothing left out but what the engine
 * itself has dropped from its files meanwhile.
 */
export function followLog(deps: LogFollowDeps, followed: Followed): LogFollower {
  const stopped = new AbortController();
  const ended = run(deps, followed, stopped.signal);
  return {
    ended,
    stop: async () => {
      stopped.abort();
      await ended;
    },
  };
}

async function run(deps: LogFollowDeps, followed: Followed, signal: AbortSignal): Promise<void> {
  const { clock, containers, log } = deps;
  const { containerId, workerId } = followed;
  let pauseMs = FIRST_PAUSE_MS;
  while (!signal.aborted) {
    try {
      await copyOnce(deps, followed, signal);
      const details = signal.aborted ? null : await containers.inspect(containerId);
      // A stream also ends with its engine: then the container may go on.
      if (details === null || details.status === "exited" || details.status === "dead") return;
      pauseMs = FIRST_PAUSE_MS;
    } catch (error) {
      if (!signal.aborted && deps.engine.away() === null)
        log.warn({ workerId, err: error }, "output of a container lost, asking again");
    }
    await clock.sleep(pauseMs, signal);
    pauseMs = Math.min(pauseMs * 2, MAX_PAUSE_MS);
  }
}

/** One connection, from the last kept line to the end of the stream. */
async function copyOnce(deps: LogFollowDeps, followed: Followed, until: AbortSignal): Promise<void> {
  const { controller, signal, release } = joinSignals([until]);
  const kept = await keptLines(deps.logs, followed);
  const file = createSegmentFile(deps.logs.pathOf(followed.endpointId, followed.workerId));
  try {
    const stream = await openStream(deps, followed.containerId, kept?.sinceMs ?? null, signal);
    await copyStream(stream, file, kept?.lines ?? 0);
  } finally {
    controller.abort();
    release();
    await file.close();
  }
}

/**
 * The newest kept line's time, and how many lines of that time or later are kept: those the engine sends first when it is asked from then on,
 * whatever the order of their times. Null: none is kept.
 */
async function keptLines(
  logs: Pick<LogStore, "read">,
  { endpointId, workerId }: Followed,
): Promise<{ readonly sinceMs: number; readonly lines: number } | null> {
  const [newest] = await logs.read({ endpointId, workerId, tail: 1 });
  if (newest === undefined) return null;
  const sinceMs = newest.tsMs;
  const lines = await logs.read({ endpointId, workerId, sinceMs, tail: MAX_COUNTED_LINES });
  return { sinceMs, lines: lines.length };
}

function openStream(
  { engine }: LogFollowDeps,
  containerId: string,
  sinceMs: number | null,
  abortSignal: AbortSignal,
): Promise<NodeJS.ReadableStream> {
  // The engine takes seconds with a fraction; the declared type knows whole ones only.
  const since = sinceMs === null ? {} : { since: (sinceMs / 1_000).toFixed(3) as unknown as number };
  const options = {
    follow: true as const,
    stdout: true,
    stderr: true,
    timestamps: true,
    ...since,
    abortSignal,
  };
  return engine.ask(() => engine.docker.getContainer(containerId).logs(options), { signal: abortSignal });
}

/** Waits for the disk and for the allowed rate between two reads, so that a flood costs neither memory nor the processor. */
async function copyStream(
  stream: NodeJS.ReadableStream,
  file: SegmentFile,
  skipLines: number,
): Promise<void> {
  const pace = createPace(MAX_OUTPUT_BYTES_PER_S);
  const read = createFrameReader();
  const lines = createLineMaker(skipLines);
  for await (const chunk of stream) {
    for (const text of batches(read(chunk as Buffer), lines.push)) {
      const bytes = Buffer.from(text);
      await file.append(bytes);
      await pace(bytes.length);
    }
  }
  await file.append(Buffer.from(lines.end()));
}

function* batches(pieces: readonly LogPiece[], push: (piece: LogPiece) => string): Generator<string> {
  let text = "";
  for (const piece of pieces) {
    text += push(piece);
    if (text.length < MAX_BATCH_BYTES) continue;
    yield text;
    text = "";
  }
  if (text !== "") yield text;
}

/** Stamped lines out of pieces, without the first `skipLines`. */
function createLineMaker(skipLines: number): { push(piece: LogPiece): string; end(): string } {
  let left = skipLines;
  const makers = { o: createMaker("o"), e: createMaker("e") };
  const passOn = (text: string): string => {
    if (text === "" || left === 0) return text;
    left -= 1;
    return "";
  };
  return {
    // A piece ends a line or is a part of one: it never makes two.
    push: (piece) => passOn(makers[piece.source](piece)),
    end: () => passOn(makers.o(null)) + passOn(makers.e(null)),
  };
}

/** Lines of one stream; null ends the last one. */
function createMaker(source: OutputSource): (piece: LogPiece | null) => string {
  let tsMs = 0;
  const stamper = createStamper(source, () => tsMs);
  return (piece) => {
    if (piece === null) return stamper.end();
    tsMs = piece.tsMs;
    return stamper.push(piece.bytes);
  };
}
