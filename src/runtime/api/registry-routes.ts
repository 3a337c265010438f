import { RpxError } from "../../contract/error.ts";
import type { ApiRouteName } from "../../contract/routes.ts";
import { NAME_PATTERN } from "../../contract/schemas/endpoint.ts";
import { type RegistryBody, setRegistrySchema } from "../../contract/schemas/registry.ts";
import type { Principal } from "../service/keys.ts";
import type { Registries, UsedRegistry } from "../service/registries.ts";
import { json, parse } from "./json-body.ts";
import type { Call } from "./request.ts";
import type { Handler } from "./server.ts";

export type RegistryRouteName = Extract<ApiRouteName, "listRegistries" | "setRegistry" | "removeRegistry">;

/** Registry logins by name. Passwords go in and never out. */
export function createRegistryRoutes(registries: Registries): Record<RegistryRouteName, Handler<Principal>> {
  return {
    listRegistries: async ({ principal }) =>
      json(registries.list().map((each) => present(asSeenBy(principal, each)))),
    setRegistry: async (call) => {
      const name = nameOf(call);
      const { outcome, ...stored } = await registries.set({ name, ...parse(setRegistrySchema, call) });
      return json({ ...present(stored), outcome });
    },
    removeRegistry: async (call) => {
      const force = ["1", "true"].includes(call.query.get("force") ?? "");
      return json({ ...present(await registries.remove(nameOf(call), force)), removed: true });
    },
  };
}

/** Who is no admin sees that a login is there, and which of the own endpoints use it. */
function asSeenBy({ scope, owner }: Principal, { registry, endpoints }: UsedRegistry): UsedRegistry {
  return { registry, endpoints: endpoints.filter((each) => scope === "admin" || each.owner === owner) };
}

function present({ registry, endpoints }: UsedRegistry): RegistryBody {
  return {
    name: registry.name,
    server: registry.server,
    username: registry.username,
    createdAt: new Date(registry.createdAtMs).toISOString(),
    updatedAt: new Date(registry.updatedAtMs).toISOString(),
    endpoints: endpoints.map(({ name }) => name),
  };
}

function nameOf(call: Call<unknown>): string {
  const name = call.params.registry ?? "";
  if (NAME_PATTERN.test(name)) return name;
  throw new RpxError("bad_request", "this is no name of a registry login", {
    why: "it has 1 to 63 of a-z, 0-9 and -, and does not begin with -",
    hint: "choose another name",
  });
}
