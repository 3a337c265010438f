import { RpxError } from "../contract/error.ts";
import type { Clock } from "./ports/clock.ts";

export type AdmissionOptions = {
  readonly clock: Clock;
  readonly minFreeBytes: number;
  readonly freeBytes: () => Promise<number>;
  /** Fills the ballast again that a full disk had released (F-07). */
  readonly holdBallast: () => Promise<unknown>;
  readonly log: { warn(fields: object, message: string): void; error(fields: object, message: string): void };
};

/** Whether new work is taken: not while the daemon stops, and not on a disk that is almost full. */
export type Admission = {
  /** Throws RpxError `unavailable` when no new work is taken. */
  admit(): void;
  /** From now on none is. */
  stop(): void;
  isStopping(): boolean;
  hasRoom(): boolean;
  /** Free bytes at the last look. */
  freeBytes(): number;
  /** ok, or why new work is refused. */
  health(): string;
  /** Looks at the disk once. */
  look(): Promise<void>;
  /** Looks at it again and again until the signal aborts. */
  watch(signal: AbortSignal): Promise<void>;
};

/** Free disk is looked at this often. */
const DISK_CHECK_MS = 1_000;
const RETRY_AFTER_S = 5;
const FULL = "the disk is almost full: new jobs are refused";

export function createAdmission(options: AdmissionOptions): Admission {
  const { clock, minFreeBytes, log } = options;
  let stopping = false;
  let room = true;
  let free = 0;

  async function look(): Promise<void> {
    free = await options.freeBytes();
    room = free >= minFreeBytes;
  }

  async function watch(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const had = room;
      await look();
      if (room) await options.holdBallast();
      if (had !== room) log.warn({ room }, room ? "disk has room again" : FULL);
      await clock.sleep(DISK_CHECK_MS, signal);
    }
  }

  return {
    admit: () => {
      if (stopping)
        throw new RpxError("unavailable", "the daemon is stopping", { retryAfterSeconds: RETRY_AFTER_S });
      if (room) return;
      throw new RpxError("unavailable", FULL, {
        why: `less than ${minFreeBytes} bytes are free in the data directory`,
        hint: "free space; running jobs end and keep their results",
        retryAfterSeconds: RETRY_AFTER_S,
      });
    },
    stop: () => {
      stopping = true;
    },
    isStopping: () => stopping,
    hasRoom: () => room,
    freeBytes: () => free,
    health: () => (stopping ? "stopping" : room ? "ok" : FULL),
    look,
    watch,
  };
}
