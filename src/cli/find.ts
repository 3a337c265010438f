import type { JobDetailText } from "../client/job-text.ts";
import { RpxError } from "../contract/error.ts";
import type { KeyBody } from "../contract/schemas/daemon.ts";
import type { EndpointBody } from "../contract/schemas/endpoint.ts";
import type { WorkerBody } from "../contract/schemas/worker.ts";
import { closest } from "../text/closest.ts";
import type { Connection } from "./base-command.ts";
import { LAST_JOB, lastJob } from "./last-job.ts";

/** What is looked for: its kind in words, and how to list all. */
type Kind = { readonly word: string; readonly list: string };

/** Whether something is not there, or not for this key. */
export function isNotFound(error: unknown): boolean {
  return error instanceof RpxError && error.code === "not_found";
}

/** The only thing whose id begins with what was typed. */
function onlyOne<Thing>(
  kind: Kind,
  typed: string,
  found: readonly Thing[],
  known: readonly string[] = [],
): Thing {
  const [thing, other] = found;
  if (thing === undefined) {
    const near = closest(typed, known);
    throw new RpxError("not_found", `there is no ${kind.word} "${typed}"`, {
      hint: near === null ? kind.list : `did you mean ${near}? ${kind.list} shows all`,
    });
  }
  if (other === undefined) return thing;
  throw new RpxError("usage", `"${typed}" is not one ${kind.word}`, {
    why: "several ids begin like this",
    hint: `type more of it; ${kind.list} shows all`,
  });
}

const JOB: Kind = { word: "job", list: "rpx job list" };

/** A job by full id, unique prefix or `@last`, with its history. */
export async function findJob({ client, settings }: Connection, typed: string): Promise<JobDetailText> {
  if (typed === LAST_JOB) return client.getJob(lastJobId(settings.url.value));
  try {
    return await client.getJob(typed);
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
  const found = onlyOne(JOB, typed, await client.listJobs({ idPrefix: typed, limit: 2 }));
  return client.getJob(found.fields.id);
}

function lastJobId(url: string): string {
  const id = lastJob(url);
  if (id !== null) return id;
  throw new RpxError("not_found", "there is no last job", {
    why: "no job was submitted to this daemon by this user's rpx",
    hint: "rpx job list",
  });
}

/** An endpoint by name, full id or unique prefix of either. */
export async function findEndpoint({ client }: Connection, typed: string): Promise<EndpointBody> {
  try {
    return await client.getEndpoint(typed);
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
  const all = await client.listEndpoints();
  const found = all.filter(({ id, name }) => id.startsWith(typed) || name.startsWith(typed));
  const known = all.map(({ name }) => name);
  return onlyOne({ word: "endpoint", list: "rpx endpoint list" }, typed, found, known);
}

/** A worker by full id or unique prefix. */
export async function findWorker({ client }: Connection, typed: string): Promise<WorkerBody> {
  try {
    return await client.getWorker(typed);
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
  const found = (await client.listWorkers({ all: true })).filter(({ id }) => id.startsWith(typed));
  const { id } = onlyOne({ word: "worker", list: "rpx worker list" }, typed, found);
  return client.getWorker(id); // a list leaves its last lines out
}

/** A key that still works by name, full id or unique prefix of the id. */
export async function findKey({ client }: Connection, typed: string): Promise<KeyBody> {
  const all = (await client.listKeys()).filter(({ revokedAt }) => revokedAt === null);
  const exact = all.filter(({ id, name }) => id === typed || name === typed);
  const found = exact.length > 0 ? exact : all.filter(({ id }) => id.startsWith(typed));
  const known = all.map(({ name }) => name);
  return onlyOne({ word: "key", list: "rpx key list" }, typed, found, known);
}
