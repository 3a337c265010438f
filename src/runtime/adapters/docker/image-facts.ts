import type Docker from "dockerode";
import { RpxError } from "../../../contract/error.ts";
import type { Engine } from "./engine.ts";
import { refusalOf } from "./engine-errors.ts";

/** What of an image counts for starting workers from it. */
export type ImageFacts = {
  /** `sha256:...` of its configuration. */
  readonly id: string;
  /** `name@sha256:...` under which registries are known to have it. */
  readonly digests: readonly string[];
  readonly platform: Platform;
  readonly env: ReadonlyMap<string, string>;
  readonly labels: Readonly<Record<string, string>>;
  /** Empty: `/`. */
  readonly workdir: string;
  /** Whether it says itself what to run. */
  readonly hasProgram: boolean;
  readonly bytes: number;
  readonly createdAtMs: number;
};

export type Platform = { readonly os: string; readonly architecture: string };

/** Null when the engine has no such image. `reference` is a name, a name with digest, or an id. */
export async function findImage(engine: Engine, reference: string): Promise<ImageFacts | null> {
  try {
    const image = engine.docker.getImage(reference);
    return factsOf(await engine.ask(() => image.inspect(), { repeat: true }));
  } catch (error) {
    if (refusalOf(error) === 404) return null;
    throw error;
  }
}

function factsOf(found: Docker.ImageInspectInfo): ImageFacts {
  const config: Partial<Docker.ImageInspectInfo["Config"]> = found.Config ?? {};
  const program = [config.Entrypoint ?? [], config.Cmd ?? []].flat();
  return {
    id: found.Id,
    digests: found.RepoDigests ?? [],
    platform: { os: found.Os, architecture: found.Architecture },
    env: new Map((config.Env ?? []).map(splitVariable)),
    labels: config.Labels ?? {},
    workdir: config.WorkingDir ?? "",
    hasProgram: program.length > 0,
    bytes: found.Size,
    createdAtMs: Date.parse(found.Created) || 0,
  };
}

function splitVariable(text: string): [string, string] {
  const at = text.indexOf("=");
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}

/** Throws `bad_request` when none of the platforms that an image is there for is the engine's. Unknown ones are let pass. */
export function checkPlatform(
  reference: string,
  offered: readonly Platform[],
  engine: Platform | null,
): void {
  if (engine === null) return;
  const runs = offered.some(
    ({ os, architecture }) => os === engine.os && architecture === engine.architecture,
  );
  if (runs || offered.length === 0) return;
  const names = [...new Set(offered.map(nameOf))].join(", ");
  throw new RpxError("bad_request", `the image ${reference} cannot run here`, {
    why: `it is for ${names}, this engine runs ${nameOf(engine)}`,
    hint: `build it for ${nameOf(engine)}: docker build --platform ${nameOf(engine)}`,
  });
}

function nameOf({ os, architecture }: Platform): string {
  return `${os}/${architecture}`;
}
