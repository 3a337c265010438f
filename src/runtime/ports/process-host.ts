/** Who owns worker processes: the supervisor in a running rpx, the same code in process in unit and api tests. */

/** What one worker process is started with. The environment is complete: nothing is inherited. */
export type ProcessSpec = {
  /** Worker id: used once, ever (INV-6). */
  readonly id: string;
  readonly file: string;
  readonly args: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  /** Absolute path of the current log segment; older ones get `.1` and `.2`. */
  readonly logPath: string;
};

/** How a process ended. Times are wall-clock milliseconds of the host. */
export type ProcessExit = {
  readonly id: string;
  readonly pid: number;
  readonly code: number | null;
  readonly signal: string | null;
  readonly atMs: number;
};

/** A process the host knows. `startTime` (kernel start ticks) tells it from a later owner of its pid. */
export type HostedProcess = {
  readonly id: string;
  readonly pid: number;
  readonly startTime: string;
  readonly exit: ProcessExit | null;
};

/** Signals a worker's whole process group can be sent. */
export type ProcessSignal = "SIGTERM" | "SIGKILL" | "SIGINT" | "SIGSTOP" | "SIGCONT";

export type ProcessHost = {
  /** Starts a process in a group of its own; rejects with the reason when it cannot (no such file, no permission). */
  spawn(spec: ProcessSpec): Promise<HostedProcess>;
  /** Signals the process group; false when it is gone. */
  signal(id: string, signal: ProcessSignal): Promise<boolean>;
  /** Every process not yet forgotten, exits seen while nobody listened included. */
  list(): Promise<readonly HostedProcess[]>;
  /** Drops an exited process from the list once its exit has been recorded. */
  forget(id: string): Promise<void>;
  /** Calls back at each exit; returns the function that ends the subscription. */
  onExit(listener: (exit: ProcessExit) => void): () => void;
};
