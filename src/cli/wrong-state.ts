import { RpxError } from "../contract/error.ts";

/** RunPod's wire answers 400 to an operation that the job's state does not allow; at the command line that is a conflict (exit 6). */
export function wrongState(error: unknown): never {
  if (!(error instanceof RpxError) || error.code !== "bad_request") throw error;
  throw new RpxError("conflict", error.message, {
    ...(error.why === undefined ? {} : { why: error.why }),
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    cause: error,
  });
}
