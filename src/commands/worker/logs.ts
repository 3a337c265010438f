import { Args } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { findWorker } from "../../cli/find.ts";
import { LOG_FLAGS, logQuery, showLogs } from "../../cli/log-lines.ts";

export default class WorkerLogs extends BaseCommand {
  static override summary = "Show what a worker printed";
  static override description =
    "Kept after the worker is gone. With --json an array; with --follow --json one object a line.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> 7f3a -f",
    "<%= config.bin %> <%= command.id %> 7f3a --since 10m --grep error --json",
  ];
  static override args = {
    worker: Args.string({ description: "id, or the beginning of one", required: true, ignoreStdin: true }),
  };
  static override flags = { ...LOG_FLAGS };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(WorkerLogs);
    const connection = this.connect(flags);
    const query = logQuery(flags);
    const { id } = await findWorker(connection, args.worker);
    this.interrupt.explain({ message: "stopped reading" });
    const options = { isJson: this.jsonEnabled(), follow: flags.follow };
    await showLogs(connection.client.workerLogs(id, query), options);
  }
}
