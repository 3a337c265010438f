import { Args, Flags } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { confirm } from "../../cli/confirm.ts";
import { findEndpoint } from "../../cli/find.ts";

export default class EndpointDelete extends BaseCommand {
  static override summary = "Delete an endpoint and its workers";
  static override description =
    "Waiting and running jobs are cancelled. Asks first; without a terminal it needs --yes (exit 2).";
  static override examples = [
    "<%= config.bin %> <%= command.id %> hello",
    "<%= config.bin %> <%= command.id %> hello --yes --json",
  ];
  static override args = {
    endpoint: Args.string({ description: "name or id of the endpoint", required: true, ignoreStdin: true }),
  };
  static override flags = { yes: Flags.boolean({ char: "y", summary: "Do not ask" }) };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(EndpointDelete);
    const connection = this.connect(flags);
    const { id, name, jobs } = await findEndpoint(connection, args.endpoint);
    const question = `delete endpoint ${name} (${id}) with ${jobs.inQueue + jobs.inProgress} unfinished jobs`;
    await confirm({ question, isAgreed: flags.yes, signal: this.interrupt.signal });
    await connection.client.deleteEndpoint(id);
    this.answer({ id, name, deleted: true }, () => `endpoint ${name} is deleted`);
  }
}
