import type { Client } from "../../client/client.ts";
import { RpxError } from "../../contract/error.ts";
import type { EndpointBody, EndpointConfig } from "../../contract/schemas/endpoint.ts";
import { completeConfig } from "../../project/defaults.ts";
import type { Project } from "../../project/load.ts";
import { namesOf } from "../send-project.ts";
import { provideSecrets } from "./secrets.ts";

/** Where the workers of `rpx dev` run. */
export const DEV_POOLS = ["process", "docker"] as const;
export type DevPool = (typeof DEV_POOLS)[number];

/** `isWarm`: one worker stays up, so that a change shows at once whether it starts. */
export type DeployOptions = { readonly name: string; readonly pool: DevPool; readonly isWarm: boolean };

/**
 * Makes the endpoint of a folder, or a new release of the one there is. The settings are sent in full: a key that was taken out of
 * rpx.toml goes back to its default.
 */
export async function deployFolder(
  client: Client,
  project: Project,
  { name, pool, isWarm }: DeployOptions,
): Promise<EndpointBody> {
  checkRunnable(project, pool);
  const config = completeConfig(isWarm ? warmed(project.config) : project.config);
  const { folder, handler, dockerfile, python } = project;
  const code = {
    source: { kind: "folder" as const, path: folder },
    ...namesOf({ handler, dockerfile, python }),
  };
  // Somebody looks on: what was saved is to run at once, also where it does not start.
  const rolling = { pool, rollout: "at_once" as const };
  await provideSecrets(client, project.config, process.env);
  const known = await client.listEndpoints();
  const others = known.filter((endpoint) => endpoint.name !== name);
  await Promise.all(others.map((endpoint) => client.deleteEndpoint(endpoint.id)));
  const own = known.find((endpoint) => endpoint.name === name);
  if (own === undefined) return await client.createEndpoint({ name, config, ...code, ...rolling });
  return await client.updateEndpoint(own.id, { config, code, origin: "deploy", ...rolling });
}

function warmed(config: EndpointConfig): EndpointConfig {
  const { min = 0, max } = config.workers ?? {};
  if (max === 0 || min > 0) return config;
  return { ...config, workers: { ...config.workers, min: 1 } };
}

/** What `rpx dev` cannot run: an endpoint of another type, an image without a folder, a folder that its pool cannot start. */
export function checkRunnable(project: Project, pool: DevPool): void {
  if (project.config.type === "load-balancer") {
    throw new RpxError("usage", "rpx dev runs queue endpoints only", {
      why: 'the folder says type = "load-balancer"',
      hint: 'type = "queue" in rpx.toml, with a handler',
    });
  }
  if (project.image !== null) {
    throw new RpxError("usage", "rpx dev runs a folder's own code", {
      why: `rpx.toml names the image ${project.image}`,
      hint: "rpx endpoint deploy runs an image",
    });
  }
  if (project.handler === null && pool === "process") {
    throw new RpxError("usage", `a process cannot run ${project.folder}`, {
      why: "there is no handler, or several, and a Dockerfile that only a container can be made of",
      hint: "--pool docker, or name the handler in rpx.toml",
    });
  }
}
