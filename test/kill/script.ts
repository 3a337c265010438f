/**
 * The fixed script: 50 jobs of all kinds, submitted as a careful client does and followed to their ends, then everything
 * that was promised about them is looked up.
 */
import type { JobDetail } from "../../src/contract/schemas/job.ts";
import { eventually } from "../support/real-daemon.ts";
import type { World } from "./world.ts";

export const JOBS = 50;
/** Submissions at once. */
const LANES = 4;
/** A script takes two seconds; one that hangs is told apart from a slow machine by this. */
const SCRIPT_MS = 60_000;
const REQUEST_MS = 10_000;
const POLL_MS = 20;
/** Jobs looked up behind the script, newest first: its own, and what a key may have given twice. */
const LISTED = 4 * JOBS;
const TERMINAL: readonly unknown[] = ["COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"];

type Planned = {
  readonly n: number;
  readonly key: string;
  readonly endpoint: "python" | "node";
  readonly route: "run" | "runsync?wait=1000";
  readonly body: string;
  readonly output: unknown;
  readonly webhook: boolean;
};
type Job = Planned & { readonly id: string };
type Answer = { readonly code: number; readonly body: Body };
type Body = { readonly id: string; readonly status: string; readonly output?: unknown };

/** What was found. Each entry of a list is a sentence about one job. */
export type Findings = {
  readonly lost: readonly string[];
  readonly doubled: readonly string[];
  /** Handlers that ran more than once, which at-least-once allows, and those of them without a cause in the journal. */
  readonly ranTwice: number;
  readonly unexplained: readonly string[];
};

/** One run of the script. */
export async function runScript(world: World): Promise<Findings> {
  const deadlineMs = performance.now() + SCRIPT_MS;
  // Keys of its own: another run of the script is another 50 jobs.
  const name = `script-${world.ledger.ids.size / JOBS}`;
  const jobs = await submitAll(world, name, deadlineMs);
  const stuck = await followAll(world, jobs, deadlineMs);
  const silent = await webhooksMissing(world, jobs);
  const runs = world.runs();
  const found = await Promise.all(jobs.map((job) => inspect(world, job, runs.get(job.id) ?? 0)));
  return {
    lost: [...stuck, ...silent, ...found.flatMap(({ lost }) => lost)],
    doubled: [...found.flatMap(({ doubled }) => doubled), ...(await strangers(world))],
    ranTwice: found.filter(({ runs }) => runs > 1).length,
    unexplained: found.flatMap(({ unexplained }) => unexplained),
  };
}

/** Most jobs are plain; some wait for the result, stream, show progress, or have a webhook. */
function plan(world: World, name: string, n: number): Planned {
  const endpoint = n % 5 === 4 ? "node" : "python";
  const webhook = n % 3 === 0;
  const input = { n, progress: n % 7 === 1 };
  const parts = [0, 1, 2].map((part) => ({ echo: n, part }));
  return {
    n,
    key: `${name}-${n}`,
    endpoint,
    route: n % 10 === 7 ? "runsync?wait=1000" : "run",
    body: JSON.stringify({ input, ...(webhook && { webhook: world.receiver.url }) }),
    output: endpoint === "node" ? parts : { echo: n },
    webhook,
  };
}

async function submitAll(world: World, name: string, deadlineMs: number): Promise<Job[]> {
  const waiting = Array.from({ length: JOBS }, (_, n) => plan(world, name, n));
  const jobs: Job[] = [];
  const lane = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift())
      jobs.push({ ...next, id: await submit(world, next, deadlineMs) });
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  return jobs;
}

/** A broken connection is repeated with the same key. */
async function submit(world: World, job: Planned, deadlineMs: number): Promise<string> {
  for (;;) {
    const reply = await ask(world, `/v2/${job.endpoint}/${job.route}`, job);
    if (reply?.code === 200) {
      const { id, output } = reply.body;
      note(world.ledger.ids, job.key, id);
      // A repeat is answered with the state alone.
      if (output !== undefined) note(world.ledger.outputs, id, JSON.stringify(output));
      return id;
    }
    if (performance.now() > deadlineMs) throw new Error(`job ${job.key} could not be submitted`);
    await pause(POLL_MS);
  }
}

/** Null when there is no answer: the connection was reset by a kill. */
async function ask(world: World, path: string, post?: Planned): Promise<Answer | null> {
  try {
    const reply = await fetch(`${world.daemon.url}${path}`, {
      method: post ? "POST" : "GET",
      headers: { authorization: `Bearer ${world.daemon.key}`, ...(post && { "idempotency-key": post.key }) },
      ...(post && { body: post.body }),
      signal: AbortSignal.timeout(REQUEST_MS),
    });
    return { code: reply.status, body: (await reply.json()) as Body };
  } catch {
    return null;
  }
}

