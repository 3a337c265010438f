import path from "node:path";
import { RpxError } from "../../../contract/error.ts";
import type { BuiltImage, BuiltMount, ReleaseSpec } from "../../core/model.ts";
import type { RegistryLogin } from "../../ports/images.ts";
import type { BuildRequest, OnStep, ReleaseBuilder } from "../../ports/worker-pool.ts";
import type { Engine } from "./engine.ts";
import { createFolderImages, type FolderImage, type FolderImages } from "./folder-image.ts";
import type { ImageFacts } from "./image-facts.ts";
import { DAEMON_LABEL, ENDPOINT_LABEL, RELEASE_LABEL } from "./labels.ts";
import { pinImage } from "./pin-image.ts";
import { standIn } from "./stand-in.ts";

export type ImageBuilderDeps = {
  readonly engine: Engine;
  /** The data directory's id: the label of everything that is ours. */
  readonly daemonId: string;
  /** The folder with `python/` and `node/`, absolute. */
  readonly sdkDir: string;
  /** Where a bundle was unpacked. */
  readonly pathOfBundle: (digest: string) => string;
  /** A stored login by its name; throws RpxError `not_found`. */
  readonly login: (name: string) => RegistryLogin;
  /** Whether containers can be given folders of this machine: not where the engine runs on another. */
  readonly mountsFolders: boolean;
  /** Free bytes where the engine keeps images; null where that cannot be seen from here. */
  readonly freeBytes: () => Promise<number | null>;
};

type Task = BuildRequest & {
  readonly login: RegistryLogin | null;
  readonly onStep: OnStep;
  readonly signal: AbortSignal;
};

/**
 * The Docker pool's `ReleaseBuilder`: builds a folder or bundle into an image of ours, or pins an image that the user names. A folder
 * (rpx dev) stays where it is and is mounted over the image's working directory, read-only.
 */
export function createImageBuilder(deps: ImageBuilderDeps): ReleaseBuilder {
  const folders = createFolderImages(deps);

  async function build(task: Task): Promise<BuiltImage> {
    const { source } = task.spec;
    if (source.kind === "image") return buildOfImage(deps, task, source.reference);
    const folder = source.kind === "folder" ? path.resolve(source.path) : deps.pathOfBundle(source.digest);
    return buildOfFolder(deps, folders, task, folder);
  }

  return {
    build: async (request, onStep, signal) => {
      try {
        const { registry } = request.spec.image;
        const login = registry === undefined ? null : deps.login(registry);
        return await build({ ...request, login, onStep, signal });
      } catch (error) {
        if (signal.aborted && !(error instanceof RpxError))
          throw new RpxError("interrupted", "the build was given up", { cause: error });
        throw error;
      }
    },
  };
}

/** The name of the image of a release, for people: what counts is its id. */
export function releaseTag(endpointId: string, version: number): string {
  // Names of images have no capitals; ids that clients chose may.
  const name = /^[a-z0-9]+(?:(?:__?|-+)[a-z0-9]+)*$/.test(endpointId)
    ? endpointId
    : `id-${Buffer.from(endpointId).toString("hex")}`;
  return `rpx/${name}:v${version}`;
}

async function buildOfImage(deps: ImageBuilderDeps, task: Task, reference: string): Promise<BuiltImage> {
  const { spec, login, onStep, signal } = task;
  const { image, facts, warnings } = await pinImage(deps, { reference, login, onStep, signal });
  const sdkDir = deps.mountsFolders ? deps.sdkDir : null;
  const { env, mounts } = sdkDir === null ? NO_STAND_IN : standIn(null, facts.env, sdkDir);
  return {
    ...programOf(spec),
    kind: "image",
    image,
    reference,
    registry: spec.image.registry ?? null,
    mounts,
    env,
    runtime: `image ${reference} (${shortDigest(image)})`,
    warnings: [
      ...warnings,
      ...programWarnings(spec, facts),
      ...(sdkDir === null ? [NO_STAND_IN_WARNING] : []),
    ],
  };
}

