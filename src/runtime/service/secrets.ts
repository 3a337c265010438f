import { RpxError } from "../../contract/error.ts";
import { fillSecrets, secretNames } from "../../text/secret-refs.ts";
import type { Endpoint, EndpointId, Secret, WorkerId } from "../core/model.ts";
import type { Clock } from "../ports/clock.ts";
import type { SecretBox } from "../ports/secret-box.ts";
import type { Store } from "../ports/store.ts";

/** Who asks, as far as secrets care. */
export type SecretCaller = { readonly owner: string; readonly scope: string };

/** Which secret; `owner` is the caller unless an admin names another. */
export type SecretRef = { readonly name: string; readonly owner?: string | undefined };

/** A secret and the endpoints whose live release, or webhooks, use it. */
export type UsedSecret = { readonly secret: Secret; readonly endpoints: readonly Endpoint[] };

/** What the endpoint's own settings say; both may ask for secrets. */
export type Asking = {
  readonly env?: Readonly<Record<string, string>>;
  readonly webhookSecret?: string | null;
};

export type Secrets = {
  /** The caller's; an admin's are everybody's. */
  list(caller: SecretCaller): readonly UsedSecret[];
  /** Stores a value. `workers` were started before: they have the old one until they are replaced. */
  set(
    caller: SecretCaller,
    secret: SecretRef & { readonly value: string },
  ): Promise<UsedSecret & { readonly outcome: "created" | "changed"; readonly workers: readonly WorkerId[] }>;
  /** Forgets a secret; one that is in use only with `force`. */
  unset(caller: SecretCaller, secret: SecretRef & { readonly force: boolean }): Promise<UsedSecret>;
  /** An owner's variables with the secrets filled in. Throws an RpxError that names variable and secret. */
  fill(env: Readonly<Record<string, string>>, owner: string): Record<string, string>;
  /** Throws as `fill` would: what is deployed must be able to start. */
  check(asking: Asking, owner: string): void;
  /** What signs an endpoint's webhooks. Throws where its secret is not there: unsigned is not what was asked for. */
  signing(endpoint: Endpoint | null): readonly string[];
  /** What secrets are and were, those that can be read; null stands for every owner's and every name. */
  valuesOf(owner: string | null, names: readonly string[] | null): readonly string[];
};

export type SecretsOptions = {
  readonly store: Pick<Store, "secrets" | "fleet">;
  readonly clock: Clock;
  readonly box: SecretBox;
  readonly log: { warn(fields: object, message: string): void };
};

const MAX_SECRETS = 500;
/** Earlier values of one secret that logs are still redacted by. */
const MAX_REPLACED = 16;
const LIMITS = { maxSecrets: MAX_SECRETS, maxReplaced: MAX_REPLACED };
/** What Linux takes for one variable and, with an unlimited stack, for all: beyond, no program starts. */
const MAX_VARIABLE_BYTES = 128 * 1024;
const MAX_VARIABLES_BYTES = 2 * 1024 * 1024;
const WEBHOOK_SECRET = "webhook.secret";

