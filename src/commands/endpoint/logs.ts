import { Args, Flags } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { findEndpoint } from "../../cli/find.ts";
import { LOG_FLAGS, logQuery, showLogs } from "../../cli/log-lines.ts";

export default class EndpointLogs extends BaseCommand {
  static override summary = "Show what an endpoint's workers printed";
  static override description =
    "Lines of all workers in their order, also of those that are gone. With --json an array; with --follow --json one object a line.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> hello -f",
    "<%= config.bin %> <%= command.id %> hello --since 1h --level error",
    "<%= config.bin %> <%= command.id %> hello --job 3c1e9b2a --json",
  ];
  static override args = {
    endpoint: Args.string({ description: "name or id of the endpoint", required: true, ignoreStdin: true }),
  };
  static override flags = {
    ...LOG_FLAGS,
    worker: Flags.string({ summary: "Only lines of this worker", helpValue: "ID" }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(EndpointLogs);
    const connection = this.connect(flags);
    const query = { ...logQuery(flags), worker: flags.worker };
    const { id } = await findEndpoint(connection, args.endpoint);
    this.interrupt.explain({ message: "stopped reading" });
    const options = { isJson: this.jsonEnabled(), follow: flags.follow };
    await showLogs(connection.client.endpointLogs(id, query), options);
  }
}
