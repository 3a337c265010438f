import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stateDir } from "./paths.ts";

/** The word that stands for the last job. */
export const LAST_JOB = "@last";
const FILE_NAME = "last-job.json";

/** A job and the daemon that has it. */
export type LastJob = { readonly url: string; readonly id: string };

/** Notes a job as the last one. That it cannot be noted is no reason for a submitted job to fail. */
export function rememberJob(job: LastJob, env: NodeJS.ProcessEnv = process.env): void {
  try {
    mkdirSync(stateDir(env), { recursive: true, mode: 0o700 });
    writeFileSync(join(stateDir(env), FILE_NAME), `${JSON.stringify(job)}\n`, { mode: 0o600 });
  } catch {
    // A read-only home: @last will not know this job.
  }
}

/** The id of the last job submitted to this daemon; null when there is none. */
export function lastJob(url: string, env: NodeJS.ProcessEnv = process.env): string | null {
  try {
    const job: Partial<LastJob> = JSON.parse(readFileSync(join(stateDir(env), FILE_NAME), "utf8"));
    return job.url === url && typeof job.id === "string" ? job.id : null;
  } catch {
    return null;
  }
}
