import { Args } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { formatFacts } from "../../cli/facts.ts";
import { findWorker } from "../../cli/find.ts";
import type { WorkerBody } from "../../contract/schemas/worker.ts";
import { sanitizeLine } from "../../text/sanitize.ts";

export default class WorkerGet extends BaseCommand {
  static override summary = "Show a worker";
  static override description =
    "Shows state, reason, release, pool, the jobs it holds, how far its start has come, whether it sleeps, and, once it has ended, how and with which last lines. Exits 3 when there is none.";
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
  const facts = formatFacts([
    ["worker", worker.id],
    ["endpoint", `${worker.endpoint} (${worker.endpointId})`],
    ["state", worker.state],
    ["reason", worker.reason],
    ["phase", worker.phase ?? undefined],
    ["asleep", worker.asleep ?? undefined],
    ["release", worker.release],
    ["pool", `${worker.pool} (isolation: ${worker.isolation})`],
    ["isolation", worker.isolationReason],
    ["runs as", worker.container ?? undefined],
    ["gpus", worker.gpus.join(", ")],
    ["jobs", worker.jobIds.join(", ")],
    ["started", worker.startedAt],
    ["ended", worker.endedAt ?? undefined],
    ["exit", exitText(worker.exit)],
    ["next try", worker.retryAt ?? undefined],
  ]);
  const lines = (worker.lastLines ?? []).map((line) => sanitizeLine(`| ${line}`));
  return [facts, ...lines].join("\n");
}

const CAUSES = { oom: "out of memory", disk: "over its disk limit", removed: "removed by hand" } as const;

/** How it ended, as its pool saw it. */
function exitText(exit: WorkerBody["exit"]): string | undefined {
  if (exit === null) return undefined;
  const how = exit.signal === null ? `code ${exit.code ?? "unknown"}` : `signal ${exit.signal}`;
  return exit.cause === null ? how : `${how} (${CAUSES[exit.cause]})`;
}
