import { RpxError } from "../../../contract/error.ts";
import { parseImageReference } from "../../core/image-reference.ts";
import type { ImagePull } from "../../ports/images.ts";
import type { OnStep } from "../../ports/worker-pool.ts";
import type { Engine } from "./engine.ts";
import { EngineRefusal } from "./engine-errors.ts";
import { streamMessages } from "./engine-messages.ts";
import { loginFor } from "./image-pull.ts";
import { createTransfer, type TransferMessage } from "./transfer.ts";

/** As a pull: a push that takes longer hangs. */
const MAX_PUSH_MS = 6 * 3_600_000;

/** Pushes a tag to the registry that its name says; returns `name@sha256:...`. Rejects with `unavailable` where that refuses it. */
export async function pushImage(
  engine: Engine,
  { reference: text, login }: ImagePull,
  onStep: OnStep,
  signal: AbortSignal,
): Promise<string> {
  const reference = parseImageReference(text);
  if (reference === null || reference.tag === null)
    throw new RpxError("bad_request", `"${text}" cannot be pushed`, {
      hint: "name it like registry.example/image:tag",
    });
  const { name, tag } = reference;
  // The engine wants some login even where the registry wants none.
  const authconfig = login === null ? {} : loginFor(reference, login);
  const limit = AbortSignal.timeout(MAX_PUSH_MS);
  const abortSignal = AbortSignal.any([signal, limit]);
  const shown = `pushing ${name}:${tag}`;
  const transfer = createTransfer(shown, onStep);
  let digest: string | null = null;
  onStep(shown);
  try {
    const call = () => engine.docker.getImage(name).push({ tag, authconfig, abortSignal });
    for await (const message of streamMessages(engine, call)) {
      transfer.take(message as TransferMessage);
      digest = digestOf(message) ?? digest;
      const failure = transfer.error();
      if (failure !== null) throw refused(text, failure, null);
    }
  } catch (error) {
    signal.throwIfAborted();
    if (limit.aborted) throw refused(text, `it took longer than ${MAX_PUSH_MS / 3_600_000} hours`, error);
    throw error instanceof EngineRefusal ? refused(text, error.message, error) : error;
  }
  if (digest === null) throw refused(text, "the engine did not say what the registry has now", null);
  return `${name}@${digest}`;
}

function digestOf({ aux }: Record<string, unknown>): string | null {
  const digest = (aux as { Digest?: unknown } | null | undefined)?.Digest;
  return typeof digest === "string" && /^sha256:[0-9a-f]{64}$/.test(digest) ? digest : null;
}

function refused(reference: string, why: string, cause: unknown): RpxError {
  return new RpxError("unavailable", `cannot push ${reference}`, {
    why,
    hint: "check its name and the login of its registry: rpx registry list",
    cause,
  });
}
