import { readObject, spliceObject } from "../../text/json-text.ts";
import { sanitizeLine } from "../../text/sanitize.ts";
import { addContext, readContexts, removeContext } from "../contexts.ts";
import { talk } from "../output.ts";
import type { DevPool } from "./deploy.ts";
import { failedStartText, failedWorkers } from "./failed-starts.ts";
import type { Session } from "./session.ts";
import { reloadOnSave } from "./watch.ts";

export type StayOptions = {
  /** The path given to `rpx dev`, and the folder that it led to. */
  readonly path: string;
  readonly folder: string;
  /** Text of test_input.json: what the printed request sends. */
  readonly testInput: string | null;
};

/** Address of the operations of an endpoint, by its name. */
export function endpointUrl({ daemon, endpoint }: Pick<Session, "daemon" | "endpoint">): string {
  return `${daemon.url}/v2/${endpoint.name}`;
}

/** The context by which other terminals reach this session. */
export function contextName({ endpoint }: Pick<Session, "endpoint">): string {
  return `dev:${endpoint.name}`;
}

/** Runs until the session's signal fires: says where jobs go, reloads on save, and reports workers that do not start. */
export async function stay(session: Session, options: StayOptions): Promise<void> {
  const { client, endpoint, pool, signal } = session;
  const { path, folder } = options;
  await withContext(session, async () => {
    greet(session, options);
    const watched = { client, path, folder, endpoint: endpoint.name, pool, signal };
    await Promise.all([reloadOnSave(watched), reportFailures(session)]);
  });
}

/** The context is there while `work` runs, and is removed if nobody has replaced it. */
export async function withContext<Result>(session: Session, work: () => Promise<Result>): Promise<Result> {
  const name = contextName(session);
  const { url, key } = session.daemon;
  await addContext(name, { url, key });
  try {
    return await work();
  } finally {
    if (readContexts().contexts[name]?.url === url) await removeContext(name);
  }
}

const WORKERS: Readonly<Record<DevPool, string>> = {
  process: "processes of your user, not isolated",
  docker: "containers",
};

function greet(session: Session, { testInput, folder }: StayOptions): void {
  const { endpoint, daemon } = session;
  const url = endpointUrl(session);
  const body = shellQuoted(requestText(testInput));
  talk(`${sanitizeLine(folder)} runs at ${url}`);
  talk(
    `curl -X POST ${url}/runsync -H 'Authorization: Bearer ${daemon.key}' -H 'Content-Type: application/json' -d ${body}`,
  );
  talk(`from another terminal: rpx job run ${endpoint.name} -i '{}' --context ${contextName(session)}`);
  if (endpoint.jobs.inQueue > 0) talk(`${endpoint.jobs.inQueue} jobs wait from the last time`);
  talk(`workers are ${WORKERS[session.pool]}; Ctrl-C ends everything`);
}

/** test_input.json on one line, without what only a local test has. */
function requestText(testInput: string | null): string {
  const read = testInput === null ? null : readObject(testInput, { maxDepth: 200 });
  const input = read?.ok ? read.members.get("input") : undefined;
  const line = input === undefined ? "{}" : sanitizeLine(input);
  return spliceObject([["input", line]]);
}

function shellQuoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** Says once of each worker that failed why; its last lines are printed as they come. */
async function reportFailures(session: Session): Promise<void> {
  for await (const worker of failedWorkers(session)) talk(failedStartText(worker));
}
