import path from "node:path";
import type { BuiltMount } from "../../core/model.ts";
import { type Language, SDK_TARGET } from "./dockerfile.ts";

/** What brings the stand-ins for `runpod` and `rpx/worker` into a container. */
export type StandIn = {
  readonly env: Readonly<Record<string, string>>;
  readonly mounts: readonly BuiltMount[];
};

const SITE = `${SDK_TARGET}/python/site`;
const HOOK = `--import file://${SDK_TARGET}/node/hook.js`;
/** The first Node that takes `--import` in NODE_OPTIONS; older ones refuse to start with it. */
const OLDEST_NODE_WITH_IMPORT = [19, 0] as const;

/**
 * A container's way to the stand-ins (D13). PYTHONPATH holds only the folder with `sitecustomize.py`, which puts the stand-in behind all
 * else, so that a real `runpod` wins. `language` null: an image of the user's, of which we know what its environment tells. What the
 * image has set already stays. `sdkDir` null: the image has its copy of the stand-in.
 */
export function standIn(
  language: Language | null,
  imageEnv: ReadonlyMap<string, string>,
  sdkDir: string | null,
): StandIn {
  const takesHook = language === "node" || (language === null && hasNewNode(imageEnv));
  const takesSite = language !== "node";
  return {
    env: {
      ...(takesSite && { PYTHONPATH: added(SITE, imageEnv.get("PYTHONPATH"), (own) => `${SITE}:${own}`) }),
      ...(takesHook && {
        NODE_OPTIONS: added(HOOK, imageEnv.get("NODE_OPTIONS"), (own) => `${own} ${HOOK}`),
      }),
    },
    mounts:
      sdkDir === null
        ? []
        : [...(takesSite ? [mount(sdkDir, "python")] : []), ...(takesHook ? [mount(sdkDir, "node")] : [])],
  };
}

function mount(sdkDir: string, language: Language): BuiltMount {
  return { source: path.join(sdkDir, language), target: `${SDK_TARGET}/${language}`, readOnly: true };
}

/** Ours beside the image's own value; an image with its own copy of the stand-in has both already. */
function added(ours: string, own: string | undefined, both: (own: string) => string): string {
  if (own === undefined || own === "") return ours;
  return own.includes(ours) ? own : both(own);
}

/** Images that are made from Node's official ones say its version. */
function hasNewNode(imageEnv: ReadonlyMap<string, string>): boolean {
  const [major = 0, minor = 0] = (imageEnv.get("NODE_VERSION") ?? "").split(".").map(Number);
  const [oldest, oldestMinor] = OLDEST_NODE_WITH_IMPORT;
  return major > oldest || (major === oldest && minor >= oldestMinor);
}
