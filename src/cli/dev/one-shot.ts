import type { Client } from "../../client/client.ts";
import type { JobBodyText } from "../../client/job-text.ts";
import { exitCode, RpxError } from "../../contract/error.ts";
import type { EndpointBody } from "../../contract/schemas/endpoint.ts";
import { BODY_LIMIT_BYTES, WAIT_RANGE_MS } from "../../contract/schemas/job.ts";
import { sanitize, sanitizeLine } from "../../text/sanitize.ts";
import { errorText, ShownError } from "../errors.ts";
import { readFailure } from "../job-ending.ts";
import { streamJob, type Waiting, waitForJob } from "../job-wait.ts";
import { printJsonLine, printJsonText, printOutput, talk } from "../output.ts";
import { failedStartText, failedWorkers, type Watch } from "./failed-starts.ts";

/** The cancel of a job that is no longer waited for may take this long. */
const CANCEL_LIMIT_MS = 2_000;

export type OneShot = {
  readonly client: Client;
  /** A client that the user's Ctrl-C does not stop, for the cancel. */
  readonly calm: (limitMs: number) => Client;
  readonly endpoint: EndpointBody;
  /** The body of /run. */
  readonly body: string;
  readonly isStream: boolean;
  readonly signal: AbortSignal;
};

/**
 * Submits one job and waits for its end, printing chunks with `isStream`; a wait that is given up cancels the job. Throws RpxError
 * `job_failed` when a worker ends before the job was handed to any: nobody is there to correct the handler meanwhile.
 */
export async function runOnce(shot: OneShot): Promise<JobBodyText> {
  const { client, endpoint } = shot;
  const jobId = (await submit(client, endpoint.id, shot.body)).fields.id;
  const over = new AbortController();
  const signal = AbortSignal.any([shot.signal, over.signal]);
  const progress = { step: (text: string) => talk(sanitizeLine(text)), done: () => {} };
  const waiting: Waiting = { client, endpointId: endpoint.id, jobId, progress, signal };
  try {
    return await Promise.race([
      jobEnd(waiting, shot.isStream),
      failedStart({ client, endpoint, signal }, jobId),
    ]);
  } catch (error) {
    await shot
      .calm(CANCEL_LIMIT_MS)
      .cancelJob(endpoint.id, jobId)
      .catch(() => {});
    throw error;
  } finally {
    over.abort();
  }
}

/** By /run, whose answer names the job at once; by /runsync what is too large for it. */
function submit(client: Client, endpoint: string, body: string): Promise<JobBodyText> {
  if (Buffer.byteLength(body) <= BODY_LIMIT_BYTES.run) return client.run(endpoint, body);
  return client.runSync(endpoint, body, { waitMs: WAIT_RANGE_MS.min });
}

async function jobEnd(waiting: Waiting, isStream: boolean): Promise<JobBodyText> {
  if (isStream) for await (const chunk of streamJob(waiting)) printJsonLine(chunk);
  return await waitForJob(waiting);
}

/** Rejects when a worker failed and the job was never handed out; never settles otherwise. */
async function failedStart(watch: Watch, jobId: string): Promise<never> {
  for await (const worker of failedWorkers(watch)) {
    const { attempts, status } = (await watch.client.getJob(jobId)).fields;
    if (attempts > 0 || status !== "IN_QUEUE") continue;
    throw new RpxError("job_failed", failedStartText(worker), {
      hint: "correct the handler; its output is above",
    });
  }
  return await new Promise<never>(() => {});
}

/** Prints a job's end: its output or, with `isJson`, its whole body; a failure on stderr, with exit code 7 by ShownError. */
export function showEnd(
  job: JobBodyText,
  how: { readonly isJson: boolean; readonly isStream: boolean },
): void {
  const { status } = job.fields;
  if (how.isJson) (how.isStream ? printJsonLine : printJsonText)(job.json);
  else if (status === "COMPLETED") (how.isStream ? printJsonLine : printOutput)(job.output ?? "null");
  if (status === "COMPLETED") return;
  const { message, traceback } = readFailure(job.fields.error);
  if (traceback !== null) talk(sanitize(traceback).trimEnd());
  process.stderr.write(errorText(new RpxError("job_failed", `the job ended ${status}`, { why: message })));
  throw new ShownError(exitCode("job_failed"));
}
