import { RpxError } from "../../../contract/error.ts";
import { type ImageReference, isImageId, parseImageReference } from "../../core/image-reference.ts";
import type { RegistryLogin } from "../../ports/images.ts";
import type { OnStep } from "../../ports/worker-pool.ts";
import type { Engine } from "./engine.ts";
import { safeText } from "./engine-errors.ts";
import { checkPlatform, findImage, type ImageFacts, type Platform } from "./image-facts.ts";
import { loginFor, type PullDeps, pullImage } from "./image-pull.ts";

export type Pin = {
  readonly reference: string;
  readonly login: RegistryLogin | null;
  readonly onStep: OnStep;
  readonly signal: AbortSignal;
};

/** An image that is here, by a name that never moves. */
export type PinnedImage = {
  /** `name@sha256:...`, or its id where no registry is known to have it. */
  readonly image: string;
  readonly facts: ImageFacts;
  readonly warnings: readonly string[];
};

/** What a registry has under a tag. */
type Offer = { readonly digest: string; readonly platforms: readonly Platform[] };

/** The engine asks the registry for a manifest: a few kilobytes. */
const ASK_MS = 20_000;

/**
 * Turns what a user calls an image into one that stays the same, and makes sure that the engine has it. The registry is asked what the
 * tag is now; an image that was built or imported here and never came from a registry is taken as it is, since a stranger's of the same
 * name may be in one. Rejects with `bad_request` for another platform, before anything is pulled where the registry says so.
 */
export async function pinImage(deps: PullDeps, pin: Pin): Promise<PinnedImage> {
  const pinned = isImageId(pin.reference)
    ? await pinById(deps.engine, pin.reference)
    : await pinByName(deps, pin, parsed(pin.reference));
  checkPlatform(pin.reference, [pinned.facts.platform], deps.engine.facts());
  return pinned;
}

function parsed(text: string): ImageReference {
  const reference = parseImageReference(text);
  if (reference !== null) return reference;
  throw new RpxError("bad_request", `"${text}" is no name of an image`, {
    hint: "name it like org/image:tag, registry.example/image:tag or image@sha256:...",
  });
}

async function pinById(engine: Engine, id: string): Promise<PinnedImage> {
  const facts = await findImage(engine, id);
  if (facts !== null) return { image: facts.id, facts, warnings: [] };
  throw new RpxError("not_found", `the engine has no image ${id}`, { hint: "docker images" });
}

async function pinByName(deps: PullDeps, pin: Pin, reference: ImageReference): Promise<PinnedImage> {
  const name = reference.digest === null ? `${reference.name}:${reference.tag}` : digestName(reference);
  const local = await findImage(deps.engine, name);
  if (local !== null && reference.digest !== null) return { image: name, facts: local, warnings: [] };
  if (local !== null && digestOf(local, reference) === null)
    return { image: local.id, facts: local, warnings: [] };
  pin.onStep(`asking ${reference.registry} for ${reference.name}`);
  const offer = await ask(deps.engine, pin, reference);
  if ("failure" in offer) return local === null ? pull(deps, pin, reference) : stale(reference, local, offer);
  checkPlatform(pin.reference, offer.platforms, deps.engine.facts());
  const known = local !== null && digestOf(local, reference) === offer.digest;
  return known ? pinned(reference, local) : pull(deps, pin, reference);
}

/** What the registry says now, or why it does not. An image that is here is no reason to wait for a registry that is away. */
async function ask(
  engine: Engine,
  { login, signal }: Pin,
  reference: ImageReference,
): Promise<Offer | { readonly failure: string }> {
  const version = reference.digest === null ? `:${reference.tag}` : `@${reference.digest}`;
  const image = engine.docker.getImage(`${reference.name}${version}`);
  const options = login === null ? {} : { authconfig: loginFor(reference, login) };
  try {
    const asked = { limitMs: ASK_MS, signal };
    return readOffer(await engine.ask((call) => image.distribution({ ...call, ...options }), asked));
  } catch (error) {
    signal.throwIfAborted();
    return { failure: safeText(error instanceof Error ? error.message : String(error)) };
  }
}

function readOffer(answer: unknown): Offer {
  const { Descriptor, Platforms } = (answer ?? {}) as {
    Descriptor?: { digest?: unknown };
    Platforms?: readonly { os?: unknown; architecture?: unknown }[] | null;
  };
  const platforms = (Platforms ?? []).flatMap(({ os, architecture }) =>
    typeof os === "string" && typeof architecture === "string" && os !== "" && architecture !== ""
      ? [{ os, architecture }]
      : [],
  );
  return { digest: String(Descriptor?.digest), platforms };
}

async function pull(deps: PullDeps, pin: Pin, reference: ImageReference): Promise<PinnedImage> {
  const version = reference.digest ?? reference.tag ?? "latest";
  await pullImage(deps, { reference, version, login: pin.login, onStep: pin.onStep, signal: pin.signal });
  const name = reference.digest === null ? `${reference.name}:${reference.tag}` : digestName(reference);
  const facts = await findImage(deps.engine, name);
  if (facts !== null) return pinned(reference, facts);
  throw new RpxError("unavailable", `the image ${name} is gone again`, { why: "somebody removed it" });
}

function stale(
  reference: ImageReference,
  local: ImageFacts,
  offer: { readonly failure: string },
): PinnedImage {
  const warning = `the registry could not be asked for a newer ${reference.name}:${reference.tag}: the one that is here is used (${offer.failure})`;
  return { ...pinned(reference, local), warnings: [warning] };
}

function pinned(reference: ImageReference, facts: ImageFacts): PinnedImage {
  const digest = reference.digest ?? digestOf(facts, reference);
  return { image: digest === null ? facts.id : `${reference.name}@${digest}`, facts, warnings: [] };
}

/** The digest under which the image's own registry has it; null for one that came from none. */
function digestOf(facts: ImageFacts, { name }: ImageReference): string | null {
  const known = facts.digests.find((each) => each.startsWith(`${name}@`));
  return known?.slice(name.length + 1) ?? null;
}

function digestName({ name, digest }: ImageReference): string {
  return `${name}@${digest}`;
}
