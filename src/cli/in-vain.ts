import type { EndpointBody, EndpointConfig } from "../contract/schemas/endpoint.ts";
import { unenforcedBy } from "../project/unenforced.ts";

/** What is said in vain, a sentence: settings that the pool does not know. Of limits the daemon tells itself. */
export function inVain(pool: EndpointBody["pool"], config: EndpointConfig): string[] {
  const known = pool === "docker" ? "docker" : "process";
  const missing = unenforcedBy(known, config).filter((key) => !key.startsWith("limits."));
  if (missing.length === 0) return [];
  const workers = known === "docker" ? "workers are containers" : "workers are processes";
  return [`${workers}, which have no ${missing.join(", ")}${known === "docker" ? " yet" : ""}`];
}
