import type { Socket } from "node:net";
import type Docker from "dockerode";
import { RpxError } from "../../../contract/error.ts";
import type { OnStep } from "../../ports/worker-pool.ts";
import type { BuildContext } from "./build-context.ts";
import { type BuildOutput, createBuildOutput } from "./build-output.ts";
import type { Engine } from "./engine.ts";
import { EngineRefusal } from "./engine-errors.ts";
import { streamMessages } from "./engine-messages.ts";

export type BuildRun = {
  readonly context: BuildContext;
  /** Path of the Dockerfile in the context. */
  readonly dockerfile: string;
  readonly tag: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly onStep: OnStep;
  readonly signal: AbortSignal;
};

/** How one builder fared. `refused`: why it did not even begin, as far as it was the engine that said so. */
type Attempt = { readonly output: BuildOutput; readonly refused: string | null };

/** The slowest builds compile for an hour; one that takes longer hangs. */
const MAX_BUILD_MS = 2 * 3_600_000;

/**
 * Builds an image and returns its id. BuildKit is tried first; where it cannot begin a single step (an engine without it, a
 * front end that it cannot load) the classic builder gets the same context. Rejects with `bad_request` and the build's last lines, with
 * `unavailable` when no engine answers.
 */
export async function runBuild(engine: Engine, run: BuildRun): Promise<string> {
  const limit = AbortSignal.timeout(MAX_BUILD_MS);
  const bounded = { ...run, signal: AbortSignal.any([run.signal, limit]) };
  try {
    const first = await attempt(engine, bounded, "2");
    if (first.output.hasBegun() || isDone(first)) return resultOf([first]);
    const second = await attempt(engine, bounded, "1");
    return resultOf(second.output.hasBegun() || isDone(second) ? [second] : [first, second]);
  } catch (error) {
    if (!limit.aborted) throw error;
    throw new RpxError("timed_out", "the build was given up", {
      why: `it took longer than ${MAX_BUILD_MS / 60_000} minutes`,
      cause: error,
    });
  }
}

function isDone({ output }: Attempt): boolean {
  return output.imageId() !== null && output.error() === null;
}

/** The image's id, or the last attempt's failure; what the one before said stands beside it. */
function resultOf(attempts: readonly Attempt[]): string {
  const last = attempts.at(-1);
  const imageId = last?.output.imageId() ?? null;
  if (last !== undefined && imageId !== null && isDone(last)) return imageId;
  const lines = attempts.flatMap(({ output, refused }) => [
    ...output.lastLines(),
    ...(refused === null ? [] : [refused]),
    ...(output.error() === null ? [] : [output.error() ?? ""]),
  ]);
  throw new RpxError("bad_request", "the image could not be built", {
    why: lines.join("\n") || "the builder ended without a word",
    hint: "mend what the last lines name, then deploy again",
  });
}

async function attempt(engine: Engine, run: BuildRun, version: "1" | "2"): Promise<Attempt> {
  const output = createBuildOutput(run.onStep);
  const session = holdSession(engine.docker);
  const tar = run.context.open();
  try {
    const call = () =>
      session.docker.buildImage(tar, {
        version,
        dockerfile: run.dockerfile,
        t: run.tag,
        labels: run.labels,
        // The classic builder leaves no containers behind, also where a step fails.
        rm: true,
        forcerm: true,
        abortSignal: run.signal,
      });
    for await (const message of streamMessages(engine, call)) output.take(message);
    run.signal.throwIfAborted();
    return { output, refused: null };
  } catch (error) {
    run.signal.throwIfAborted();
    if (!(error instanceof EngineRefusal)) throw error;
    return { output, refused: error.message };
  } finally {
    tar.destroy();
    session.end();
  }
}

/**
 * BuildKit asks its client for logins over a session, a connection of its own. dockerode ends it only where a build ends well;
 * seen from here it is a socket. No login is ever given to it: it would go to whichever registry asks.
 */
function holdSession(docker: Docker): { readonly docker: Docker; end(): void } {
  let socket: Socket | null = null;
  const modem = Object.create(docker.modem, {
    dial: {
      value: (options: { path: string }, done: (error: unknown, answer: unknown) => void) =>
        docker.modem.dial(options, (error: unknown, answer: unknown) => {
          if (options.path === "/session") socket = answer as Socket | null;
          done(error, answer);
        }),
    },
  });
  return {
    docker: Object.create(docker, { modem: { value: modem } }),
    end: () => socket?.destroy(),
  };
}
