import { RpxError } from "../contract/error.ts";

/** The parts of a version that decide whether two sides understand each other. */
function parts(version: string): readonly [string, string] {
  const [major = "", minor = ""] = version.split(".");
  return [major, minor];
}

/**
 * Whether this rpx and a daemon fit: null when they do, a sentence to show when they are of different minor versions. Throws
 * RpxError `version_mismatch` for different majors.
 */
export function compareVersions(own: string, daemon: string): string | null {
  const [ownMajor, ownMinor] = parts(own);
  const [daemonMajor, daemonMinor] = parts(daemon);
  if (ownMajor !== daemonMajor) {
    throw new RpxError("version_mismatch", `the daemon is version ${daemon}, this rpx is ${own}`, {
      why: "different major versions do not understand each other",
      hint: "use the rpx that the daemon was started with, or restart the daemon",
    });
  }
  if (ownMinor === daemonMinor) return null;
  return `the daemon is version ${daemon}, this rpx is ${own}: some commands may not work`;
}
