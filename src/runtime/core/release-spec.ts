import { RpxError } from "../../contract/error.ts";
import type { CreateEndpoint, EndpointConfig, UpdateEndpoint } from "../../contract/schemas/endpoint.ts";
import { parseSize } from "../../text/size.ts";
import type { Hardware, ImageSettings, PoolKind, ReleaseSpec } from "./model.ts";

/** What a request says of a release's code. */
export type CodeRequest = Pick<CreateEndpoint, "source" | "handler" | "python" | "dockerfile">;

/** The spec of an endpoint's first release. Throws RpxError for a source that a pool cannot run, or that this caller may not name. */
export function specOf(
  code: CodeRequest,
  config: EndpointConfig,
  pool: PoolKind,
  isAdmin: boolean,
): ReleaseSpec {
  if (code.source.kind === "folder" && !isAdmin) {
    throw new RpxError("forbidden", "only an admin key may run a folder of the daemon's machine in place", {
      hint: "use `rpx endpoint create`, which sends a copy",
    });
  }
  return {
    pool,
    source: code.source,
    handler: code.handler ?? null,
    python: code.python ?? null,
    dockerfile: code.dockerfile ?? null,
    image: imageOf(config),
    hardware: hardwareOf(config),
    env: config.env ?? {},
  };
}

/**
 * The spec that a request makes of the one before it; null when nothing that a worker is made of changes. A deploy says all of it: what
 * it leaves out is not set, also where the release before had it.
 */
export function changedSpec(
  before: ReleaseSpec,
  request: UpdateEndpoint,
  isAdmin: boolean,
): ReleaseSpec | null {
  const { config = {}, pool = before.pool } = request;
  const code = request.code ? specOf(request.code, {}, pool, isAdmin) : { ...before, pool };
  const kept = request.origin === "deploy" ? NOTHING_SET : before;
  const spec: ReleaseSpec = {
    ...code,
    image: { ...kept.image, ...imageOf(config) },
    hardware: changedHardware(kept.hardware, hardwareOf(config)),
    env: config.env ?? kept.env,
  };
  // The folder is the same, what lies in it may not be.
  const isReload = request.code?.source.kind === "folder";
  return isReload || !isSame(spec, before) ? spec : null;
}

const NOTHING_SET: Pick<ReleaseSpec, "image" | "hardware" | "env"> = { image: {}, hardware: {}, env: {} };

/** What a change does not name stays, setting by setting; volumes are replaced as a whole, as variables are. */
function changedHardware(before: Hardware, change: Hardware): Hardware {
  return {
    ...before,
    ...change,
    ...(change.gpu && { gpu: { ...before.gpu, ...change.gpu } }),
    ...(change.limits && { limits: { ...before.limits, ...change.limits } }),
  };
}

/** Whether two specs make the same workers, whatever the order of their keys. */
function isSame(a: unknown, b: unknown): boolean {
  return canonical(a) === canonical(b);
}

function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === "object" && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([x], [y]) => (x < y ? -1 : 1)))
      : inner,
  );
}

/** What is set of `[image]`; nothing stands for what is absent. */
function imageOf({ image = {} }: EndpointConfig): ImageSettings {
  return Object.fromEntries(Object.entries(image).filter(([, value]) => value !== undefined));
}

/** Sizes that cannot be read are refused: a worker would run without the limit that was asked for. */
function hardwareOf({ gpu, volumes, limits = {} }: EndpointConfig): Hardware {
  refuseSize("gpu.memory", gpu?.memory);
  for (const name of ["memory", "shm", "disk"] as const) refuseSize(`limits.${name}`, limits[name]);
  const { memory, cpus, pids, shm, disk } = limits;
  const asked = Object.fromEntries(
    Object.entries({ memory, cpus, pids, shm, disk }).filter(([, value]) => value !== undefined),
  );
  return {
    ...(gpu && { gpu }),
    ...(volumes && { volumes }),
    ...(Object.keys(asked).length > 0 && { limits: asked }),
  };
}

function refuseSize(field: string, size: string | number | undefined): void {
  if (size === undefined || parseSize(size) !== null) return;
  throw new RpxError(
    "usage",
    `${field} must be a size such as "8GiB", or plain bytes, got ${JSON.stringify(size)}`,
    {
      hint: `Change ${field} in rpx.toml or its flag.`,
    },
  );
}
