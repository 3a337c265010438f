import type { Client } from "../../client/client.ts";
import { RpxError } from "../../contract/error.ts";
import type { EndpointConfig } from "../../contract/schemas/endpoint.ts";
import { secretNames } from "../../text/secret-refs.ts";

/** What a variable is called that holds a secret for `rpx dev`, up to the secret's name. */
const PREFIX = "RPX_SECRET_";

/**
 * Gives the daemon of a folder the secrets that its settings ask for: it is a daemon of its own and shares none with others. They come
 * from variables `RPX_SECRET_name`; one that was given before is kept. Throws RpxError `usage` where one is missing.
 */
export async function provideSecrets(
  client: Client,
  { env = {}, webhook }: EndpointConfig,
  from: NodeJS.ProcessEnv,
): Promise<void> {
  const names = new Set([...Object.values(env), webhook?.secret ?? ""].flatMap(secretNames));
  if (names.size === 0) return;
  const known = new Set((await client.listSecrets()).map(({ name }) => name));
  for (const name of names) {
    const value = from[`${PREFIX}${name}`];
    if (value) await client.setSecret(name, { value });
    else if (!known.has(name)) throw missing(name);
  }
}

/** An environment without what is meant for {@link provideSecrets} alone. */
export function withoutSecrets(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith(PREFIX)));
}

function missing(name: string): RpxError {
  return new RpxError("usage", `rpx.toml asks for secret "${name}", which rpx dev was not given`, {
    why: "rpx dev has a daemon of its own, which shares no secrets with others",
    hint: `set the variable ${PREFIX}${name} for rpx dev, once`,
  });
}
