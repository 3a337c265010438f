import { RpxError } from "../../contract/error.ts";
import type { OnStep } from "../ports/worker-pool.ts";
import type { Answer } from "./reply.ts";
import type { Call } from "./request.ts";

/** How a handler follows long work and gives it up. */
export type Work = { readonly onStep: OnStep; readonly signal: AbortSignal };

/**
 * Work that can take minutes: with `Accept: application/x-ndjson` its steps come line by line, what was made last under `name`, or a
 * refusal: the status was sent before either was known. Without, the answer waits for the end.
 */
export function building<T>(
  call: Call<unknown>,
  name: string,
  work: (work: Work) => Promise<T>,
): Promise<Answer> | Answer {
  const { signal } = call;
  if (!call.headers.accept?.includes("application/x-ndjson"))
    return work({ onStep: () => undefined, signal }).then((made) => ({
      kind: "json",
      text: JSON.stringify(made),
    }));
  return {
    kind: "stream",
    contentType: "application/x-ndjson",
    write: async (sink) => {
      const line = (value: unknown) => sink.write(`${JSON.stringify(value)}\n`);
      try {
        const onStep: OnStep = (progress, percent) => void line({ progress, percent });
        await line({ [name]: await work({ onStep, signal }) });
      } catch (error) {
        if (!(error instanceof RpxError)) throw error;
        await line({ error: error.message, code: error.code, why: error.why, hint: error.hint });
      }
    },
  };
}
