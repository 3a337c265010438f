import type Docker from "dockerode";
import { RpxError } from "../../../contract/error.ts";
import { formatSize } from "../../../text/size.ts";
import { canonicalRegistry, DEFAULT_REGISTRY, type ImageReference } from "../../core/image-reference.ts";
import type { RegistryLogin } from "../../ports/images.ts";
import type { OnStep } from "../../ports/worker-pool.ts";
import type { Engine } from "./engine.ts";
import { EngineRefusal, refusalOf } from "./engine-errors.ts";
import { streamMessages } from "./engine-messages.ts";
import { createTransfer, type TransferMessage } from "./transfer.ts";

export type PullDeps = {
  readonly engine: Engine;
  /** Free bytes where the engine keeps images; null where that cannot be seen from here. */
  readonly freeBytes: () => Promise<number | null>;
};

export type Pull = {
  readonly reference: ImageReference;
  /** What is pulled: its tag, or a digest. */
  readonly version: string;
  readonly login: RegistryLogin | null;
  readonly onStep: OnStep;
  readonly signal: AbortSignal;
};

/** Below this much free disk nothing is pulled. */
const MIN_FREE_BYTES = 1024 ** 3;
/** A layer as it came, and unpacked to about twice that, lie side by side. */
const BYTES_PER_PACKED_BYTE = 3;
/** Images of tens of gigabytes over slow lines; a pull that takes longer hangs. */
const MAX_PULL_MS = 6 * 3_600_000;

/**
 * Pulls an image. Rejects with `not_found` when the registry has none, `unavailable` when it or the engine does not answer or the disk
 * is too full: what is known of the sizes is compared with what is free, before the layers are there.
 */
export async function pullImage(deps: PullDeps, pull: Pull): Promise<void> {
  const free = await deps.freeBytes();
  if (free !== null && free < MIN_FREE_BYTES) throw noRoom(pull, MIN_FREE_BYTES, free);
  const stopped = new AbortController();
  const limit = AbortSignal.timeout(MAX_PULL_MS);
  const signal = AbortSignal.any([pull.signal, limit, stopped.signal]);
  const shown = `pulling ${pull.reference.name}:${pull.version}`.replace(":sha256:", "@sha256:");
  const transfer = createTransfer(shown, pull.onStep);
  pull.onStep(shown);
  try {
    for await (const message of streamMessages(deps.engine, () => open(deps.engine, pull, signal))) {
      transfer.take(message as TransferMessage);
      const failure = transfer.error();
      if (failure !== null) throw refused(pull, failure, null);
      const needed = transfer.packedBytes() * BYTES_PER_PACKED_BYTE;
      if (free !== null && needed > free) throw noRoom(pull, needed, free);
    }
    signal.throwIfAborted();
  } catch (error) {
    pull.signal.throwIfAborted();
    if (limit.aborted) throw refused(pull, `it took longer than ${MAX_PULL_MS / 3_600_000} hours`, error);
    throw error instanceof EngineRefusal ? refused(pull, error.message, error) : error;
  } finally {
    stopped.abort();
  }
}

function open(engine: Engine, pull: Pull, signal: AbortSignal): Promise<NodeJS.ReadableStream> {
  const { reference, version, login } = pull;
  const auth = login === null ? undefined : loginFor(reference, login);
  return engine.docker.createImage(auth, { fromImage: reference.name, tag: version, abortSignal: signal });
}

/** A login as the engine takes it. Throws `bad_request` when it is for another registry: a password goes to its own alone. */
export function loginFor(
  { registry, name }: Pick<ImageReference, "registry" | "name">,
  login: RegistryLogin,
): Docker.AuthConfig {
  if (canonicalRegistry(login.server) !== registry)
    throw new RpxError("bad_request", `the registry login "${login.name}" is not for ${name}`, {
      why: `it is for ${login.server}, the image is at ${registry}`,
      hint: "name the login of its registry: rpx registry list",
    });
  return { username: login.username, password: login.password, serveraddress: addressOf(registry) };
}

/** Docker Hub's login has an address of its own. */
function addressOf(registry: string): string {
  return registry === DEFAULT_REGISTRY ? "https://index.docker.io/v1/" : registry;
}

function noRoom({ reference }: Pull, needed: number, free: number): RpxError {
  return new RpxError("unavailable", `there is no room for the image ${reference.name}`, {
    why: `it needs about ${formatSize(needed)}, ${formatSize(free)} are free where the engine keeps images`,
    hint: "free space: rpx image prune, docker system df",
  });
}

function refused({ reference, version, login }: Pull, why: string, cause: unknown): RpxError {
  const isMissing = refusalOf(cause) === 404;
  return new RpxError(isMissing ? "not_found" : "unavailable", `cannot pull ${reference.name} (${version})`, {
    why,
    hint:
      login === null
        ? "check its name; a private registry needs a login: rpx registry add"
        : `check its name, and the login "${login.name}"`,
    cause,
  });
}
