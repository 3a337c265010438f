/** Where images of no named registry come from, as Docker spells it. */
export const DEFAULT_REGISTRY = "docker.io";

/** What people write for an image, taken apart as Docker does it. */
export type ImageReference = {
  /** Host and port: `docker.io`, `ghcr.io`, `127.0.0.1:5000`. */
  readonly registry: string;
  /** As the engine shows it: without `docker.io/` and `library/`, without tag and digest. */
  readonly name: string;
  /** Null where a digest stands alone. `latest` where neither is given. */
  readonly tag: string | null;
  /** `sha256:` and 64 digits of hex. */
  readonly digest: string | null;
};

/** The most that registries take. */
const MAX_NAME_CHARACTERS = 255;
const COMPONENT = "[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*";
const NAME = new RegExp(`^${COMPONENT}(?:/${COMPONENT})*$`);
const HOST = /^(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::\d{1,5})?$/;
const TAG = /^\w[\w.-]{0,127}$/;
const DIGEST = /^sha256:[0-9a-f]{64}$/;
const BARE_ID = /^[0-9a-f]{64}$/;

/** Null for what is no reference. An image's id is none either: {@link isImageId}. */
export function parseImageReference(text: string): ImageReference | null {
  const [beforeDigest = "", digest, ...rest] = text.split("@");
  if (rest.length > 0 || (digest !== undefined && !DIGEST.test(digest))) return null;
  const { whole, tag } = cutTag(beforeDigest);
  if (tag !== null && !TAG.test(tag)) return null;
  const place = cutRegistry(whole);
  if (place === null || whole.length > MAX_NAME_CHARACTERS) return null;
  return { ...place, tag: tag ?? (digest === undefined ? "latest" : null), digest: digest ?? null };
}

/** A colon behind the last slash begins a tag; before it, it is a port's. */
function cutTag(text: string): { whole: string; tag: string | null } {
  const at = text.lastIndexOf(":");
  return at > text.lastIndexOf("/")
    ? { whole: text.slice(0, at), tag: text.slice(at + 1) }
    : { whole: text, tag: null };
}

/** The first part is a registry if it looks like a host; else the image is Docker Hub's. */
function cutRegistry(whole: string): Pick<ImageReference, "registry" | "name"> | null {
  const slash = whole.indexOf("/");
  const first = slash < 0 ? "" : whole.slice(0, slash);
  if (!/[.:]/.test(first) && first !== "localhost") {
    return NAME.test(whole) && !BARE_ID.test(whole)
      ? { registry: DEFAULT_REGISTRY, name: familiar(whole) }
      : null;
  }
  const path = whole.slice(slash + 1);
  if (!HOST.test(first) || !NAME.test(path)) return null;
  const registry = canonicalRegistry(first);
  return { registry, name: registry === DEFAULT_REGISTRY ? familiar(path) : `${first}/${path}` };
}

function familiar(path: string): string {
  return path.replace(/^library\/(?=[^/]+$)/, "");
}

/** Whether the text is an image's own id, which no registry knows. */
export function isImageId(text: string): boolean {
  return DIGEST.test(text);
}

/** One spelling for a registry, as references and people name it: Docker Hub has several. */
export function canonicalRegistry(server: string): string {
  const host = server
    .replace(/^https?:\/\//, "")
    .replace(/\/.*$/, "")
    .toLowerCase();
  return ["docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"].includes(host)
    ? DEFAULT_REGISTRY
    : host;
}
