import { RpxError } from "../contract/error.ts";

/** Throws RpxError `usage` for what cannot name an endpoint: before a folder is packed and sent. */
export async function checkName(name: string): Promise<void> {
  const { NAME_PATTERN, RESERVED_NAMES } = await import("../contract/schemas/endpoint.ts");
  if (RESERVED_NAMES.includes(name)) {
    throw new RpxError("usage", `an endpoint cannot be called "${name}"`, {
      why: "RunPod's own API uses that word in its addresses",
    });
  }
  if (NAME_PATTERN.test(name)) return;
  throw new RpxError("usage", `an endpoint cannot be called "${name}"`, {
    why: "a name has 1 to 63 of a-z, 0-9 and -, and does not begin with -",
  });
}
