import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import type { EndpointConfig } from "../contract/schemas/endpoint.ts";
import { sanitizeLine } from "../text/sanitize.ts";

/** Where RunPod's hub looks for it. */
export const HUB_FILE = ".runpod/hub.json";

/** What a hub.json gives: settings that rpx.toml may override, and what was left out of them. */
export type HubDefaults = { readonly config: EndpointConfig; readonly warnings: readonly string[] };

const scalar = z.union([z.string(), z.number(), z.boolean()]);
/** RunPod's file: unknown keys are RunPod's business and are accepted. */
const hubSchema = z.object({
  type: z.string().optional(),
  config: z
    .object({
      runsOn: z.string().optional(),
      endpointType: z.string().optional(),
      containerDiskInGb: z.number().positive().optional(),
      gpuCount: z.number().int().min(0).max(16).optional(),
      gpuIds: z.string().optional(),
      cpuFlavor: z.unknown().optional(),
      allowedCudaVersions: z.array(z.string()).optional(),
      presets: z.array(z.unknown()).optional(),
      env: z
        .array(
          z.object({
            key: z.string(),
            value: scalar.optional(),
            input: z.object({ default: scalar.nullish(), required: z.boolean().optional() }).optional(),
          }),
        )
        .optional(),
    })
    .optional(),
});
type HubConfig = NonNullable<z.infer<typeof hubSchema>["config"]>;

/**
 * Reads a folder's .runpod/hub.json; null when there is none. A file that cannot be understood gives no settings and a
 * warning: it is written for RunPod's hub, and the handler runs without it.
 */
export async function readHub(folder: string): Promise<HubDefaults | null> {
  const text = await readFile(join(folder, HUB_FILE), "utf8").catch(() => null);
  if (text === null) return null;
  try {
    return hubDefaults(hubSchema.parse(JSON.parse(text)));
  } catch (error) {
    const why = error instanceof z.ZodError ? firstIssue(error) : "it is not JSON";
    return { config: {}, warnings: [`${HUB_FILE} is not used: ${why}`] };
  }
}

function firstIssue(error: z.ZodError): string {
  const issue = error.issues[0];
  return sanitizeLine(`${issue?.path.join(".") ?? ""}: ${issue?.message ?? "not understood"}`);
}

function hubDefaults({ type, config = {} }: z.infer<typeof hubSchema>): HubDefaults {
  const env = hubEnv(config);
  const gpu = hubGpu(config);
  const warnings = [...env.warnings, ...unusedKeys(config)];
  if (type !== undefined && type !== "serverless") {
    warnings.unshift(
      `${HUB_FILE}: type "${sanitizeLine(type)}" is not serverless; the handler runs as an endpoint`,
    );
  }
  return {
    config: {
      ...(config.endpointType === "LB" ? { type: "load-balancer" as const } : {}),
      ...(Object.keys(gpu).length === 0 ? {} : { gpu }),
      ...(config.containerDiskInGb === undefined
        ? {}
        : { limits: { disk: `${config.containerDiskInGb}GB` } }),
      ...(Object.keys(env.values).length === 0 ? {} : { env: env.values }),
    },
    warnings,
  };
}

/** `gpuIds` is a comma list of GPU pools; `-` before a type excludes it. */
function hubGpu(config: HubConfig): NonNullable<EndpointConfig["gpu"]> {
  const ids = (config.gpuIds ?? "").split(",").map((id) => id.trim());
  const types = ids.filter((id) => id !== "" && !id.startsWith("-"));
  const exclude = ids.filter((id) => id.startsWith("-")).map((id) => id.slice(1));
  const count = config.runsOn === "CPU" ? 0 : (config.gpuCount ?? (config.runsOn === "GPU" ? 1 : undefined));
  return {
    ...(count === undefined ? {} : { count }),
    ...(types.length === 0 ? {} : { types }),
    ...(exclude.length === 0 ? {} : { exclude }),
    ...(config.allowedCudaVersions === undefined ? {} : { cuda: config.allowedCudaVersions }),
  };
}

const VARIABLE_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

function hubEnv(config: HubConfig): { values: Record<string, string>; warnings: string[] } {
  const values: Record<string, string> = {};
  const warnings: string[] = [];
  for (const { key, value, input } of config.env ?? []) {
    const given = value ?? input?.default;
    if (!VARIABLE_NAME.test(key)) {
      warnings.push(`${HUB_FILE}: "${sanitizeLine(key)}" cannot name a variable and is left out`);
    } else if (given !== undefined && given !== null && given !== "") {
      values[key] = String(given);
    } else if (input?.required === true) {
      warnings.push(`${HUB_FILE} requires the variable ${key}: set it under [env] in rpx.toml`);
    }
  }
  return { values, warnings };
}

function unusedKeys(config: HubConfig): string[] {
  const unused = [
    ...(config.cpuFlavor === undefined ? [] : ["cpuFlavor"]),
    ...((config.presets ?? []).length === 0 ? [] : ["presets"]),
  ];
  return unused.length === 0 ? [] : [`${HUB_FILE}: not used: ${unused.join(", ")}`];
}
