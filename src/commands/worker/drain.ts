import { Args } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { findWorker } from "../../cli/find.ts";
import { RpxError } from "../../contract/error.ts";

export default class WorkerDrain extends BaseCommand {
  static override summary = "Give a worker no more jobs; it ends after those it has";
  static override description =
    "Another takes its place where one is wanted. Nothing is lost, so nothing is asked. Exits 3 when there is no such worker, 6 when it has ended.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> 7f3a",
    "<%= config.bin %> <%= command.id %> 7f3a --json",
  ];
  static override args = {
    worker: Args.string({ description: "id, or the beginning of one", required: true, ignoreStdin: true }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(WorkerDrain);
    const connection = this.connect(flags);
    const { id, state, reason, jobIds } = await findWorker(connection, args.worker);
    if (state === "gone") throw new RpxError("conflict", `worker ${id} has ended already`, { why: reason });
    await connection.client.drainWorker(id);
    this.answer(
      { id, draining: true, jobIds },
      () => `worker ${id} gets no more jobs; it ends after the ${jobIds.length} it has`,
    );
  }
}
