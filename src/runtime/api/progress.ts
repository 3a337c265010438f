import { RpxError } from "../../contract/error.ts";
import type { Answer } from "./reply.ts";
import type { Call } from "./request.ts";

/** Tells a step of something that takes its time, in words; `percent` where the size of the work is known. */
export type OnStep = (text: string, percent?: number) => void;

/**
 * The answer to what can take minutes. With `Accept: application/x-ndjson` its steps come line by line (`{"progress", "percent"}`), then the
 * outcome under `name`, or the refusal: the status was sent before either was known. Otherwise the outcome alone.
 */
export async function withProgress(
  call: Call<unknown>,
  name: string,
  work: (onStep: OnStep) => Promise<unknown>,
): Promise<Answer> {
  if (!call.headers.accept?.includes("application/x-ndjson"))
    return { kind: "json", text: JSON.stringify(await work(() => undefined)) };
  return {
    kind: "stream",
    contentType: "application/x-ndjson",
    write: async (sink) => {
      const line = (value: unknown) => sink.write(`${JSON.stringify(value)}\n`);
      try {
        const outcome = await work((progress, percent) => void line({ progress, percent }));
        await line({ [name]: outcome });
      } catch (error) {
        if (!(error instanceof RpxError)) throw error;
        await line({ error: error.message, code: error.code, why: error.why, hint: error.hint });
      }
    },
  };
}
