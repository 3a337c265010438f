import { Args, Flags } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { confirm } from "../../cli/confirm.ts";
import { findEndpoint } from "../../cli/find.ts";

export default class EndpointPurge extends BaseCommand {
  static override summary = "Cancel every waiting job of an endpoint";
  static override description = "Running jobs go on. Asks first; without a terminal it needs --yes (exit 2).";
  static override examples = [
    "<%= config.bin %> <%= command.id %> hello",
    "<%= config.bin %> <%= command.id %> hello --yes --json",
  ];
  static override args = {
    endpoint: Args.string({ description: "name or id of the endpoint", required: true, ignoreStdin: true }),
  };
  static override flags = { yes: Flags.boolean({ char: "y", summary: "Do not ask" }) };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(EndpointPurge);
    const connection = this.connect(flags);
    const { id, name, jobs } = await findEndpoint(connection, args.endpoint);
    const question = `cancel ${jobs.inQueue} waiting jobs of ${name}`;
    await confirm({ question, isAgreed: flags.yes, signal: this.interrupt.signal });
    const purged = await connection.client.purgeQueue(id);
    this.answer(purged, () => `${purged.removed} jobs cancelled`);
  }
}
