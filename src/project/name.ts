import { NAME_PATTERN, RESERVED_NAMES } from "../contract/schemas/endpoint.ts";

const MAX_NAME_LENGTH = 63;
/** What an endpoint is called when nothing of the folder's name can be kept. */
const FALLBACK_NAME = "endpoint";

/** Whether a text can name an endpoint: T-20's pattern, and none of the segments RunPod's own API uses after /v2. */
export function isEndpointName(text: string): boolean {
  return NAME_PATTERN.test(text) && !RESERVED_NAMES.includes(text);
}

/** A folder's name as a valid endpoint name: "My Worker_2" becomes "my-worker-2". */
export function endpointNameFrom(text: string): string {
  const name = text
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-+/, "")
    .slice(0, MAX_NAME_LENGTH)
    .replace(/-+$/, "");
  if (name === "") return FALLBACK_NAME;
  return RESERVED_NAMES.includes(name) ? `${name}-${FALLBACK_NAME}` : name;
}
