import type { EndpointId } from "../../core/model.ts";
import type { Image, ImageBuild, ImagePull, Images } from "../../ports/images.ts";
import type { OnStep } from "../../ports/worker-pool.ts";
import type { Engine } from "./engine.ts";
import { createFolderImages } from "./folder-image.ts";
import type { ImageFacts } from "./image-facts.ts";
import type { PullDeps } from "./image-pull.ts";
import { pushImage } from "./image-push.ts";
import { DAEMON_LABEL, ENDPOINT_LABEL } from "./labels.ts";
import { pinImage } from "./pin-image.ts";

export type ImagesDeps = PullDeps & {
  readonly daemonId: string;
  readonly sdkDir: string;
  readonly pathOfBundle: (digest: string) => string;
  readonly mountsFolders: boolean;
};

type Listed = Awaited<ReturnType<Engine["docker"]["listImages"]>>[number];

/** Tags of an image that has none, as the engine lists it. */
const NO_TAG = "<none>:<none>";

/** The engine's images as commands see them. */
export function createImages(deps: ImagesDeps): Images {
  const { engine, daemonId } = deps;
  const folders = createFolderImages(deps);

  async function build(request: ImageBuild, onStep: OnStep, signal: AbortSignal) {
    const { facts, plan } = await folders.build({
      ...request,
      folder: deps.pathOfBundle(request.digest),
      inPlace: false,
      // It is to run elsewhere too: what it needs is in it.
      copiedSdk: deps.sdkDir,
      labels: { [DAEMON_LABEL]: daemonId, "rpx.role": "build" },
      notes: {},
      onStep,
      signal,
    });
    const warnings = plan.language !== null || facts.hasProgram ? [] : [NO_PROGRAM_WARNING];
    return { image: { ...imageOf(facts), tags: [request.tag], isOurs: true }, warnings };
  }

  async function pull(request: ImagePull, onStep: OnStep, signal: AbortSignal) {
    const { image: pinned, facts, warnings } = await pinImage(deps, { ...request, onStep, signal });
    return { image: imageOf(facts), pinned, warnings };
  }

  return {
    list: async () => (await listImages(engine)).map((each) => listedImage(each, daemonId)),
    build,
    pull,
    push: (request, onStep, signal) => pushImage(engine, request, onStep, signal),
  };
}

const NO_PROGRAM_WARNING = "the image says nothing to run: give its Dockerfile a CMD";

function imageOf({ id, digests, bytes, createdAtMs }: ImageFacts): Image {
  return { id, tags: [], digests, bytes, createdAtMs, endpointId: null, isOurs: false };
}

/** All images of the engine, or those with these labels. */
export function listImages(engine: Engine, label: readonly string[] = []): Promise<readonly Listed[]> {
  const filters = label.length === 0 ? {} : { filters: { label: [...label] } };
  return engine.ask((options) => engine.docker.listImages({ ...options, ...filters }), { repeat: true });
}

/** Tags of an image; none for one that has lost them. */
export function tagsOf({ RepoTags }: Pick<Listed, "RepoTags">): string[] {
  return (RepoTags ?? []).filter((tag) => tag !== NO_TAG);
}

function listedImage(listed: Listed, daemonId: string): Image {
  const labels: Readonly<Record<string, string | undefined>> = listed.Labels ?? {};
  const isOurs = labels[DAEMON_LABEL] === daemonId;
  return {
    id: listed.Id,
    tags: tagsOf(listed),
    digests: (listed.RepoDigests ?? []).filter((digest) => !digest.startsWith("<none>")),
    bytes: listed.Size,
    createdAtMs: listed.Created * 1_000,
    endpointId: isOurs ? ((labels[ENDPOINT_LABEL] ?? null) as EndpointId | null) : null,
    isOurs,
  };
}