async function buildOfFolder(
  deps: ImageBuilderDeps,
  folders: FolderImages,
  task: Task,
  folder: string,
): Promise<BuiltImage> {
  const { spec, endpointId, version } = task;
  const tag = releaseTag(endpointId, version);
  const inPlace = spec.source.kind === "folder" && deps.mountsFolders;
  const made = await folders.build({
    folder,
    handler: spec.handler,
    dockerfile: spec.dockerfile,
    base: spec.image.base ?? null,
    inPlace,
    copiedSdk: deps.mountsFolders ? null : deps.sdkDir,
    login: task.login,
    tag,
    labels: { [DAEMON_LABEL]: deps.daemonId, [ENDPOINT_LABEL]: endpointId },
    notes: { [RELEASE_LABEL]: String(version) },
    onStep: task.onStep,
    signal: task.signal,
  });
  return builtOf(deps, task, { made, tag, inPlace: inPlace ? folder : null });
}

function builtOf(
  deps: ImageBuilderDeps,
  { spec }: Task,
  { made, tag, inPlace }: { made: FolderImage; tag: string; inPlace: string | null },
): BuiltImage {
  const { facts, plan } = made;
  const isCopied = !deps.mountsFolders;
  const hasStandIn = !isCopied || plan.language !== null;
  const { env, mounts } = hasStandIn
    ? standIn(plan.language, facts.env, isCopied ? null : deps.sdkDir)
    : NO_STAND_IN;
  const place = inPlace === null ? NOT_IN_PLACE : placeOf(inPlace, made);
  return {
    ...programOf(spec),
    kind: "image",
    image: facts.id,
    reference: tag,
    registry: null,
    mounts: [...mounts, ...place.mounts],
    env,
    runtime: `image ${tag} (from ${plan.language === null ? plan.dockerfile : plan.bases.join(", ")})`,
    warnings: [
      ...programWarnings(spec, facts),
      ...place.warnings,
      ...(hasStandIn ? [] : [NO_STAND_IN_WARNING]),
      ...(spec.python === null ? [] : ["the interpreter is the image's: python is not used"]),
    ],
  };
}

const NO_STAND_IN = { env: {}, mounts: [] } as const;
const NO_STAND_IN_WARNING =
  "the engine runs on another machine: the image must bring its own runpod package, rpx's stand-in is not added";
const NOT_IN_PLACE: Place = { mounts: [], warnings: [] };

type Place = { readonly mounts: readonly BuiltMount[]; readonly warnings: readonly string[] };

/** Where workers see the folder in place: where a generated image runs it, else over the working directory of the user's image. */
function placeOf(folder: string, { facts, plan }: FolderImage): Place {
  const target = plan.workdir ?? facts.workdir;
  if (path.posix.normalize(`${target}/`) === "/")
    return {
      mounts: [],
      warnings: ["the Dockerfile sets no WORKDIR: each change is built into a new image"],
    };
  if (plan.hidesPackages)
    return {
      mounts: [],
      warnings: [
        "the packages of package.json are only in the image: each change is built into a new one (npm install in the folder avoids that)",
      ],
    };
  return { mounts: [{ source: folder, target, readOnly: true }], warnings: [] };
}

function programOf({ image }: ReleaseSpec): Pick<BuiltImage, "entrypoint" | "command"> {
  return { entrypoint: image.entrypoint ?? null, command: image.command ?? null };
}

function programWarnings({ image }: ReleaseSpec, { hasProgram }: ImageFacts): string[] {
  const isNamed = [image.entrypoint, image.command].some((words) => words !== undefined && words.length > 0);
  return hasProgram || isNamed
    ? []
    : ["the image says nothing to run: set [image] command, or CMD in its Dockerfile"];
}

function shortDigest(image: string): string {
  return image.slice(image.lastIndexOf("sha256:"), image.lastIndexOf("sha256:") + "sha256:".length + 12);
}
