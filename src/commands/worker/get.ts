import { Args } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { formatFacts } from "../../cli/facts.ts";
import { findWorker } from "../../cli/find.ts";
import type { WorkerBody } from "../../contract/schemas/worker.ts";

export default class WorkerGet extends BaseCommand {
  static override summary = "Show a worker";
  static override description =
    "Shows state, reason, release, pool and the jobs it holds. Exits 3 when there is none.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> 7f3a",
    "<%= config.bin %> <%= command.id %> 7f3a --json",
  ];
  static override args = {
    worker: Args.string({ description: "id, or the beginning of one", required: true, ignoreStdin: true }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(WorkerGet);
    const worker = await findWorker(this.connect(flags), args.worker);
    this.answer(worker, () => describe(worker));
  }
}

function describe(worker: WorkerBody): string {
  return formatFacts([
    ["worker", worker.id],
    ["endpoint", `${worker.endpoint} (${worker.endpointId})`],
    ["state", worker.state],
    ["reason", worker.reason],
    ["release", worker.release],
    ["pool", `${worker.pool} (isolation: ${worker.isolation})`],
    ["isolation", worker.isolationReason],
    ["runs as", worker.container ?? undefined],
    ["gpus", worker.gpus.join(", ")],
    ["jobs", worker.jobIds.join(", ")],
    ["started", worker.startedAt],
    ["ended", worker.endedAt ?? undefined],
  ]);
}
