import type { KeyId } from "../core/model.ts";

export type Revocations = { readonly signal: (keyId: KeyId) => AbortSignal };

/** One signal per key that aborts when the key is revoked. */
export function createRevocations(onRevoke: (listener: (keyId: KeyId) => void) => () => void): Revocations {
  const controllers = new Map<KeyId, AbortController>();
  onRevoke((keyId) => {
    controllers.get(keyId)?.abort();
    controllers.delete(keyId);
  });
  return {
    signal: (keyId) => {
      const controller = controllers.get(keyId) ?? new AbortController();
      controllers.set(keyId, controller);
      return controller.signal;
    },
  };
}
