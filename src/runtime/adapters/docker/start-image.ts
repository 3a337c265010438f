import { statfs } from "node:fs/promises";
import { z } from "zod";
import { RpxError } from "../../../contract/error.ts";
import { formatSize } from "../../../text/size.ts";
import type { BuiltImage } from "../../core/model.ts";
import type { Clock } from "../../ports/clock.ts";
import { joinSignals } from "./abort.ts";
import type { Engine } from "./engine.ts";
import { refusalOf, safeText } from "./engine-errors.ts";
import { readJsonLines } from "./engine-events.ts";
import { createPullProgress, type PullMessage } from "./pull-progress.ts";

/** What of an image counts for a container of it. */
export type StartImage = {
  readonly os: string;
  readonly architecture: string;
  readonly env: Readonly<Record<string, string>>;
  readonly labels: Readonly<Record<string, string>>;
};

export type RegistryLogin = {
  readonly username: string;
  readonly password: string;
  /** The registry's host, as image names begin with it. */
  readonly server: string;
};

/** Makes sure that what a release was pinned to is there. */
export type StartImages = {
  /**
   * The image, pulled if the engine does not have it: `onPull` is told the percent, null while none is known. Rejects with an RpxError when
   * it is gone, refused, does not fit on the disk, or is for another processor.
   */
  ensure(
    built: BuiltImage,
    onPull: (percent: number | null) => void,
    signal: AbortSignal,
  ): Promise<StartImage>;
};

export type StartImagesDeps = {
  readonly engine: Engine;
  readonly clock: Clock;
  /** A stored login by its name; null when there is none of that name. */
  readonly login: (name: string) => Promise<RegistryLogin | null>;
};

/** Below this much free disk nothing is pulled. */
const MIN_FREE_BYTES = 1024 ** 3;
/** A registry that sends nothing for so long hangs. */
const MAX_QUIET_MS = 300_000;
const IMAGE_ID = /^sha256:[0-9a-f]{64}$/;
const GONE = 404;

const record = z.record(z.string(), z.string()).nullable().catch({});
const imageSchema = z.object({
  Os: z.string(),
  Architecture: z.string(),
  Config: z
    .object({ Env: z.array(z.string()).nullable().catch([]), Labels: record })
    .nullable()
    .catch(null),
});

export function createStartImages({ engine, clock, login }: StartImagesDeps): StartImages {
  async function find({ image }: BuiltImage): Promise<StartImage | null> {
    try {
      const found = await engine.ask(() => engine.docker.getImage(image).inspect(), {
        repeat: true,
      });
      return startImage(found);
    } catch (error) {
      if (refusalOf(error) === GONE) return null;
      throw error;
    }
  }

  async function pull(built: BuiltImage, onPull: (percent: number | null) => void, signal: AbortSignal) {
    await checkRoom(engine, built);
    const { controller, signal: whole, release } = joinSignals([signal]);
    const auth = await authOf(built, login);
    const progress = createPullProgress();
    let quiet = new AbortController();
    const watchQuiet = (): void => {
      quiet.abort();
      quiet = new AbortController();
      const mine = quiet.signal;
      void clock
        .sleep(MAX_QUIET_MS, mine)
        .then(() => mine.aborted || controller.abort(pullError(built, "the registry sends nothing")));
    };
    try {
      watchQuiet();
      const options = { fromImage: built.image, abortSignal: whole };
      const stream = await engine.ask(() => engine.docker.createImage(auth, options), {
        signal: whole,
        limitMs: MAX_QUIET_MS,
      });
      for await (const message of readJsonLines(stream)) {
        watchQuiet();
        const failure = (message as { error?: unknown } | null)?.error;
        if (failure !== undefined) throw pullError(built, safeText(String(failure)));
        onPull(progress((message ?? {}) as PullMessage));
      }
    } catch (error) {
      if (whole.aborted) throw whole.reason;
      throw refusalOf(error) === null ? error : pullError(built, (error as Error).message, error);
    } finally {
      quiet.abort();
      controller.abort();
      release();
    }
  }

  return {
    async ensure(built, onPull, signal) {
      let found = await find(built);
      if (found === null) {
        if (IMAGE_ID.test(built.image)) throw imageGone(built);
        onPull(null);
        await pull(built, onPull, signal);
        found = await find(built);
      }
      if (found === null) throw imageGone(built);
      checkPlatform(built, found, engine);
      return found;
    },
  };
}

function startImage(found: unknown): StartImage {
  const { Os, Architecture, Config } = imageSchema.parse(found);
  const variables = (Config?.Env ?? []).map((text) => {
    const at = text.indexOf("=");
    return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
  });
  return {
    os: Os,
    architecture: Architecture,
    env: Object.fromEntries(variables),
    labels: Config?.Labels ?? {},
  };
}

/** Another processor's program would end at once, with a word about its format that names no cause. */
function checkPlatform(built: BuiltImage, image: StartImage, engine: Engine): void {
  const facts = engine.facts();
  if (facts === null || (image.os === facts.os && image.architecture === facts.architecture)) return;
  throw new RpxError("bad_request", `the image ${built.reference} cannot run here`, {
    why: `it is for ${safeText(`${image.os}/${image.architecture}`)}, the Docker engine runs ${facts.os}/${facts.architecture}`,
    hint: `build it for ${facts.os}/${facts.architecture}`,
  });
}

/** Where the engine keeps its data on this machine; elsewhere it says itself when it is full. */
async function checkRoom(engine: Engine, built: BuiltImage): Promise<void> {
  const folder = engine.isSocket ? engine.facts()?.rootDir : undefined;
  const found = folder === undefined ? null : await statfs(folder).catch(() => null);
  const freeBytes = found === null ? null : found.bavail * found.bsize;
  if (freeBytes === null || freeBytes >= MIN_FREE_BYTES) return;
  throw new RpxError("unavailable", `there is no room for the image ${built.reference}`, {
    why: `${formatSize(freeBytes)} are free in ${folder}, at least ${formatSize(MIN_FREE_BYTES)} are needed`,
    hint: "free space: rpx image prune, docker system df",
  });
}

async function authOf(
  { registry, reference }: BuiltImage,
  login: (name: string) => Promise<RegistryLogin | null>,
): Promise<object | undefined> {
  if (registry === null) return undefined;
  const found = await login(registry);
  if (found !== null)
    return { username: found.username, password: found.password, serveraddress: found.server };
  throw new RpxError("not_found", `there is no registry login "${registry}" to pull ${reference} with`, {
    hint: "rpx registry add",
  });
}

function pullError({ reference, image }: BuiltImage, why: string, cause?: unknown): RpxError {
  return new RpxError("unavailable", `cannot pull ${reference} (${image})`, {
    why,
    hint: "check its name; a private registry needs a login: rpx registry add",
    cause,
  });
}

function imageGone({ reference, image }: BuiltImage): RpxError {
  return new RpxError("unavailable", `the image ${reference} is gone from the Docker engine`, {
    why: `${image} was built here, and somebody removed it`,
    hint: "deploy the endpoint again",
  });
}
