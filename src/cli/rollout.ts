import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "../client/client.ts";
import { RpxError } from "../contract/error.ts";
import type { EndpointBody } from "../contract/schemas/endpoint.ts";
import type { ReleaseBody } from "../contract/schemas/release.ts";
import type { WorkerBody } from "../contract/schemas/worker.ts";
import { sanitizeLine } from "../text/sanitize.ts";
import { formatFacts } from "./facts.ts";
import type { Interrupt } from "./interrupt.ts";
import { talk } from "./output.ts";
import type { Progress } from "./progress.ts";

/** Between two looks at a release, in ms. */
const LOOK_MS = 300;
/** Lines of a failed worker's output that an error brings. */
const LAST_LINES = 20;

/** A release on its way, and how the one who waits is told. */
export type Rollout = {
  readonly client: Client;
  readonly endpoint: { readonly id: string; readonly name: string };
  readonly version: number;
  readonly progress: Progress;
  readonly interrupt: Interrupt;
};

/**
 * Waits until a release serves, saying why it does not yet. Throws RpxError `conflict` when a newer one takes its place, `job_failed` when
 * one of its tests fails, `release_failed` otherwise, each with the last lines of its worker. Ctrl-C leaves the rollout going.
 */
export async function waitForRelease(rollout: Rollout): Promise<ReleaseBody> {
  const { client, endpoint, version, progress, interrupt } = rollout;
  interrupt.explain({
    message: `stopped waiting; release ${version} of ${endpoint.name} goes on by itself`,
    hint: `rpx endpoint releases ${endpoint.name}`,
  });
  let said = "";
  for (;;) {
    const release = await client.release(endpoint.id, version);
    if (release.liveAt !== null) return release;
    if (release.state === "superseded") throw superseded(rollout, release);
    if (release.state === "failed") throw await failed(rollout, release);
    const text = `release ${version} is ${release.state}: ${release.reason}`;
    if (text !== said) progress.step(...withPercent(text));
    said = text;
    await sleep(LOOK_MS, undefined, { signal: interrupt.signal }).catch(() =>
      interrupt.signal.throwIfAborted(),
    );
  }
}

/** What a pull's reason says at its end goes into the bar; elsewhere it would be a line for each percent. */
function withPercent(text: string): [text: string, percent?: number] {
  const [, percent] = /, (\d{1,3}) %$/.exec(text) ?? [];
  return percent === undefined ? [text] : [text.slice(0, text.lastIndexOf(",")), Number(percent)];
}

function superseded({ endpoint }: Rollout, { version, reason }: ReleaseBody): RpxError {
  return new RpxError("conflict", `release ${version} of ${endpoint.name} does not go live`, {
    why: reason,
    hint: `rpx endpoint releases ${endpoint.name} shows which does`,
  });
}

async function failed({ client, endpoint }: Rollout, release: ReleaseBody): Promise<RpxError> {
  const { version, reason, failure } = release;
  const worker = await workerOf(client, endpoint.id, version).catch(() => null);
  const lines = worker === null ? [] : await lastLines(client, worker).catch(() => []);
  const stays = await liveRelease(client, endpoint.id).catch(() => 0);
  return new RpxError(
    failure === "test" ? "job_failed" : "release_failed",
    `release ${version} of ${endpoint.name} failed; ${stays === 0 ? "none serves" : `release ${stays} goes on serving`}`,
    {
      why: failure === "worker" ? `${reason}${exitText(worker)}` : reason,
      hint: worker === null ? `rpx endpoint releases ${endpoint.name}` : `rpx worker logs ${worker.id}`,
      lines,
    },
  );
}

/** The last worker of a release, also when it is gone; null where none was started. */
async function workerOf(client: Client, endpoint: string, version: number): Promise<WorkerBody | null> {
  const workers = await client.listWorkers({ endpoint, all: true });
  return workers.find(({ release }) => release === version) ?? null;
}

async function lastLines(client: Client, { id }: WorkerBody): Promise<string[]> {
  const lines: string[] = [];
  for await (const { line } of client.workerLogs(id, { tail: LAST_LINES })) lines.push(line);
  return lines;
}

async function liveRelease(client: Client, endpoint: string): Promise<number> {
  return (await client.getEndpoint(endpoint)).release;
}

/** How the worker ended, where its reason does not say it already. */
function exitText(worker: WorkerBody | null): string {
  const code = worker?.exit?.code ?? null;
  return code === null || worker?.reason.includes(`code ${code}`) ? "" : ` (exit code ${code})`;
}

/** A release that was just made, or was there already. */
export type Made = {
  readonly endpoint: EndpointBody;
  readonly version: number;
  /** Whether this command made it. */
  readonly isNew: boolean;
};

/** The answer of `endpoint deploy` and `endpoint rollback`. */
export type Outcome = {
  readonly document: {
    readonly id: string;
    readonly name: string;
    readonly url: string;
    readonly release: number;
    readonly changed: boolean;
  };
  readonly text: string;
};

/** Waits for a release where that is asked for, and says what came of it. Throws as {@link waitForRelease} does. */
export async function finishRollout(
  made: Made & Omit<Rollout, "endpoint" | "version"> & { readonly isWaitedFor: boolean },
): Promise<Outcome> {
  const { endpoint, version, isNew, client, progress, isWaitedFor } = made;
  const release = isWaitedFor ? await waitForRelease(made) : await client.release(endpoint.id, version);
  progress.done();
  if (isNew) for (const warning of release.warnings) talk(`warning: ${sanitizeLine(warning)}`);
  const { id, name, url } = endpoint;
  return {
    document: { id, name, url, release: version, changed: isNew },
    text: formatFacts([
      ["endpoint", name],
      ["id", id],
      ["url", url],
      ["release", `${version} (${release.state}; ${isNew ? release.reason : "nothing changed"})`],
    ]),
  };
}
