import { basename } from "node:path";
import type { Client } from "../client/client.ts";
import { RpxError } from "../contract/error.ts";
import type { EndpointBody, EndpointConfig, ReleaseTestBody } from "../contract/schemas/endpoint.ts";
import type { Project } from "../project/load.ts";
import { overlay, type PoolFlag, poolOf } from "./endpoint-flags.ts";
import { checkName } from "./endpoint-name.ts";
import { isNotFound } from "./find.ts";
import type { Progress } from "./progress.ts";
import { sendCode } from "./send-project.ts";

/** What a command line says of a deploy beside its settings. */
export type DeployFlags = {
  readonly name: string | undefined;
  readonly image: string | undefined;
  readonly dockerfile: string | undefined;
  readonly python: string | undefined;
  readonly pool: PoolFlag | undefined;
  /** File of tests that replace the folder's. */
  readonly test: string | undefined;
};

export type DeployOptions = {
  readonly client: Client;
  /** Folder, or handler file; undefined: the present folder. */
  readonly dir: string | undefined;
  readonly flags: DeployFlags;
  /** Settings given by flags. */
  readonly config: EndpointConfig;
  readonly progress: Progress;
};

/** What a deploy came to so far: its release is built, and may have to prove itself. */
export type Deployed = {
  readonly endpoint: EndpointBody;
  /** The release that serves the folder, or is on its way to. */
  readonly version: number;
  /** Whether this deploy made it. */
  readonly isNew: boolean;
  readonly project: Project;
};

/**
 * Sends a folder, or the name of an image, and makes the endpoint or a release of the one there is. Workers are made of exactly what
 * folder and flags say; settings that neither names stay. Throws RpxError for a folder, a name or a test that cannot be used.
 */
export async function deployProject(options: DeployOptions): Promise<Deployed> {
  const { client, flags, progress } = options;
  const project = await readProject(options);
  const tests = await readTestsFor(project, flags);
  const name = await nameOf(project, options);
  await checkName(name);
  const present = await findByName(client, name);
  const python = flags.python === undefined ? {} : { python: flags.python };
  const code = { ...(await sendCode(client, project, progress)), ...python };
  const config = overlay(project.config, options.config);
  const rolling = { ...poolOf(flags.pool), rollout: "prove" as const, tests };
  const endpoint =
    present === null
      ? await client.createEndpoint({ name, config, ...code, ...rolling }, progress.step)
      : await client.updateEndpoint(
          present.id,
          { config, code, origin: "deploy", ...rolling },
          progress.step,
        );
  const made = endpoint.madeRelease ?? null;
  // The same content may be on its way already, by a deploy of somebody else.
  const version = made ?? endpoint.candidateRelease ?? endpoint.release;
  return { endpoint, version, isNew: made !== null, project };
}

async function readProject({ dir = ".", flags }: DeployOptions): Promise<Project> {
  const { loadProject } = await import("../project/load.ts");
  return await loadProject(dir, { image: flags.image, dockerfile: flags.dockerfile });
}

async function readTestsFor({ folder }: Project, { test }: DeployFlags): Promise<ReleaseTestBody[]> {
  const { folderTests, readTests } = await import("../project/tests.ts");
  return test === undefined ? await folderTests(folder) : await readTests(test);
}

/** An image brings no folder of its own: the present one names nothing unless its rpx.toml does. */
async function nameOf({ name, folder }: Project, { dir, flags }: DeployOptions): Promise<string> {
  const said = flags.name ?? name;
  if (said !== null) return said;
  if (flags.image === undefined || dir !== undefined) {
    const { endpointNameFrom } = await import("../project/name.ts");
    return endpointNameFrom(basename(folder));
  }
  throw new RpxError("usage", "the endpoint has no name", {
    why: "an image was given, and no folder whose name it could have",
    hint: `rpx endpoint deploy --image ${flags.image} --name my-worker`,
  });
}

async function findByName(client: Client, name: string): Promise<EndpointBody | null> {
  try {
    return await client.getEndpoint(name);
  } catch (error) {
    if (isNotFound(error)) return null;
    throw error;
  }
}