/** Looks at every job until all have ended; sentences about those that do not. */
async function followAll(world: World, jobs: readonly Job[], deadlineMs: number): Promise<string[]> {
  const open = new Map(jobs.map((job) => [job.id, job]));
  for (;;) {
    for (const { id, endpoint } of open.values()) {
      const answer = await ask(world, `/v2/${endpoint}/status/${id}`);
      if (answer?.code === 200 && answer.body.status === "COMPLETED")
        note(world.ledger.outputs, id, JSON.stringify(answer.body.output));
      // One that is not there does not come back.
      if (answer?.code === 404 || TERMINAL.includes(answer?.body.status)) open.delete(id);
    }
    if (open.size === 0) return [];
    if (performance.now() > deadlineMs) return [...open.values()].map(({ id }) => `${id} did not end`);
    await pause(POLL_MS);
  }
}

async function webhooksMissing(world: World, jobs: readonly Job[]): Promise<string[]> {
  const ended = (id: string) => world.ledger.outputs.has(id);
  const missing = () =>
    jobs
      .filter(({ id, webhook }) => webhook && ended(id) && world.receiver.about(id).size === 0)
      .map(({ id }) => id);
  await eventually(async () => missing().length === 0, REQUEST_MS, "the webhooks").catch(() => {});
  return missing().map((id) => `${id} sent no webhook`);
}

async function inspect(world: World, job: Job, runs: number) {
  const { id, output } = job;
  const detail = await lookUp(world, id);
  const lost: string[] = [];
  if (detail === null) lost.push(`${id} is not there`);
  else if (detail.status !== "COMPLETED" || !same(detail.output, output))
    lost.push(`${id} is ${detail.status} with ${JSON.stringify(detail.output)}`);
  if (runs === 0) lost.push(`${id} never ran`);
  const causes = (detail?.events ?? []).filter(({ kind }) => kind === "job.return" || kind === "job.lose");
  const unexplained = causes.length < runs - 1 ? [`${id} ran ${runs} times, causes ${causes.length}`] : [];
  return { lost, doubled: doubles(world, job, detail), runs, unexplained };
}

function doubles(world: World, { id, key, output }: Job, detail: JobDetail | null): string[] {
  const sentences: string[] = [];
  const ends = (detail?.events ?? []).filter(({ data }) => TERMINAL.includes(data.to));
  if (ends.length !== 1) sentences.push(`${id} has ${ends.length} ends in the journal`);
  const ids = world.ledger.ids.get(key) ?? new Set();
  if (ids.size !== 1) sentences.push(`the key ${key} gave ${[...ids].join(" and ")}`);
  const outputs = world.ledger.outputs.get(id) ?? new Set();
  if (outputs.size > 1) sentences.push(`${id} was seen with ${[...outputs].join(" and ")}`);
  const posts = world.receiver.about(id);
  const bodies = new Set([...posts.values()].flatMap((each) => [...each]));
  if (posts.size > 1) sentences.push(`${id} has webhooks ${[...posts.keys()].join(" and ")}`);
  if (bodies.size > 1) sentences.push(`${id} sent different webhooks: ${[...bodies].join(" and ")}`);
  for (const body of bodies)
    if (!same((JSON.parse(body) as Body).output, output)) sentences.push(`${id} sent ${body}`);
  return sentences;
}

async function lookUp(world: World, id: string): Promise<JobDetail | null> {
  const reply = await calm(world, `/api/jobs/${id}`);
  return reply.status === 200 ? reply.json<JobDetail>() : null;
}

/** Jobs that nobody was told of: a key that gave two, the first of them unseen. */
async function strangers(world: World): Promise<string[]> {
  const known = new Set([...world.ledger.ids.values()].flatMap((ids) => [...ids]));
  const listed = (await calm(world, `/api/jobs?limit=${LISTED}`)).json<{ id: string }[]>();
  return listed.filter(({ id }) => !known.has(id)).map(({ id }) => `${id} was never answered to anybody`);
}

/** A look at a daemon that may be killed at this very moment. */
function calm(world: World, path: string) {
  return eventually(
    () => world.daemon.call("GET", path).catch(() => undefined),
    SCRIPT_MS,
    `an answer of ${path}`,
  );
}

function note(seen: Map<string, Set<string>>, key: string, value: string): void {
  seen.set(key, (seen.get(key) ?? new Set()).add(value));
}

function same(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
