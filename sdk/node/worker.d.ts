/** A job as the platform hands it out; fields of the request beside `input` are at the top level. */
export interface Job<Input = unknown> {
  readonly id: string;
  readonly input: Input;
  readonly webhook?: string;
  readonly batchId?: string;
  readonly [field: string]: unknown;
}

/** A log whose lines carry the job's id. */
export interface JobLog {
  trace(message: string): void;
  debug(message: string): void;
  info(message: string): void;
  warn(message: string): void;
  error(message: string): void;
}

export interface JobContext {
  /** Aborted when the job is cancelled or out of time. Nothing that the handler returns afterwards is reported. */
  readonly signal: AbortSignal;
  /** Shows `value` as the job's output while it runs. Queued, in order, before the result. */
  progress(value: unknown): void;
  readonly log: JobLog;
}

/**
 * Returns the output, a promise of it, or a generator (sync or async) whose chunks are streamed and whose return
 * value is the output. An object with `error` fails the job; `refresh_worker: true` ends this worker after the job.
 */
export type Handler<Input = unknown> = (job: Job<Input>, context: JobContext) => unknown;

export interface WorkerConfig<Input = unknown> {
  readonly handler: Handler<Input>;
  /** Asked before every take: given the present concurrency (1 at first), returns the wanted one. Default: 1. */
  readonly concurrencyModifier?: (current: number) => number;
  /** The output of a streamed job is the list of its chunks. Default false. */
  readonly returnAggregateStream?: boolean;
  /** Ends the worker after each job. Default false. */
  readonly refreshWorker?: boolean;
}

/** Runs the worker until it is drained, then ends the process; without a platform, one local test. */
export function start<Input = unknown>(config: WorkerConfig<Input>): Promise<void>;
