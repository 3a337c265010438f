import { homedir } from "node:os";
import { join, resolve } from "node:path";

type Env = Readonly<Record<string, string | undefined>>;

function xdg(env: Env, variable: string, fallback: readonly string[]): string {
  const set = env[variable];
  // Relative paths are invalid there (XDG base directory specification).
  const base = set?.startsWith("/") ? set : join(env.HOME || homedir(), ...fallback);
  return join(base, "rpx");
}

/** The daemon's data directory: flag, RPX_DATA_DIR, XDG data path; with where that came from. */
export function dataDir(env: Env, flag?: string): { readonly path: string; readonly from: string } {
  if (flag !== undefined) return { path: resolve(flag), from: "--data-dir" };
  if (env.RPX_DATA_DIR) return { path: resolve(env.RPX_DATA_DIR), from: "RPX_DATA_DIR" };
  const path = xdg(env, "XDG_DATA_HOME", [".local", "share"]);
  return { path, from: env.XDG_DATA_HOME ? "XDG_DATA_HOME" : "default" };
}

/** Where this user's settings and contexts are. */
export function configDir(env: Env): string {
  return xdg(env, "XDG_CONFIG_HOME", [".config"]);
}

/** Where this user's last job is noted. */
export function stateDir(env: Env): string {
  return xdg(env, "XDG_STATE_HOME", [".local", "state"]);
}
