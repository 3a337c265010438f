import type { Artifacts, DiskShare } from "../../ports/artifacts.ts";
import type { Images } from "../../ports/images.ts";
import type { ReleaseBuilder } from "../../ports/worker-pool.ts";
import { createEngine, type Engine } from "./engine.ts";
import { connectEngine } from "./engine-connection.ts";
import { freeBytesOf } from "./engine-disk.ts";
import { createBuildCacheShare, createImageArtifacts } from "./image-artifacts.ts";
import { createImageBuilder, type ImageBuilderDeps } from "./image-builder.ts";
import { createImages } from "./images.ts";
import { DAEMON_LABEL } from "./labels.ts";
import { createDockerNetwork, type DockerNetworkOptions } from "./network.ts";
import { createStartImages } from "./start-image.ts";
import { createDockerPool, type DockerPool, type DockerPoolDeps } from "./worker-pool.ts";

export type DockerDeps = Pick<ImageBuilderDeps, "daemonId" | "sdkDir" | "pathOfBundle" | "login"> &
  Pick<DockerNetworkOptions, "workerPort" | "workerUrl"> &
  Pick<DockerPoolDeps, "clock" | "log" | "logs" | "dataDir"> & {
    /** DOCKER_HOST and its like are read from it. */
    readonly environment: Readonly<Record<string, string | undefined>>;
  };

/** Everything of one engine. Nothing is asked of it before `engine.open`. */
export type Docker = {
  readonly engine: Engine;
  readonly pool: DockerPool;
  readonly builder: ReleaseBuilder;
  readonly images: Images;
  readonly artifacts: readonly Artifacts[];
  readonly diskShares: readonly DiskShare[];
};

export function createDocker({ environment, clock, log, logs, dataDir, ...deps }: DockerDeps): Docker {
  const { daemonId, workerPort, workerUrl } = deps;
  const connection = connectEngine(environment);
  const engine = createEngine({ connection, label: `${DAEMON_LABEL}=${daemonId}`, clock, log });
  const made = {
    ...deps,
    engine,
    mountsFolders: engine.isSocket,
    freeBytes: () => freeBytesOf(engine),
  };
  const network = createDockerNetwork({ engine, daemonId, workerPort, workerUrl, openNetworks: [] });
  const images = createStartImages(made);
  const pool = createDockerPool({
    ...{ engine, network, images, logs, clock, log, daemonId, dataDir },
    mountable: [],
  });
  return {
    engine,
    pool,
    builder: createImageBuilder(made),
    images: createImages(made),
    artifacts: [createImageArtifacts({ engine, daemonId })],
    diskShares: [createBuildCacheShare(engine)],
  };
}