export function createSecrets({ store, clock, box, log }: SecretsOptions): Secrets {
  function list(caller: SecretCaller): UsedSecret[] {
    const endpoints = endpointsBySecret();
    return store.secrets
      .secrets()
      .filter(({ owner }) => caller.scope === "admin" || owner === caller.owner)
      .map((secret) => ({ secret, endpoints: endpoints.get(keyOf(secret)) ?? [] }));
  }

  function endpointsBySecret(): Map<string, Endpoint[]> {
    const users = new Map<string, Endpoint[]>();
    for (const endpoint of store.fleet.endpoints()) {
      const env = store.fleet.release(endpoint.id, endpoint.liveRelease)?.spec.env ?? {};
      const asked = [...Object.values(env), endpoint.settings.webhookSecret ?? ""].flatMap(secretNames);
      for (const name of new Set(asked)) {
        const key = keyOf({ owner: endpoint.owner, name });
        users.set(key, [...(users.get(key) ?? []), endpoint]);
      }
    }
    return users;
  }

  function find(owner: string, name: string): UsedSecret | undefined {
    return list({ owner, scope: "own" }).find(({ secret }) => secret.name === name);
  }

  async function set(
    caller: SecretCaller,
    { name, value, owner: asked }: SecretRef & { readonly value: string },
  ) {
    const owner = ownerOf(caller, asked);
    const sealed = box.seal(value, contextOf(owner, name));
    const outcome = await store.secrets.setSecret({ owner, name, sealed }, LIMITS, clock.nowMs());
    if (outcome === "too_many") {
      throw new RpxError("conflict", `there are ${MAX_SECRETS} secrets already`, {
        hint: "take away some that are not in use: rpx secret list",
      });
    }
    const stored = find(owner, name);
    if (!stored) throw new RpxError("conflict", `secret "${name}" was taken away at the same moment`);
    return { ...stored, outcome, workers: outcome === "created" ? [] : workersOf(stored.endpoints) };
  }

  function workersOf(endpoints: readonly Endpoint[]): WorkerId[] {
    const ids = new Set<EndpointId>(endpoints.map(({ id }) => id));
    return store.fleet.workers().flatMap(({ id, endpointId }) => (ids.has(endpointId) ? [id] : []));
  }

  async function unset(
    caller: SecretCaller,
    { name, owner: asked, force }: SecretRef & { readonly force: boolean },
  ) {
    const owner = ownerOf(caller, asked);
    const found = find(owner, name);
    if (!found) throw unknown(name);
    if (found.endpoints.length > 0 && !force) throw inUse(found);
    if (!(await store.secrets.unsetSecret(owner, name, LIMITS, clock.nowMs()))) throw unknown(name);
    return found;
  }

  /** A secret's value. `variable` is what asks for it. */
  function secretOf(owner: string, name: string, variable: string): string {
    const sealed = store.secrets.sealed(owner, name);
    const asks = `${variable} asks for secret "${name}"`;
    if (sealed === null) {
      throw new RpxError("bad_request", `${asks}, which is not set`, {
        why: `owner ${owner} has no secret of this name`,
        hint: `rpx secret set ${name}`,
      });
    }
    try {
      return box.open(sealed, contextOf(owner, name));
    } catch (error) {
      if (!(error instanceof RpxError)) throw error;
      throw new RpxError(error.code, `${asks}, which cannot be read`, {
        ...(error.why && { why: error.why }),
        hint: `rpx secret set ${name} gives it a new value`,
      });
    }
  }

  function fill(env: Readonly<Record<string, string>>, owner: string): Record<string, string> {
    const budget = { bytes: MAX_VARIABLES_BYTES };
    return Object.fromEntries(
      Object.entries(env).map(([variable, value]) => [
        variable,
        secretNames(value).length === 0 ? value : fillOne({ variable, value, owner, budget }),
      ]),
    );
  }

  /** A text can name a secret many times: its size is watched while it grows. */
  function fillOne(asked: {
    readonly variable: string;
    readonly value: string;
    readonly owner: string;
    readonly budget: { bytes: number };
  }): string {
    const { variable, value, owner, budget } = asked;
    let bytes = 0;
    return fillSecrets(value, (name) => {
      const text = secretOf(owner, name, `variable ${variable}`);
      bytes += Buffer.byteLength(text);
      budget.bytes -= Buffer.byteLength(text);
      if (bytes > MAX_VARIABLE_BYTES || budget.bytes < 0) throw tooLarge(variable);
      return text;
    });
  }

  function signing(endpoint: Endpoint | null): readonly string[] {
    const secret = endpoint?.settings.webhookSecret;
    if (!endpoint || !secret) return [];
    return [fillSecrets(secret, (name) => secretOf(endpoint.owner, name, WEBHOOK_SECRET))];
  }

  function valuesOf(owner: string | null, names: readonly string[] | null): string[] {
    const wanted =
      owner === null || names === null
        ? store.secrets.remembered().filter((secret) => owner === null || secret.owner === owner)
        : [...new Set(names)].map((name) => ({ owner, name }));
    return wanted.flatMap((secret) => {
      const sealed = [
        store.secrets.sealed(secret.owner, secret.name) ?? [],
        store.secrets.replaced(secret.owner, secret.name),
      ];
      return sealed.flat().flatMap((text) => readable(text, secret));
    });
  }

  /** None where the key is another: the worker did not get it from this data directory's key either. */
  function readable(sealed: string, { owner, name }: Pick<Secret, "owner" | "name">): string[] {
    try {
      return [box.open(sealed, contextOf(owner, name))];
    } catch (error) {
      log.warn({ owner, secret: name, err: error }, "a secret cannot be read: logs are not redacted by it");
      return [];
    }
  }

  return {
    list,
    set,
    unset,
    fill,
    check: ({ env = {}, webhookSecret }, owner) => {
      fill(env, owner);
      if (webhookSecret) fillSecrets(webhookSecret, (name) => secretOf(owner, name, WEBHOOK_SECRET));
    },
    signing,
    valuesOf,
  };
}

/** What a sealed value is bound to, so that it opens under its own name alone. Owners' names have no colon. */
function contextOf(owner: string, name: string): string {
  return `secret:${owner}:${name}`;
}

function keyOf({ owner, name }: Pick<Secret, "owner" | "name">): string {
  return `${owner}:${name}`;
}

function ownerOf(caller: SecretCaller, asked: string | undefined): string {
  if (asked === undefined || asked === caller.owner) return caller.owner;
  if (caller.scope === "admin") return asked;
  throw new RpxError("forbidden", "only an admin key may name another owner");
}

function unknown(name: string): RpxError {
  return new RpxError("not_found", `no secret "${name}"`, { hint: "rpx secret list" });
}

function inUse({ secret, endpoints }: UsedSecret): RpxError {
  const names = endpoints.map(({ name }) => name).join(", ");
  return new RpxError("conflict", `secret "${secret.name}" is in use`, {
    why: `without it no worker of ${names} can start`,
    hint: "take it out of their settings first, or add --force",
  });
}

function tooLarge(variable: string): RpxError {
  return new RpxError("too_large", `variable ${variable} is too large with its secrets`, {
    why: `a variable may have ${MAX_VARIABLE_BYTES} bytes, all of them together ${MAX_VARIABLES_BYTES}`,
    hint: "put what is large into a volume or an image",
  });
}
