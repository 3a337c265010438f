import { Args } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { findEndpoint } from "../../cli/find.ts";
import { releaseTable } from "../../cli/tables.ts";

export default class EndpointReleases extends BaseCommand {
  static override summary = "List an endpoint's releases, newest first";
  static override description =
    "Each with its state, the reason for it, what made it, and the names of what changed. Exits 3 when there is no such endpoint.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> hello",
    "<%= config.bin %> <%= command.id %> hello --json",
  ];
  static override args = {
    endpoint: Args.string({ description: "name or id of the endpoint", required: true, ignoreStdin: true }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(EndpointReleases);
    const connection = this.connect(flags);
    const { id } = await findEndpoint(connection, args.endpoint);
    const releases = await connection.client.releases(id);
    this.answer(releases, () => releaseTable(releases));
  }
}
