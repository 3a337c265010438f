import { createHash } from "node:crypto";
import { RpxError } from "../../../contract/error.ts";
import { canonicalRegistry, parseImageReference } from "../../core/image-reference.ts";
import type { RegistryLogin } from "../../ports/images.ts";
import type { OnStep } from "../../ports/worker-pool.ts";
import { type BuildPlan, type PlanRequest, planBuild } from "./build-plan.ts";
import type { Engine } from "./engine.ts";
import { checkPlatform, findImage, type ImageFacts } from "./image-facts.ts";
import { type PullDeps, pullImage } from "./image-pull.ts";
import { CONTENT_LABEL, type Labels } from "./labels.ts";
import { runBuild } from "./run-build.ts";

export type FolderBuild = PlanRequest & {
  readonly login: RegistryLogin | null;
  /** Tag of the image that comes of it: `name:tag`. */
  readonly tag: string;
  /** Whose image it is. Only an image with the same labels is taken instead of a new one. */
  readonly labels: Labels;
  /** Labels that say more, by which none is looked for. */
  readonly notes: Labels;
  readonly onStep: OnStep;
  readonly signal: AbortSignal;
};

export type FolderImage = {
  readonly facts: ImageFacts;
  readonly plan: BuildPlan;
  /** The folder was built before, just as it is now. */
  readonly isUnchanged: boolean;
};

export type FolderImages = {
  /** Builds a folder, or finds the image that was built of the same content. Rejects with RpxErrors that say what to mend. */
  build(build: FolderBuild): Promise<FolderImage>;
};

/** Changes when the same content makes another image. */
const FORMAT = 1;
/** Builds that run at a time: each may use all of the machine. */
const MAX_BUILDS = 2;

export function createFolderImages(deps: PullDeps): FolderImages {
  const { engine } = deps;
  const enter = createSlots(MAX_BUILDS);

  async function build(request: FolderBuild): Promise<FolderImage> {
    const { labels, notes, onStep, signal, tag } = request;
    const plan = await planBuild(request);
    const bases = await prepareBases(deps, plan, request);
    const content = await contentOf(plan, bases, signal);
    const before = await findBuilt(engine, { ...labels, [CONTENT_LABEL]: content });
    if (before !== null) {
      onStep("unchanged since it was built: nothing to build");
      await addTag(engine, before, tag);
      return { facts: before, plan, isUnchanged: true };
    }
    const leave = await enter(() => onStep("waiting for another build"), signal);
    try {
      const all = { ...labels, ...notes, [CONTENT_LABEL]: content };
      const id = await runBuild(engine, { ...plan, tag, labels: all, onStep, signal });
      const facts = await findImage(engine, id);
      if (facts === null) throw new RpxError("unavailable", "the image that was built is gone again");
      checkPlatform(tag, [facts.platform], engine.facts());
      return { facts, plan, isUnchanged: false };
    } finally {
      leave();
    }
  }

  return { build };
}

/**
 * Makes sure of the images that a build begins with, as far as we know better than the builder: the base of a generated image, and
 * those of the registry whose login is given, which no builder gets to see. Returns the ids of those that are here.
 */
async function prepareBases(deps: PullDeps, plan: BuildPlan, build: FolderBuild): Promise<string[]> {
  const ids: string[] = [];
  for (const base of plan.bases) {
    const reference = parseImageReference(base);
    if (reference === null) {
      if (plan.language === null) continue;
      throw new RpxError("bad_request", `"${base}" is no name of an image`, { hint: "correct [image] base" });
    }
    const version = reference.digest ?? reference.tag ?? "latest";
    const name = `${reference.name}${reference.digest === null ? ":" : "@"}${version}`;
    const isOfLogin = build.login !== null && canonicalRegistry(build.login.server) === reference.registry;
    let facts = await findImage(deps.engine, name);
    if (facts === null && (plan.language !== null || isOfLogin)) {
      const { onStep, signal } = build;
      await pullImage(deps, { reference, version, login: isOfLogin ? build.login : null, onStep, signal });
      facts = await findImage(deps.engine, name);
    }
    if (facts !== null) ids.push(facts.id);
  }
  return ids;
}

async function contentOf(plan: BuildPlan, bases: readonly string[], signal: AbortSignal): Promise<string> {
  const parts = [FORMAT, plan.dockerfile, bases, await plan.context.digest(signal)];
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex");
}

async function findBuilt(engine: Engine, labels: Labels): Promise<ImageFacts | null> {
  const label = Object.entries(labels).map(([name, value]) => `${name}=${value}`);
  const list = engine.ask((options) => engine.docker.listImages({ ...options, filters: { label } }), {
    repeat: true,
  });
  const [found] = await list;
  return found === undefined ? null : findImage(engine, found.Id);
}

async function addTag(engine: Engine, { id }: ImageFacts, tag: string): Promise<void> {
  const at = tag.lastIndexOf(":");
  const name = { repo: tag.slice(0, at), tag: tag.slice(at + 1) };
  await engine.ask((options) => engine.docker.getImage(id).tag({ ...options, ...name }), { repeat: true });
}

/** Lets so many in at a time, the others in their order. `onWait` is called when there is no place at once. */
function createSlots(count: number) {
  let free = count;
  const waiting: (() => void)[] = [];
  const leave = () => {
    const next = waiting.shift();
    if (next) next();
    else free += 1;
  };
  return async (onWait: () => void, signal: AbortSignal): Promise<() => void> => {
    signal.throwIfAborted();
    if (free > 0) {
      free -= 1;
      return leave;
    }
    onWait();
    await new Promise<void>((resolve, reject) => {
      waiting.push(resolve);
      signal.addEventListener(
        "abort",
        () => {
          const at = waiting.indexOf(resolve);
          if (at >= 0) waiting.splice(at, 1);
          reject(signal.reason);
        },
        { once: true },
      );
    });
    return leave;
  };
}
