import { Args, Flags } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { confirm } from "../../cli/confirm.ts";
import { findWorker } from "../../cli/find.ts";

export default class WorkerStop extends BaseCommand {
  static override summary = "Drain a worker and end it";
  static override description =
    "The worker gets no further job, ends what it has and goes. Asks first; without a terminal it needs --yes (exit 2).";
  static override examples = [
    "<%= config.bin %> <%= command.id %> 7f3a",
    "<%= config.bin %> <%= command.id %> 7f3a --yes --json",
  ];
  static override args = {
    worker: Args.string({ description: "id, or the beginning of one", required: true, ignoreStdin: true }),
  };
  static override flags = { yes: Flags.boolean({ char: "y", summary: "Do not ask" }) };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(WorkerStop);
    const connection = this.connect(flags);
    const { id, endpoint } = await findWorker(connection, args.worker);
    const question = `stop worker ${id} of ${endpoint}`;
    await confirm({ question, isAgreed: flags.yes, signal: this.interrupt.signal });
    await connection.client.stopWorker(id);
    this.answer({ id, stopping: true }, () => `worker ${id} is stopping`);
  }
}
