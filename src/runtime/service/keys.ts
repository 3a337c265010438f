import { timingSafeEqual } from "node:crypto";
import { RpxError } from "../../contract/error.ts";
import {
  digestKey,
  KEY_ALPHABET,
  KEY_BODY_LENGTH,
  type KeyKind,
  keyPrefix,
  makeKey,
  parseKey,
} from "../core/key-format.ts";
import { type EndpointId, type Key, type KeyId, SCOPES, type Scope } from "../core/model.ts";
import type { Clock } from "../ports/clock.ts";
import type { Random } from "../ports/random.ts";
import type { KeyStore } from "../ports/store.ts";

/** Who calls: what a valid key says of its bearer. */
export type Principal = {
  readonly keyId: KeyId;
  readonly name: string;
  readonly owner: string;
  readonly scope: Scope;
  /** Endpoints shared with this key beside its owner's. */
  readonly endpointIds: readonly EndpointId[];
};

export type NewKey = {
  readonly name: string;
  readonly owner: string;
  /** Default: run. */
  readonly scope?: Scope;
  readonly endpointIds?: readonly EndpointId[];
};

export type Keys = {
  /**
   * Makes the first admin key when no key of that scope is valid; its text, this once, or null. The text is handed to `keep`
   * before the key is stored: one that nobody knows would shut everybody out.
   */
  ensureAdmin(keep?: (text: string) => void): Promise<string | null>;
  /**
   * Whose key an `Authorization` header holds, bare or after `Bearer`; null without a valid one. A wrong key from an address
   * with too many of them this minute throws `rate_limited`; a right one never does (T-02).
   */
  authenticate(authorization: string | undefined, remoteAddress?: string): Principal | null;
  /** A new key and its text, which is never shown again. Throws `conflict` when the name is in use. */
  create(key: NewKey): Promise<{ readonly key: Key; readonly text: string }>;
  /** All keys, revoked ones too. */
  list(): readonly Key[];
  /** Makes a key, by name or id, worthless; throws `not_found`. Its streams close through {@link Keys.onRevoke} (F-47). */
  revoke(nameOrId: string): Promise<Key>;
  /** Calls back after a key was revoked; returns the unsubscriber. */
  onRevoke(listener: (keyId: KeyId) => void): () => void;
};

type Held = { readonly key: Key; readonly digest: Buffer; lastUsedAtMs: number };
type Failures = { count: number; readonly sinceMs: number };
type Log = { error(fields: object, message: string): void };

/** Last use is known to the minute: one write a minute and key, not one a request. */
const TOUCH_EVERY_MS = 60_000;
/** Wrong keys in a minute before an address is told to wait (T-02). */
const MAX_FAILURES = 10;
const FAILURE_WINDOW_MS = 60_000;
/** Addresses remembered; beyond, the one that failed first is forgotten. */
const MAX_ADDRESSES = 10_000;
/** Longer headers hold no key of ours. In characters. */
const MAX_HEADER_LENGTH = 256;
/** Names tried for the first admin key: each earlier one was revoked. */
const MAX_ADMIN_NAMES = 1_000;

/** Whether a scope holds what another one allows. */
export function allows(scope: Scope, needed: Scope): boolean {
  return SCOPES.indexOf(scope) >= SCOPES.indexOf(needed);
}

/** The key in an `Authorization` header: after `Bearer` in any case, or bare, as RunPod's workers send it. */
export function parseAuthorization(header: string | undefined): string | null {
  if (header === undefined || header.length > MAX_HEADER_LENGTH) return null;
  const text = header.trim();
  const key = /^bearer\s/i.test(text) ? text.slice("bearer".length).trim() : text;
  return key === "" ? null : key;
}

