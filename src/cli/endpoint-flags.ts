import { Flags } from "@oclif/core";
import { RpxError } from "../contract/error.ts";
import type { EndpointConfig } from "../contract/schemas/endpoint.ts";
import { parseDuration } from "../text/duration.ts";
import { parseSize } from "../text/size.ts";
import { splitWords } from "../text/words.ts";

/** How a flag's text becomes a value of rpx.toml. */
type Kind =
  | "whole"
  | "number"
  | "duration"
  | "size"
  | "text"
  | "words"
  | "list"
  | "switch"
  | "type"
  | "scaler";

/** Every key of rpx.toml as a flag: its place in the file, and RunPod's name for it where there is one. */
const KEYS = {
  type: { at: ["type"], kind: "type", summary: "queue (QB, QUEUE) or load-balancer (LB)" },
  "workers-min": { at: ["workers", "min"], kind: "whole", summary: "Workers that always run" },
  "workers-max": { at: ["workers", "max"], kind: "whole", summary: "Most workers; 0 pauses the endpoint" },
  "idle-timeout": {
    at: ["workers", "idle_timeout"],
    kind: "duration",
    summary: "How long an idle worker stays",
  },
  "flash-boot": {
    at: ["workers", "flashboot"],
    kind: "switch",
    summary: "Park idle workers instead of ending them",
  },
  prefetch: { at: ["workers", "prefetch"], kind: "whole", summary: "Short jobs handed to a worker at once" },
  extra: {
    at: ["workers", "extra"],
    kind: "whole",
    summary: "Workers above the most while the queue waits too long",
  },
  prewarm: {
    at: ["workers", "prewarm"],
    kind: "switch",
    summary: "Boot a worker once when a release goes live",
  },
  "scale-by": {
    at: ["scale", "by"],
    kind: "scaler",
    summary: "queue-delay (delay, QUEUE_DELAY) or request-count (requests, REQUEST_COUNT)",
  },
  "scale-threshold": {
    at: ["scale", "threshold"],
    kind: "number",
    summary: "Seconds of delay, or jobs per worker",
  },
  "max-queued": { at: ["scale", "max_queued"], kind: "whole", summary: "Most waiting jobs; 0: no limit" },
  "gpu-count": { at: ["gpu", "count"], kind: "whole", summary: "GPUs per worker" },
  "gpu-id": {
    at: ["gpu", "types"],
    kind: "list",
    summary: "GPUs or GPU pools, in order of preference",
  },
  "gpu-memory": { at: ["gpu", "memory"], kind: "size", summary: "Memory that each GPU must have" },
  "max-wait": {
    at: ["gpu", "max_wait"],
    kind: "duration",
    summary: "Longest wait for a GPU of another endpoint",
  },
  "min-cuda": { at: ["gpu", "min_cuda"], kind: "text", summary: "Oldest CUDA version" },
  cuda: { at: ["gpu", "cuda"], kind: "list", summary: "CUDA versions that will do" },
  exclude: { at: ["gpu", "exclude"], kind: "list", summary: "GPUs that are not used" },
  "execution-timeout": {
    at: ["limits", "execution_timeout"],
    kind: "duration",
    summary: "Longest run of a job",
  },
  ttl: { at: ["limits", "ttl"], kind: "duration", summary: "Longest life of a job, waiting included" },
  "start-timeout": {
    at: ["limits", "start_timeout"],
    kind: "duration",
    summary: "Longest start of a worker",
  },
  memory: { at: ["limits", "memory"], kind: "size", summary: "Memory per worker" },
  cpus: { at: ["limits", "cpus"], kind: "number", summary: "CPUs per worker" },
  pids: { at: ["limits", "pids"], kind: "whole", summary: "Processes per worker" },
  shm: { at: ["limits", "shm"], kind: "size", summary: "Shared memory per worker" },
  disk: { at: ["limits", "disk"], kind: "size", summary: "Disk per worker" },
  retries: { at: ["limits", "retries"], kind: "whole", summary: "Retries of a handler's own error" },
  "retention-async": {
    at: ["retention", "async"],
    kind: "duration",
    summary: "How long results of /run are kept",
  },
  "retention-sync": {
    at: ["retention", "sync"],
    kind: "duration",
    summary: "How long results of /runsync are kept",
  },
  "retention-failed": {
    at: ["retention", "failed"],
    kind: "duration",
    summary: "How long failures are kept",
  },
  "webhook-secret": {
    at: ["webhook", "secret"],
    kind: "text",
    summary: "Secret that signs webhooks (secret:NAME)",
  },
  base: {
    at: ["image", "base"],
    kind: "text",
    summary: "Image that a generated Dockerfile begins with",
  },
  entrypoint: {
    at: ["image", "entrypoint"],
    kind: "words",
    summary: "Replaces the image's entrypoint: words as in a shell, or a JSON list",
  },
  command: {
    at: ["image", "command"],
    kind: "words",
    summary: "Replaces the image's command: words as in a shell, or a JSON list",
  },
  registry: {
    at: ["image", "registry"],
    kind: "text",
    summary: "Stored login of the registry that has the image",
  },
} as const satisfies Record<string, { at: readonly string[]; kind: Kind; summary: string }>;

