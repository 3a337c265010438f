import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "../client/client.ts";
import type { JobBodyText } from "../client/job-text.ts";
import { RpxError } from "../contract/error.ts";
import type { JobBody } from "../contract/schemas/job.ts";
import type { Progress } from "./progress.ts";

/** A job to wait for. `timeoutMs`: our own patience; undefined: none is set. */
export type Waiting = {
  readonly client: Client;
  readonly endpointId: string;
  readonly jobId: string;
  readonly progress: Progress;
  readonly signal: AbortSignal;
  readonly timeoutMs?: number | undefined;
};

/** Silence that needs no explanation, in ms; after it, and each time it passes again, the reason is asked for. */
const QUIET_MS = 2_000;
/** The shortest time in ms that the daemon holds a request. */
const SHORTEST_HOLD_MS = 1_000;

/** Whether a job ended, in whatever way. */
export function isOver(status: JobBody["status"]): boolean {
  return status !== "IN_QUEUE" && status !== "IN_PROGRESS";
}

/**
 * Waits for a job's end. What it waits for is said on stderr after 2 s and again whenever that changes. Throws RpxError `timed_out`
 * after our own patience, and the signal's reason.
 */
export async function waitForJob(waiting: Waiting): Promise<JobBodyText> {
  const { client, endpointId, jobId } = waiting;
  const patience = createPatience(waiting);
  const reasons = createReasons(waiting);
  for (;;) {
    const leftMs = patience.leftMs();
    const job =
      leftMs < SHORTEST_HOLD_MS
        ? await lastLook(waiting, leftMs)
        : await client.jobStatusSync(endpointId, jobId, {
            waitMs: Math.max(SHORTEST_HOLD_MS, Math.min(QUIET_MS, Math.floor(leftMs))),
          });
    if (isOver(job.fields.status)) {
      waiting.progress.done();
      return job;
    }
    patience.check();
    await reasons.say();
  }
}

/** What is left is shorter than any hold: sleep it out, then look once more. */
async function lastLook(
  { client, endpointId, jobId, signal }: Waiting,
  leftMs: number,
): Promise<JobBodyText> {
  await sleep(Math.max(0, leftMs), undefined, { signal }).catch(() => signal.throwIfAborted());
  return client.jobStatus(endpointId, jobId);
}

/**
 * The chunks of a job's stream as raw JSON, each once, as they come. Ends when the job does. Waits and speaks as {@link waitForJob}.
 */
export async function* streamJob(waiting: Waiting): AsyncGenerator<string> {
  const { client, endpointId, jobId } = waiting;
  const patience = createPatience(waiting);
  const reasons = createReasons(waiting);
  for (;;) {
    const { status, chunks } = await client.jobStream(endpointId, jobId, { waitMs: QUIET_MS });
    if (chunks.length > 0) waiting.progress.done();
    yield* chunks;
    if (isOver(status)) return;
    patience.check();
    if (chunks.length === 0) await reasons.say();
  }
}

function createPatience({ timeoutMs, jobId }: Waiting) {
  const endMs = timeoutMs === undefined ? Number.POSITIVE_INFINITY : performance.now() + timeoutMs;
  return {
    leftMs: (): number => endMs - performance.now(),
    check: (): void => {
      if (performance.now() < endMs) return;
      throw new RpxError("timed_out", `job ${jobId} did not end in time`, {
        why: `--timeout ${(timeoutMs ?? 0) / 1_000} s passed; the job goes on`,
        hint: `rpx job wait ${jobId}, or rpx job cancel ${jobId}`,
      });
    },
  };
}

/** Says why a job is not over yet, once per reason. */
function createReasons({ client, jobId, progress }: Waiting) {
  let said = "";
  return {
    say: async (): Promise<void> => {
      const { fields } = await client.getJob(jobId);
      const reason = `${fields.status}: ${fields.reason}`;
      // Numbers in it (seconds waited, place in the queue) change all the time; the reason does not.
      const kind = reason.replace(/\d+/g, "#");
      if (kind === said || isOver(fields.status)) return;
      said = kind;
      progress.step(`waiting for job ${jobId} (${reason})`);
    },
  };
}
