import { exitCode, RpxError } from "../contract/error.ts";
import type { JobBody } from "../contract/schemas/job.ts";
import { sanitize } from "../text/sanitize.ts";
import { errorText, ShownError } from "./errors.ts";
import { talk } from "./output.ts";

/** What a job's `error` says: RunPod's SDK posts an object as text, others plain sentences. */
export type JobFailure = { readonly message: string; readonly traceback: string | null };

/** Reads a job's error text. */
export function readFailure(error: string | undefined): JobFailure {
  const parts = readObject(error);
  if (parts === null) return { message: error ?? "it gave no reason", traceback: null };
  const { error_type: type, error_message: message, error_traceback: traceback } = parts;
  const kind = typeof type === "string" ? type.replace(/^<class '(.+)'>$/, "$1") : "";
  return {
    message:
      [kind, typeof message === "string" ? message : ""].filter((part) => part !== "").join(": ") ||
      (error ?? ""),
    traceback: typeof traceback === "string" ? traceback : null,
  };
}

function readObject(error: string | undefined): Record<string, unknown> | null {
  if (error === undefined || !error.trimStart().startsWith("{")) return null;
  try {
    return JSON.parse(error);
  } catch {
    return null;
  }
}

/**
 * Does nothing for a completed job. For another: its traceback, then what happened, on stderr; throws a {@link ShownError} with exit
 * code 7.
 */
export function expectCompleted({ id, status, error }: Pick<JobBody, "id" | "status" | "error">): void {
  if (status === "COMPLETED") return;
  const { message, traceback } = readFailure(error);
  if (traceback !== null) talk(sanitize(traceback).trimEnd());
  const why = status === "CANCELLED" && error === undefined ? "it was cancelled" : message;
  process.stderr.write(
    errorText(new RpxError("job_failed", `job ${id} ended ${status}`, { why, hint: `rpx job get ${id}` })),
  );
  throw new ShownError(exitCode("job_failed"));
}
