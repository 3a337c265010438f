import type { EndpointId, WorkerId } from "../core/model.ts";

/** One line that a worker printed, as the supervisor stamped it. Cut lines end in a note that says so. */
export type LogLine = {
  readonly tsMs: number;
  readonly source: "stdout" | "stderr";
  readonly workerId: WorkerId;
  readonly line: string;
};

export type LogQuery = {
  readonly endpointId: EndpointId;
  readonly workerId?: WorkerId;
  readonly sinceMs?: number;
  readonly untilMs?: number;
  /** The last this many lines. */
  readonly tail: number;
};

/** The bounded log files of workers, present and gone. */
export type LogStore = {
  /** Absolute path of a worker's current segment: what the pool tells the supervisor. */
  pathOf(endpointId: EndpointId, workerId: WorkerId): string;
  /** Lines in order of time over all workers asked for. */
  read(query: LogQuery): Promise<readonly LogLine[]>;
  /** Calls back with new lines until the signal aborts. */
  follow(query: LogQuery, onLines: (lines: readonly LogLine[]) => void, signal: AbortSignal): Promise<void>;
  /** Last lines a worker printed to stderr, else stdout: for reasons. Synchronous and small. */
  lastLines(endpointId: EndpointId, workerId: WorkerId, count: number): readonly string[];
  /** Deletes logs of gone workers beyond age and total size; returns bytes freed. */
  prune(options: { keepWorkers: ReadonlySet<WorkerId>; beforeMs: number; maxBytes: number }): Promise<number>;
};