/** Tables whose keys are the user's own: a flag a table, repeated for each pair. */
const PAIR_TABLES = ["env", "volumes"] as const;

const HELP_VALUES: Record<Kind, string> = {
  whole: "N",
  number: "N",
  duration: "DURATION",
  size: "SIZE",
  text: "TEXT",
  words: "WORDS",
  list: "NAME",
  switch: "",
  type: "TYPE",
  scaler: "SCALER",
};

/** RunPod's spellings, as its API, its command line and its console write them. */
const TYPES: Readonly<Record<string, string>> = {
  queue: "queue",
  qb: "queue",
  "load-balancer": "load-balancer",
  lb: "load-balancer",
};
const SCALERS: Readonly<Record<string, string>> = {
  "queue-delay": "queue-delay",
  delay: "queue-delay",
  "request-count": "request-count",
  requests: "request-count",
};

/** The flags of {@link KEYS} and of the tables `[env]` and `[volumes]`, for `endpoint create` and `endpoint update`. */
export const ENDPOINT_FLAGS = {
  ...Object.fromEntries(Object.entries(KEYS).map(([name, key]) => [name, toFlag(key.kind, key.summary)])),
  env: Flags.string({
    summary: "Variable of the workers (repeatable)",
    helpValue: "KEY=VALUE",
    multiple: true,
    multipleNonGreedy: true,
  }),
  volumes: Flags.string({
    summary: "Volume and where workers see it (repeatable)",
    helpValue: "NAME=PATH",
    multiple: true,
    multipleNonGreedy: true,
    aliases: ["volume"],
  }),
};

/** Where workers run; auto: as the daemon decides, and as before where the endpoint is there already. */
const POOLS = ["auto", "process", "docker"] as const;

/** What runs, and where: not settings, but what a release is made of. */
export const CODE_FLAGS = {
  image: Flags.string({
    summary: "Image to run as it is: its program is the worker",
    helpValue: "REF",
    helpGroup: "CODE",
  }),
  dockerfile: Flags.string({
    summary: "Dockerfile of the folder, where it is neither .runpod/Dockerfile nor Dockerfile",
    helpValue: "PATH",
    helpGroup: "CODE",
  }),
  python: Flags.string({
    summary: "Python interpreter for the handler (process pool)",
    helpValue: "PATH",
    helpGroup: "CODE",
  }),
  pool: Flags.option({ options: POOLS })({
    summary: "Where workers run: auto (as the daemon decides; an endpoint keeps its pool), process or docker",
    helpGroup: "CODE",
  }),
};

export type PoolFlag = (typeof POOLS)[number];

/** The pool that a flag asks for, as requests take it. */
export function poolOf(flag: PoolFlag | undefined): { pool?: "process" | "docker" } {
  return flag === undefined || flag === "auto" ? {} : { pool: flag };
}

function toFlag(kind: Kind, summary: string) {
  const shared = { summary, helpGroup: "SETTINGS" };
  if (kind === "switch") return Flags.boolean({ ...shared, allowNo: true });
  const helpValue = HELP_VALUES[kind];
  if (kind === "list") return Flags.string({ ...shared, helpValue, multiple: true, multipleNonGreedy: true });
  return Flags.string({ ...shared, helpValue });
}

