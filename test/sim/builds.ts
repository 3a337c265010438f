import { RpxError } from "../../src/contract/error.ts";
import type { Builders, BuildRequest, BuiltRelease } from "../../src/runtime/ports/worker-pool.ts";
import type { Deploy } from "./plan-fleet.ts";
import type { World } from "./world.ts";

/** Makes releases; each has the number of its build, so that workers can be told apart. */
export type Builds = {
  /** As one daemon has them: `within` is how it learns of their ends. */
  builders(within: <T>(built: Promise<T>) => Promise<T>): Builders;
};

const FIRST_BUILD_MS = 200;

export function createBuilds(world: World): Builds {
  const { clock, coverage } = world;
  let builds = 0;

  async function build({ spec }: BuildRequest, signal: AbortSignal): Promise<string> {
    const deploy = deployOf(world, spec.env);
    await clock.sleep(deploy?.buildMs ?? FIRST_BUILD_MS, signal);
    if (signal.aborted) throw new RpxError("unavailable", "the build was given up");
    if (deploy?.fate === "builds-not") {
      coverage.fault("build-fails");
      throw new RpxError("bad_request", "no such package");
    }
    builds += 1;
    return `build-${builds}`;
  }

  return {
    builders: (within) => ({
      process: {
        build: async (request, _onStep, signal) => asProcess(await within(build(request, signal))),
      },
      docker: { build: async (request, _onStep, signal) => asImage(await within(build(request, signal))) },
    }),
  };
}

const MADE = { env: {}, runtime: "simulated", warnings: [] } as const;

function asProcess(name: string): BuiltRelease {
  return { kind: "process", file: "worker", args: [name], cwd: "/", ...MADE };
}

function asImage(image: string): BuiltRelease {
  const asMade = { registry: null, entrypoint: null, command: null, mounts: [] };
  return { kind: "image", image, reference: image, ...asMade, ...MADE };
}

/** The deploy whose code a worker or a build is of; null: the endpoint's first. */
export function deployOf({ plan }: World, env: Readonly<Record<string, string>>): Deploy | null {
  const step =
    env.SIM_DEPLOY === undefined ? undefined : plan.steps.find(({ id }) => String(id) === env.SIM_DEPLOY);
  return step?.act.kind === "deploy" ? step.act : null;
}
