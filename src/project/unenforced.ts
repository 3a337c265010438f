import type { EndpointConfig } from "../contract/schemas/endpoint.ts";
import { parseSize } from "../text/size.ts";

/**
 * The settings that a pool cannot hold a handler to, each under its rpx.toml name: said when an endpoint is made, so that a
 * limit is never believed where there is none.
 */
export function unenforcedBy(pool: "process" | "docker", config: EndpointConfig): string[] {
  const { gpu, limits = {}, volumes = {} } = config;
  const everywhere = [
    ["type", config.type === "load-balancer"],
    ["gpu", (gpu?.count ?? 0) > 0],
    ["volumes", Object.keys(volumes).length > 0],
  ] as const;
  const limited = [
    ["limits.memory", isSet(limits.memory)],
    ["limits.cpus", limits.cpus !== undefined],
    ["limits.pids", limits.pids !== undefined],
    ["limits.shm", isSet(limits.shm)],
    ["limits.disk", isSet(limits.disk)],
    ["image", Object.keys(config.image ?? {}).length > 0],
  ] as const;
  const asked = pool === "process" ? [...everywhere, ...limited] : everywhere;
  return asked.flatMap(([key, set]) => (set ? [key] : []));
}

function isSet(size: string | number | undefined): boolean {
  return size !== undefined && parseSize(size) !== 0;
}
