import type { StatusBody } from "../contract/schemas/daemon.ts";
import { formatSize } from "../text/size.ts";

type DiskKind = StatusBody["disk"]["usage"][number]["kind"];

const DISK_WORDS: Readonly<Record<DiskKind, string>> = {
  database: "database",
  bundle: "bundles",
  environment: "environments",
  logs: "logs",
  image: "images",
  "build cache": "build cache",
};

/** What takes disk, each in words with its size. A daemon that is older than this command knows of its database alone. */
export function diskUses({ usage, databaseBytes }: StatusBody["disk"]): (readonly [string, string])[] {
  const known = usage ?? [{ kind: "database", bytes: databaseBytes }];
  return known.map(({ kind, bytes }) => [
    DISK_WORDS[kind],
    bytes === null ? "not known now" : formatSize(bytes),
  ]);
}
