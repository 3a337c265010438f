import type { StatusBody } from "../contract/schemas/daemon.ts";
import { formatSize } from "../text/size.ts";

type DiskKind = StatusBody["disk"]["usage"][number]["kind"];

/** What takes disk, in words. */
export const DISK_WORDS: Readonly<Record<DiskKind, string>> = {
  database: "database",
  bundle: "bundles",
  environment: "environments",
  logs: "logs",
  image: "images",
  "build cache": "build cache",
};

/** A size that may not be known. */
export function diskSize(bytes: number | null): string {
  return bytes === null ? "not known now" : formatSize(bytes);
}
