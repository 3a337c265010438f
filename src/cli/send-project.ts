import type { Client } from "../client/client.ts";
import type { CreateEndpoint, EndpointConfig } from "../contract/schemas/endpoint.ts";
import type { Project } from "../project/load.ts";
import type { Progress } from "./progress.ts";

/** Where a release's code is, as `POST /api/endpoints` takes it. */
export type SentCode = Pick<CreateEndpoint, "source" | "handler" | "dockerfile" | "python">;

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
export async function sendProject(
  client: Client,
  path: string,
  { dockerfile, progress }: { readonly dockerfile?: string | undefined; readonly progress: Progress },
): Promise<SentProject> {
  const { loadProject } = await import("../project/load.ts");
  const project = await loadProject(path, { dockerfile });
  const { name, config, warnings } = project;
  return { name, config, warnings, code: await sendCode(client, project, progress) };
}

/** Sends the code of a project, unless it is an image, which the daemon fetches itself. */
export async function sendCode(client: Client, project: Project, progress: Progress): Promise<SentCode> {
  const { image, folder, handler, dockerfile, python } = project;
  if (image !== null) return imageCode(image);
  const kept = dockerfile === null ? [] : [dockerfile];
  const source = { kind: "bundle", digest: await sendFolder(client, folder, progress, kept) } as const;
  return { source, ...namesOf({ handler, dockerfile, python }) };
}

/** The code of a release that is an image. */
export function imageCode(reference: string): SentCode {
  return { source: { kind: "image", reference } };
}

/** What is named inside a source; what is not there stays out of the request. */
export function namesOf(code: Pick<Project, "handler" | "dockerfile" | "python">): Omit<SentCode, "source"> {
  return Object.fromEntries(Object.entries(code).filter(([, value]) => value !== null));
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
