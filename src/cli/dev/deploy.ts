import type { Client } from "../../client/client.ts";
import { RpxError } from "../../contract/error.ts";
import type { EndpointBody, EndpointConfig } from "../../contract/schemas/endpoint.ts";
import { completeConfig } from "../../project/defaults.ts";
import type { Project } from "../../project/load.ts";
import { provideSecrets } from "./secrets.ts";

/** `isWarm`: one worker stays up, so that a change shows at once whether it starts. */
export type DeployOptions = { readonly name: string; readonly isWarm: boolean };

/**
 * Makes the endpoint of a folder, or a new release of the one there is. The settings are sent in full: a key that was taken out of
 * rpx.toml goes back to its default.
 */
export async function deployFolder(
  client: Client,
  project: Project,
  { name, isWarm }: DeployOptions,
): Promise<EndpointBody> {
  const config = completeConfig(isWarm ? warmed(project.config) : project.config);
  const code = {
    source: { kind: "folder" as const, path: project.folder },
    handler: project.handler,
    ...(project.python === null ? {} : { python: project.python }),
  };
  await provideSecrets(client, project.config, process.env);
  const known = await client.listEndpoints();
  const others = known.filter((endpoint) => endpoint.name !== name);
  await Promise.all(others.map((endpoint) => client.deleteEndpoint(endpoint.id)));
  const own = known.find((endpoint) => endpoint.name === name);
  if (own === undefined) return await client.createEndpoint({ name, config, ...code });
  return await client.updateEndpoint(own.id, { config, code });
}

function warmed(config: EndpointConfig): EndpointConfig {
  const { min = 0, max } = config.workers ?? {};
  if (max === 0 || min > 0) return config;
  return { ...config, workers: { ...config.workers, min: 1 } };
}

/** `rpx dev` has one daemon a folder: whatever else it says, an endpoint of another type cannot run there. */
export function checkRunnable(project: Project): void {
  if (project.config.type !== "load-balancer") return;
  throw new RpxError("usage", "rpx dev runs queue endpoints only", {
    why: 'the folder says type = "load-balancer"',
    hint: 'type = "queue" in rpx.toml, with a handler',
  });
}
