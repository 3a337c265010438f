import type { BuiltImage } from "../../core/model.ts";

export type ContainerEnv = {
  /** As the engine takes it: `NAME=value`; a bare name takes a variable of the image away. */
  readonly list: readonly string[];
  readonly warnings: readonly string[];
};

/** What the daemon and its user set beside NVIDIA_DRIVER_CAPABILITIES=all. */
const DRIVER_CAPABILITIES = "compute,utility";
/** Lists in which ours comes before the endpoint's or the image's own, and what is between two entries. */
const JOINED: Readonly<Record<string, string>> = { PYTHONPATH: ":", NODE_OPTIONS: " " };

/**
 * A container's variables: the endpoint's over those of the build, passed as they are (`$ID` stays). What reaches programs that run
 * outside the container with its variables (the hooks of GPU runtimes: CVE-2025-23266) is dropped from both and from the image (T-13).
 */
export function containerEnv(
  built: Pick<BuiltImage, "env">,
  env: Readonly<Record<string, string>>,
  imageEnv: Readonly<Record<string, string>>,
): ContainerEnv {
  const warnings: string[] = [];
  const list: string[] = [];
  const wanted = { ...built.env, ...env, ...joinedLists(built.env, env, imageEnv) };
  for (const [name, value] of Object.entries(wanted)) {
    const judged = judge(name, value);
    if (judged.warning !== null) warnings.push(judged.warning);
    if (judged.value !== null) list.push(`${name}=${judged.value}`);
    else if (Object.hasOwn(imageEnv, name)) list.push(name);
  }
  for (const [name, value] of Object.entries(imageEnv)) {
    if (Object.hasOwn(wanted, name)) continue;
    const judged = judge(name, value);
    if (judged.warning === null) continue;
    warnings.push(`${judged.warning} (set by the image)`);
    list.push(judged.value === null ? name : `${name}=${judged.value}`);
  }
  return { list, warnings };
}

function joinedLists(
  built: Readonly<Record<string, string>>,
  env: Readonly<Record<string, string>>,
  imageEnv: Readonly<Record<string, string>>,
): Record<string, string> {
  return Object.fromEntries(
    Object.entries(JOINED).flatMap(([name, separator]) => {
      const ours = built[name];
      if (ours === undefined) return [];
      const theirs = env[name] ?? imageEnv[name];
      return [[name, theirs === undefined || theirs === "" ? ours : `${ours}${separator}${theirs}`]];
    }),
  );
}

/** What of a variable is passed on: null for nothing. */
function judge(
  name: string,
  value: string,
): { readonly value: string | null; readonly warning: string | null } {
  if (name === "" || /[=\0]/.test(name) || value.includes("\0"))
    return { value: null, warning: `a variable cannot be passed: ${JSON.stringify(name)}` };
  if (name === "LD_LIBRARY_PATH") return judgeLibraryPath(value);
  if (name.startsWith("LD_") || name === "NVIDIA_DISABLE_REQUIRE")
    return { value: null, warning: `${name} is not passed to workers` };
  if (name === "NVIDIA_DRIVER_CAPABILITIES" && value.split(",").includes("all"))
    return { value: DRIVER_CAPABILITIES, warning: `${name}=all becomes ${DRIVER_CAPABILITIES}` };
  return { value, warning: null };
}

/**
 * Images for GPUs need it for their own libraries. A hook outside finds nothing of the container's under an absolute path, but all of
 * it under a relative one.
 */
function judgeLibraryPath(value: string): { readonly value: string | null; readonly warning: string | null } {
  const folders = value.split(":");
  const absolute = folders.filter((folder) => folder.startsWith("/"));
  if (absolute.length === folders.length) return { value, warning: null };
  return {
    value: absolute.length === 0 ? null : absolute.join(":"),
    warning: "LD_LIBRARY_PATH is passed to workers without its relative folders",
  };
}
