import { WORKER_STATES, type WorkerState } from "./model.ts";

/**
 * Stored state -> states it may move to. A row is one incarnation: nothing leads back from `gone`, and `failed`
 * only leads there (a retry is a new row and id, INV-6).
 */
export const WORKER_TABLE = {
  /** No resource yet. */
  wanted: ["starting", "draining", "gone"],
  starting: ["ready", "draining", "failed", "gone"],
  ready: ["parked", "draining", "failed", "gone"],
  /** Asleep: thawed, or started again, before it gets work. One that ends in its sleep did nothing wrong: it goes. */
  parked: ["starting", "ready", "draining", "gone"],
  /** Gets no more work; ends when its jobs have. */
  draining: ["gone"],
  /** Ended badly; kept in view until its retry begins. */
  failed: ["gone"],
  gone: [],
} as const satisfies Record<WorkerState, readonly WorkerState[]>;

/** Whether the table lets a worker move. */
export function canMove(from: WorkerState, to: WorkerState): boolean {
  return (WORKER_TABLE[from] as readonly WorkerState[]).includes(to);
}

/** The states from which a worker can move to another: the guard of the SQL that moves it. */
export function statesBefore(to: WorkerState): WorkerState[] {
  return WORKER_STATES.filter((from) => canMove(from, to));
}