/** API keys: kept as digests, looked up in memory. */
export function createKeys({
  store,
  clock,
  random,
  log,
}: {
  readonly store: KeyStore;
  readonly clock: Clock;
  readonly random: Random;
  readonly log?: Log;
}): Keys {
  const held = new Map<string, Held>();
  const failures = createFailures(clock);
  const listeners = new Set<(keyId: KeyId) => void>();
  for (const { digest, ...key } of store.keys()) if (key.revokedAtMs === null) hold(key, digest);

  function hold(key: Key, digest: string): void {
    held.set(digest, { key, digest: Buffer.from(digest, "hex"), lastUsedAtMs: key.lastUsedAtMs ?? 0 });
  }

  function authenticate(authorization: string | undefined, remoteAddress = ""): Principal | null {
    const text = parseAuthorization(authorization);
    if (text === null) return null;
    const found = lookUp(text);
    if (found === null) {
      failures.record(remoteAddress);
      return null;
    }
    touch(found);
    const { id, name, owner, scope, endpointIds } = found.key;
    return { keyId: id, name, owner, scope, endpointIds };
  }

  function lookUp(text: string): Held | null {
    if (parseKey(text) === null) return null;
    const digest = digestKey(text);
    const found = held.get(digest);
    return found !== undefined && timingSafeEqual(found.digest, Buffer.from(digest, "hex")) ? found : null;
  }

  function touch(found: Held): void {
    const nowMs = clock.nowMs();
    if (nowMs - found.lastUsedAtMs < TOUCH_EVERY_MS) return;
    found.lastUsedAtMs = nowMs;
    store.touchKey(found.key.id, nowMs).catch((error: unknown) => {
      log?.error({ keyId: found.key.id, err: error }, "key's last use not recorded");
    });
  }

  async function create(wanted: NewKey): Promise<{ key: Key; text: string }> {
    const made = await add(wanted);
    if (made !== null) return made;
    throw new RpxError("conflict", `a key named "${wanted.name}" exists already`, {
      hint: "Choose another name; revoked keys keep theirs.",
    });
  }

  async function add(
    { name, owner, scope = "run", endpointIds = [] }: NewKey,
    keep?: (text: string) => void,
  ) {
    const kind: KeyKind = scope === "admin" ? "admin" : "client";
    const text = makeKey(kind, random.text(KEY_BODY_LENGTH, KEY_ALPHABET));
    keep?.(text);
    const nowMs = clock.nowMs();
    const key: Key = {
      id: random.uuid() as KeyId,
      name,
      owner,
      scope,
      endpointIds: [...endpointIds],
      prefix: keyPrefix(text),
      createdAtMs: nowMs,
      lastUsedAtMs: null,
      revokedAtMs: null,
    };
    const digest = digestKey(text);
    if ((await store.addKey(key, digest, nowMs)) === "name_taken") return null;
    hold(key, digest);
    return { key, text };
  }

  async function ensureAdmin(keep?: (text: string) => void): Promise<string | null> {
    if ([...held.values()].some(({ key }) => key.scope === "admin")) return null;
    for (let number = 1; number <= MAX_ADMIN_NAMES; number += 1) {
      const name = number === 1 ? "admin" : `admin-${number}`;
      const made = await add({ name, owner: "admin", scope: "admin" }, keep);
      if (made !== null) return made.text;
    }
    throw new RpxError("conflict", `the names of ${MAX_ADMIN_NAMES} admin keys are taken`);
  }

  async function revoke(nameOrId: string): Promise<Key> {
    const entry = [...held].find(([, { key }]) => key.name === nameOrId || key.id === nameOrId);
    if (entry === undefined) {
      throw new RpxError("not_found", `no valid key is named "${nameOrId}"`, { hint: "Try rpx key list." });
    }
    const [digest, { key }] = entry;
    const nowMs = clock.nowMs();
    await store.revokeKey(key.id, nowMs);
    held.delete(digest);
    for (const listener of listeners) listener(key.id);
    return { ...key, revokedAtMs: nowMs };
  }

  return {
    ensureAdmin,
    authenticate,
    create,
    list: () => store.keys().map(({ digest: _, ...key }) => key),
    revoke,
    onRevoke: (listener) => {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
  };
}

/** Wrong keys by address, in windows of a minute from the first. */
function createFailures(clock: Clock) {
  const byAddress = new Map<string, Failures>();

  function record(address: string): void {
    const nowMs = clock.nowMs();
    const known = byAddress.get(address);
    if (known === undefined || nowMs - known.sinceMs >= FAILURE_WINDOW_MS) start(address, nowMs);
    else if (known.count < MAX_FAILURES) known.count += 1;
    else throw tooMany(known, nowMs);
  }

  function tooMany(known: Failures, nowMs: number): RpxError {
    return new RpxError("rate_limited", "too many wrong keys from this address", {
      retryAfterSeconds: Math.ceil((known.sinceMs + FAILURE_WINDOW_MS - nowMs) / 1_000),
      hint: "Wait, or send a valid key: those are never refused for this.",
    });
  }

  function start(address: string, nowMs: number): void {
    // Deleted first, so that the order of the map is the order of the windows.
    byAddress.delete(address);
    const [oldest] = byAddress.keys();
    if (byAddress.size >= MAX_ADDRESSES && oldest !== undefined) byAddress.delete(oldest);
    byAddress.set(address, { count: 1, sinceMs: nowMs });
  }

  return { record };
}
