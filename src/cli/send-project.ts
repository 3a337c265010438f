import type { Client } from "../client/client.ts";
import type { CreateEndpoint, EndpointConfig } from "../contract/schemas/endpoint.ts";
import type { Progress } from "./progress.ts";

/** Where a release's code is, as `POST /api/endpoints` takes it. */
export type SentCode = Pick<CreateEndpoint, "source" | "handler" | "python">;

/** A folder that the daemon has now, and what the folder says of its endpoint. */
export type SentProject = {
  readonly name: string | null;
  readonly config: EndpointConfig;
  readonly warnings: readonly string[];
  readonly code: SentCode;
};

/**
 * Reads the project at `path` (a handler or its folder), packs it and sends it unless the daemon has it already. Throws RpxError `usage`
 * for a project that cannot be read.
 */
export async function sendProject(client: Client, path: string, progress: Progress): Promise<SentProject> {
  const { loadProject } = await import("../project/load.ts");
  const { name, config, warnings, folder, handler, python } = await loadProject(path);
  const source = { kind: "bundle", digest: await sendFolder(client, folder, progress) } as const;
  return { name, config, warnings, code: { source, handler, ...(python === null ? {} : { python }) } };
}

/** Packs a folder and sends it unless the daemon has it already; returns its digest. `kept`: see `packFolder`. */
export async function sendFolder(
  client: Client,
  folder: string,
  progress: Progress,
  kept: readonly string[] = [],
): Promise<string> {
  const { packFolder } = await import("../project/pack.ts");
  progress.step(`packing ${folder}`);
  const packed = await packFolder(folder, kept);
  try {
    if (!(await client.hasBundle(packed.digest))) {
      progress.step(`sending ${packed.bytes} bytes`);
      await client.putBundle(packed.digest, { bytes: packed.bytes, content: () => packed.open() });
    }
    return packed.digest;
  } finally {
    await packed.dispose();
  }
}
