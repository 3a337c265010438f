import type { EndpointBody, EndpointConfig } from "../contract/schemas/endpoint.ts";
import { formatFacts } from "./facts.ts";

/** An endpoint for people: what it is, how it does, and its settings under their rpx.toml names. */
export function describeEndpoint(endpoint: EndpointBody): string {
  const { jobs, workerCounts } = endpoint;
  return formatFacts([
    ["endpoint", endpoint.name],
    ["id", endpoint.id],
    ["url", endpoint.url],
    ["state", endpoint.state],
    ["reason", endpoint.reason],
    ["release", endpoint.release === 0 ? "none serves yet" : endpoint.release],
    ["on its way", endpoint.candidateRelease === null ? undefined : `release ${endpoint.candidateRelease}`],
    ["paused", endpoint.paused ? "yes: jobs are accepted and wait" : undefined],
    ["pool", `${endpoint.pool} (isolation: ${endpoint.isolation}, ${endpoint.isolationReason})`],
    ["handler", `${endpoint.handler ?? "the image's own"} (${endpoint.runtime})`],
    ["jobs", counts(jobs)],
    ["workers", counts(workerCounts)],
    ["wanted", `${endpoint.desiredWorkers} workers`],
    ["owner", endpoint.owner],
    ["created", endpoint.createdAt],
    ...settings(endpoint.config),
  ]);
}

function counts(of: Readonly<Record<string, number>>): string {
  return Object.entries(of)
    .map(([name, count]) => `${count} ${name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`)}`)
    .join(", ");
}

/** Values of env may be secret: their names are enough. */
function settings(config: EndpointConfig): [string, string][] {
  return Object.entries(config).flatMap(([table, value]): [string, string][] => {
    if (typeof value !== "object") return [[table, String(value)]];
    if (table === "env") return [["env", Object.keys(value).join(", ")]];
    return Object.entries(value as object).map(([key, inner]) => [`${table}.${key}`, String(inner)]);
  });
}
