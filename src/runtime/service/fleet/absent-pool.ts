import { RpxError } from "../../../contract/error.ts";
import type { PoolKind } from "../../core/model.ts";
import type { WorkerPool } from "../../ports/worker-pool.ts";

/** A pool that this daemon was started without: always away, so nothing is concluded about its workers. */
export function absentPool(kind: PoolKind): WorkerPool {
  const reason = `this daemon was started without the pool "${kind}"`;
  const refuse = async () => {
    throw new RpxError("unavailable", reason, { hint: "start rpx serve with --pool auto" });
  };
  return {
    kind,
    sleeps: [],
    isolation: () => ({ level: "none", reason }),
    away: () => reason,
    address: () => null,
    prepare: () => {},
    onChange: () => () => {},
    start: refuse,
    stop: refuse,
    kill: refuse,
    park: refuse,
    wake: refuse,
    list: refuse,
    forget: refuse,
    onExit: () => () => {},
  };
}
