import type { ImageBody, PrunedBody } from "../contract/schemas/image.ts";
import type { RegistryBody } from "../contract/schemas/registry.ts";
import { formatSize } from "../text/size.ts";
import { age, table } from "./tables.ts";

/** Digits of an image's id that lists show, as Docker's own. */
const SHORT_ID_LENGTH = 12;

/** An id without its algorithm, cut. */
export function shortImageId(id: string): string {
  return id.replace(/^sha256:/, "").slice(0, SHORT_ID_LENGTH);
}

/** `image list` for people. */
export function imageTable(images: readonly ImageBody[]): string {
  if (images.length === 0) return "no images";
  return table(
    [
      { title: "IMAGE" },
      { title: "ID" },
      { title: "SIZE", align: "right" },
      { title: "AGE", align: "right" },
      { title: "RELEASES" },
    ],
    images.map((image) => [
      image.tags[0] ?? image.digests[0] ?? "-",
      shortImageId(image.id),
      formatSize(image.bytes),
      age(image.createdAt),
      image.releases
        .map(({ endpoint, version, live }) => `${endpoint} ${version}${live ? " (live)" : ""}`)
        .join(", ") || "-",
    ]),
  );
}

/** What was removed, or would be. */
export function prunedTable(pruned: PrunedBody): string {
  const { removed, kept, problems, dryRun } = pruned;
  const rows = [
    ...removed.map((each) => [each.kind, each.name, formatSize(each.bytes), dryRun ? "would go" : "removed"]),
    ...kept.map((each) => [each.kind, each.name, formatSize(each.bytes), `kept: ${each.reason}`]),
  ];
  const shown =
    rows.length === 0
      ? "nothing to remove"
      : `${table([{ title: "KIND" }, { title: "NAME" }, { title: "SIZE", align: "right" }, { title: "" }], rows)}\n${formatSize(pruned.bytes)} in all`;
  return [shown, ...problems.map((problem) => `not looked at: ${problem}`)].join("\n");
}

/** `registry list` for people. */
export function registryTable(registries: readonly RegistryBody[]): string {
  if (registries.length === 0) return "no registry logins";
  return table(
    [
      { title: "NAME" },
      { title: "SERVER" },
      { title: "USERNAME" },
      { title: "AGE", align: "right" },
      { title: "CHANGED", align: "right" },
      { title: "ENDPOINTS" },
    ],
    registries.map((registry) => [
      registry.name,
      registry.server,
      registry.username,
      age(registry.createdAt),
      registry.updatedAt === registry.createdAt ? "-" : age(registry.updatedAt),
      registry.endpoints.join(" "),
    ]),
  );
}
