import { POOL_KINDS, type PoolKind } from "./core/model.ts";
import type { BoundAddress, SocketHost } from "./ports/socket-host.ts";
import type { Pools } from "./ports/worker-pool.ts";

export type ListenersOptions = {
  readonly sockets: SocketHost;
  readonly pools: Pools;
  readonly client: { readonly host: string; readonly port: number };
  readonly worker: { readonly host: string; readonly port: number };
  /** Workers of a pool can reach the daemon now. */
  readonly onReachable: () => void;
  readonly log: { error(fields: object, message: string): void };
};

type Accept = Parameters<SocketHost["listen"]>[1];

/** The daemon's sockets: one for clients, one for workers on loopback, and one on the address of each pool's network (D5). */
export type Listeners = {
  open(accept: { readonly client: Accept; readonly worker: Accept }): Promise<void>;
  /** Null until they are open. */
  bound(): { readonly client: BoundAddress; readonly worker: BoundAddress } | null;
  /** Origin of the worker listener as workers of a pool reach it; null while it is not open. */
  workerUrl(pool: PoolKind): string | null;
};

export function createListeners(options: ListenersOptions): Listeners {
  const { sockets, pools, log } = options;
  const ofPools = new Map<PoolKind, BoundAddress>();
  let bound: { client: BoundAddress; worker: BoundAddress } | null = null;

  async function open({ client, worker }: { readonly client: Accept; readonly worker: Accept }) {
    bound = {
      client: await sockets.listen({ name: "client", ...options.client }, client),
      worker: await sockets.listen({ name: "worker", ...options.worker }, worker),
    };
    for (const kind of POOL_KINDS) {
      pools[kind]?.onChange(() => void listenFor(kind, worker));
      await listenFor(kind, worker);
    }
  }

  /** A pool's network appears when its engine does, and may come back with another address. */
  async function listenFor(kind: PoolKind, accept: Accept): Promise<void> {
    const host = pools[kind]?.address()?.listenHost;
    if (host == null || bound === null || ofPools.get(kind)?.host === host) return;
    const before = ofPools.get(kind);
    const name = `worker-${kind}`;
    try {
      if (before) await sockets.close(name);
      ofPools.set(kind, await sockets.listen({ name, host, port: bound.worker.port }, accept));
      options.onReachable();
    } catch (error) {
      ofPools.delete(kind);
      log.error({ err: error, host, pool: kind }, "workers of this pool cannot reach the daemon");
    }
  }

  function workerUrl(kind: PoolKind): string | null {
    const address = pools[kind]?.address();
    if (bound === null || !address) return null;
    const listener = address.listenHost === null ? bound.worker : ofPools.get(kind);
    return listener ? originOf({ host: address.urlHost, port: listener.port }, "http") : null;
  }

  return { open, bound: () => bound, workerUrl };
}

export function originOf({ host, port }: BoundAddress, scheme: "http" | "https"): string {
  return `${scheme}://${host.includes(":") ? `[${host}]` : host}:${port}`;
}
