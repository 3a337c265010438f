import type { EndpointId } from "../core/model.ts";

/** A registry's login, opened: handed to the engine with a pull or push, never shown, logged or stored in this form. */
export type RegistryLogin = {
  readonly name: string;
  /** Host and port. */
  readonly server: string;
  readonly username: string;
  readonly password: string;
};

/** An image that the engine has. */
export type Image = {
  readonly id: string;
  readonly tags: readonly string[];
  /** `name@sha256:...` under which registries are known to have it. */
  readonly digests: readonly string[];
  readonly bytes: number;
  readonly createdAtMs: number;
  /** Which endpoint's release it was built for; null: it was not built by this daemon for one. */
  readonly endpointId: EndpointId | null;
  /** It was made by this daemon. */
  readonly isOurs: boolean;
};

/** As `ports/worker-pool.ts` has it. */
type OnStep = (text: string, percent?: number) => void;

export type ImageBuild = {
  /** SHA-256 of the tar that was sent. */
  readonly digest: string;
  readonly handler: string | null;
  readonly dockerfile: string | null;
  readonly base: string | null;
  /** `name:tag` of what comes of it. */
  readonly tag: string;
  readonly login: RegistryLogin | null;
};

export type ImagePull = { readonly reference: string; readonly login: RegistryLogin | null };

/** The images of an engine. Everything rejects with an RpxError `unavailable` while it is away. */
export type Images = {
  list(): Promise<readonly Image[]>;
  build(
    build: ImageBuild,
    onStep: OnStep,
    signal: AbortSignal,
  ): Promise<{ readonly image: Image; readonly warnings: readonly string[] }>;
  /** `pinned` is the name that never moves. */
  pull(
    pull: ImagePull,
    onStep: OnStep,
    signal: AbortSignal,
  ): Promise<{ readonly image: Image; readonly pinned: string; readonly warnings: readonly string[] }>;
  /** Sends a tag to its registry; returns `name@sha256:...`. */
  push(push: ImagePull, onStep: OnStep, signal: AbortSignal): Promise<string>;
};
