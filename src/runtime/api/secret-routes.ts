import { RpxError } from "../../contract/error.ts";
import type { ApiRouteName } from "../../contract/routes.ts";
import { type SecretBody, setSecretSchema } from "../../contract/schemas/secret.ts";
import { SECRET_NAME_PATTERN } from "../../text/secret-refs.ts";
import type { Principal } from "../service/keys.ts";
import type { Secrets, UsedSecret } from "../service/secrets.ts";
import { json, parse } from "./json-body.ts";
import type { Call } from "./request.ts";
import type { Handler } from "./server.ts";

type SecretRouteName = Extract<ApiRouteName, "listSecrets" | "setSecret" | "unsetSecret">;

/** Secrets by name. Values go in and never out. */
export function createSecretRoutes(secrets: Secrets): Record<SecretRouteName, Handler<Principal>> {
  return {
    listSecrets: async (call) => json(secrets.list(call.principal).map(present)),
    setSecret: async (call) => {
      const name = nameOf(call);
      const { outcome, workers, ...stored } = await secrets.set(call.principal, {
        name,
        ...parse(setSecretSchema, call),
      });
      return json({ ...present(stored), outcome, workers });
    },
    unsetSecret: async (call) => {
      const { query, principal } = call;
      const unset = await secrets.unset(principal, {
        name: nameOf(call),
        force: query.get("force") === "1" || query.get("force") === "true",
        owner: query.get("owner") || undefined,
      });
      return json({ ...present(unset), unset: true });
    },
  };
}

function present({ secret, endpoints }: UsedSecret): SecretBody {
  return {
    name: secret.name,
    owner: secret.owner,
    createdAt: new Date(secret.createdAtMs).toISOString(),
    updatedAt: new Date(secret.updatedAtMs).toISOString(),
    endpoints: endpoints.map(({ name }) => name),
  };
}

function nameOf(call: Call<unknown>): string {
  const name = call.params.secret ?? "";
  if (SECRET_NAME_PATTERN.test(name)) return name;
  throw new RpxError("bad_request", "this is no name of a secret", {
    why: "it has 1 to 63 letters, digits, _ and -, and does not begin with -",
    hint: "choose another name",
  });
}
