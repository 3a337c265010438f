import type { ReleaseChange, ReleaseSource, ReleaseSpec } from "./model.ts";

/** Characters of a digest that tell sources apart for people. */
const SHORT_DIGEST = 12;

/** What differs between two releases, field by field under their rpx.toml names, in a fixed order. */
export function releaseDiff(before: ReleaseSpec | null, after: ReleaseSpec): ReleaseChange[] {
  const old = before === null ? new Map<string, string>() : fieldsOf(before);
  const now = fieldsOf(after);
  const names = new Set([...now.keys(), ...old.keys()]);
  return [...names].flatMap((field) => {
    const change = { field, old: old.get(field) ?? null, new: now.get(field) ?? null };
    return change.old === change.new ? [] : [change];
  });
}

function fieldsOf(spec: ReleaseSpec): Map<string, string> {
  const fields = new Map<string, string>([["pool", spec.pool], sourceField(spec.source)]);
  flatten("handler", spec.handler, fields);
  flatten("python", spec.python, fields);
  flatten("dockerfile", spec.dockerfile, fields);
  flatten("image", spec.image, fields);
  flatten("gpu", spec.hardware.gpu, fields);
  flatten("volumes", spec.hardware.volumes, fields);
  flatten("limits", spec.hardware.limits, fields);
  flatten("env", spec.env, fields);
  return fields;
}

function sourceField(source: ReleaseSource): [string, string] {
  switch (source.kind) {
    case "folder":
      return ["folder", source.path];
    case "bundle":
      return ["source", source.digest.slice(0, SHORT_DIGEST)];
    case "image":
      return ["image", source.reference];
  }
}

function flatten(name: string, value: unknown, into: Map<string, string>): void {
  if (value === null || value === undefined) return;
  if (typeof value !== "object" || Array.isArray(value)) {
    into.set(name, typeof value === "string" ? value : JSON.stringify(value));
    return;
  }
  for (const [key, inner] of Object.entries(value)) flatten(`${name}.${key}`, inner, into);
}
