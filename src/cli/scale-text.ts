import type { EndpointBody } from "../contract/schemas/endpoint.ts";
import { formatFacts } from "./facts.ts";

/** How an endpoint scales and what that comes to now, for people. */
export function describeScale({
  name,
  config,
  desiredWorkers,
  workerCounts,
  state,
  reason,
}: EndpointBody): string {
  const { workers = {}, scale = {} } = config;
  const unit = scale.by === "request-count" ? "jobs per worker" : "s of delay";
  const extra = (workers.extra ?? 0) > 0 ? `, ${workers.extra} extra` : "";
  const up = workerCounts.idle + workerCounts.running + workerCounts.initializing;
  return formatFacts([
    ["endpoint", name],
    ["workers", `${workers.min} to ${workers.max}${extra}, idle ones stay ${workers.idle_timeout}`],
    ["scale", `by ${scale.by}, from ${scale.threshold} ${unit}`],
    ["wanted", `${desiredWorkers}; ${up} are there`],
    ["state", `${state}: ${reason}`],
  ]);
}