/** A refusal of a flag's value. */
function bad(flag: string, value: string, wanted: string): RpxError {
  return new RpxError("usage", `--${flag} ${value} cannot be used`, { why: `it takes ${wanted}` });
}

/** The settings that flags give, under their rpx.toml names; what was not given is not there. Throws RpxError `usage`. */
export function configFromFlags(flags: Readonly<Record<string, unknown>>): EndpointConfig {
  const config: Record<string, unknown> = {};
  for (const [name, { at, kind }] of Object.entries(KEYS)) {
    const given = flags[name];
    if (given !== undefined) setAt(config, at, toValue(name, kind, given));
  }
  for (const table of PAIR_TABLES) {
    const given = flags[table];
    if (Array.isArray(given)) config[table] = readPairs(table, given.map(String));
  }
  return config as EndpointConfig;
}

function setAt(config: Record<string, unknown>, [table = "", key]: readonly string[], value: unknown): void {
  if (key === undefined) config[table] = value;
  else config[table] = { ...(config[table] as object | undefined), [key]: value };
}

function toValue(flag: string, kind: Kind, given: unknown): unknown {
  if (Array.isArray(given))
    return given.flatMap((part) => String(part).split(",")).map((part) => part.trim());
  if (typeof given !== "string") return given; // a switch
  switch (kind) {
    case "whole":
      if (!/^\d{1,15}$/.test(given)) throw bad(flag, given, "a whole number");
      return Number(given);
    case "number":
      if (!/^\d+(\.\d+)?$/.test(given)) throw bad(flag, given, "a number");
      return Number(given);
    case "duration":
      if (parseDuration(given) === null)
        throw bad(flag, given, "a duration: 5s, 10m, 1h30m, or plain seconds");
      return given;
    case "size":
      if (parseSize(given) === null) throw bad(flag, given, "a size: 512MiB, 8GiB, 50GB, or plain bytes");
      return given;
    case "words":
      return readWords(flag, given);
    case "type":
      return spelled(flag, given, TYPES);
    case "scaler":
      return spelled(flag, given, SCALERS);
    default:
      return given;
  }
}

function spelled(flag: string, given: string, spellings: Readonly<Record<string, string>>): string {
  const value = spellings[given.toLowerCase().replaceAll("_", "-")];
  if (value === undefined) throw bad(flag, given, `one of ${Object.keys(spellings).join(", ")}`);
  return value;
}

/** `python -u "my handler.py"`, or the same as a JSON list of texts. */
function readWords(flag: string, given: string): string[] {
  const words = given.trimStart().startsWith("[") ? readJsonWords(given) : splitWords(given);
  if (words === null)
    throw bad(flag, given, 'words as in a shell, or a JSON list: ["python", "-u", "handler.py"]');
  return words;
}

function readJsonWords(text: string): string[] | null {
  try {
    const words: unknown = JSON.parse(text);
    return Array.isArray(words) && words.every((word) => typeof word === "string") ? words : null;
  } catch {
    return null;
  }
}

function readPairs(flag: string, pairs: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const at = pair.indexOf("=");
      if (at < 1) throw bad(flag, pair, flag === "env" ? "KEY=VALUE" : "NAME=PATH");
      return [pair.slice(0, at), pair.slice(at + 1)];
    }),
  );
}

/** The place in rpx.toml of each flag, `table.key`. */
export function flagPlaces(): string[] {
  return [...Object.values(KEYS).map(({ at }) => at.join(".")), ...PAIR_TABLES];
}

/** Settings above settings: tables key by key, values and lists whole. */
export function overlay(below: EndpointConfig, above: EndpointConfig): EndpointConfig {
  const merged: Record<string, unknown> = { ...below };
  for (const [key, value] of Object.entries(above)) {
    const old = merged[key];
    merged[key] = isTable(old) && isTable(value) ? { ...old, ...value } : value;
  }
  return merged as EndpointConfig;
}

function isTable(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
