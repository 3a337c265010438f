import type { Isolation, WorkerAddress } from "../../ports/worker-pool.ts";

/**
 * The network that a daemon's containers join, as the pool sees it. Who makes it, and with which rules on the host, is not the
 * pool's to know.
 */
export type WorkerNetwork = {
  /** What containers are created with as their network. */
  readonly name: string;
  /**
   * Makes network and rules what they should be. Idempotent: called before each start and whenever the engine has come back. Rejects
   * with an RpxError while workers could not be reached or held apart.
   */
  ensure(): Promise<void>;
  /** Where containers find the worker listener; null until `ensure` has resolved once. */
  address(): WorkerAddress | null;
  isolation(): Isolation;
  /** Called once a container runs, before its start is answered: for rules that need its address. */
  onContainerStarted(containerId: string): Promise<void>;
  /** Calls back when what `address` or `isolation` say has changed. */
  onChange(listener: () => void): () => void;
};

/** The host's name inside containers of an engine that runs elsewhere: such an address needs an entry in their hosts file. */
export const HOST_ALIAS = "host.docker.internal";
