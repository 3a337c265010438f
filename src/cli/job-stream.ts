import { spliceObject } from "../text/json-text.ts";
import { expectCompleted } from "./job-ending.ts";
import { streamJob, type Waiting, waitForJob } from "./job-wait.ts";
import { printJsonLine } from "./output.ts";

/**
 * Prints a job's chunks as they come, one JSON per line, and its output last; with `isJson` objects: `{"output": chunk}`, then the job.
 * Throws as {@link expectCompleted} does.
 */
export async function showStream(waiting: Waiting, { isJson }: { readonly isJson: boolean }): Promise<void> {
  for await (const chunk of streamJob(waiting)) {
    printJsonLine(isJson ? spliceObject([["output", chunk]]) : chunk);
  }
  const job = await waitForJob(waiting);
  if (isJson) printJsonLine(job.json);
  else if (job.fields.status === "COMPLETED") printJsonLine(job.output ?? "null");
  expectCompleted(job.fields);
}
