import { RpxError } from "../../contract/error.ts";
import { canonicalRegistry, parseImageReference } from "../core/image-reference.ts";
import type { Endpoint } from "../core/model.ts";
import type { Clock } from "../ports/clock.ts";
import type { RegistryLogin } from "../ports/images.ts";
import type { Registry } from "../ports/registry-store.ts";
import type { SecretBox } from "../ports/secret-box.ts";
import type { Store } from "../ports/store.ts";

/** A login and the endpoints whose live release is pulled or built with it. */
export type UsedRegistry = { readonly registry: Registry; readonly endpoints: readonly Endpoint[] };

/** `server` as a user writes it. */
export type RegistryRequest = RegistryLogin;

export type Registries = {
  /** In order of name, without their passwords. */
  list(): readonly UsedRegistry[];
  /** Stores a login, or another in the place of the one of that name. */
  set(request: RegistryRequest): Promise<UsedRegistry & { readonly outcome: "created" | "changed" }>;
  /** Forgets a login; one that is in use only with `force`. */
  remove(name: string, force: boolean): Promise<UsedRegistry>;
  /** A login with its password. Throws RpxError `not_found`. */
  open(name: string): RegistryLogin;
  /** The login for an image: the one that is named, else the only one of its registry, else null. Throws where several would do. */
  forImage(reference: string, named: string | null): RegistryLogin | null;
};

export type RegistriesOptions = {
  readonly store: Pick<Store, "registries" | "fleet">;
  readonly clock: Clock;
  readonly box: SecretBox;
};

const MAX_REGISTRIES = 100;
const HOST = /^(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:]+\])(?::\d{1,5})?$/;

/** Logins of image registries: of the whole daemon, kept by admins, used by name. */
export function createRegistries({ store, clock, box }: RegistriesOptions): Registries {
  const find = (name: string) => store.registries.registries().find((each) => each.name === name) ?? null;

  function usersOf({ name }: Registry): Endpoint[] {
    return store.fleet
      .endpoints()
      .filter(({ id, liveRelease }) => store.fleet.release(id, liveRelease)?.spec.image.registry === name);
  }

  const used = (registry: Registry): UsedRegistry => ({ registry, endpoints: usersOf(registry) });

  async function set({ name, server, username, password }: RegistryRequest) {
    const host = canonicalRegistry(server.trim());
    if (!HOST.test(host))
      throw new RpxError("bad_request", `"${server}" is no registry`, {
        hint: "name its host, and its port where it has one: ghcr.io, registry.example:5000",
      });
    const sealed = box.seal(password, contextOf({ name, server: host, username }));
    const login = { name, server: host, username, sealed };
    const outcome = await store.registries.setRegistry(login, MAX_REGISTRIES, clock.nowMs());
    if (outcome === "too_many")
      throw new RpxError("conflict", `there are ${MAX_REGISTRIES} registry logins already`, {
        hint: "remove one that nobody uses: rpx registry list",
      });
    return { ...used(find(name) ?? missing(name)), outcome };
  }

  async function remove(name: string, force: boolean): Promise<UsedRegistry> {
    const removed = used(find(name) ?? missing(name));
    const names = removed.endpoints.map((endpoint) => endpoint.name);
    if (names.length > 0 && !force)
      throw new RpxError("conflict", `the registry login "${name}" is in use`, {
        why: `by ${names.join(", ")}: their workers could not be pulled on a machine that lacks the image`,
        hint: "add --force, or deploy them with another login first",
      });
    await store.registries.removeRegistry(name, clock.nowMs());
    return removed;
  }

  function open(name: string): RegistryLogin {
    const registry = find(name) ?? missing(name);
    const password = box.open(store.registries.sealed(name) ?? "", contextOf(registry));
    return { name, server: registry.server, username: registry.username, password };
  }

  function forImage(reference: string, named: string | null): RegistryLogin | null {
    if (named !== null) return open(named);
    const host = parseImageReference(reference)?.registry;
    const fitting = store.registries.registries().filter(({ server }) => server === host);
    const [only, ...others] = fitting;
    if (others.length > 0)
      throw new RpxError("bad_request", `several registry logins are for ${host}`, {
        why: fitting.map(({ name }) => name).join(", "),
        hint: "name one with --registry",
      });
    return only === undefined ? null : open(only.name);
  }

  return { list: () => store.registries.registries().map(used), set, remove, open, forImage };
}

/** A password opens for its own login alone: a row that was changed to name another server does not get it sent there. */
function contextOf({ name, server, username }: Pick<Registry, "name" | "server" | "username">): string {
  return `registry:${JSON.stringify([name, server, username])}`;
}

function missing(name: string): never {
  throw new RpxError("not_found", `there is no registry login "${name}"`, { hint: "rpx registry list" });
}
