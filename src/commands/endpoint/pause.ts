import { Args } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { findEndpoint } from "../../cli/find.ts";

export default class EndpointPause extends BaseCommand {
  static override summary = "Hand out no more jobs of an endpoint";
  static override description =
    "Jobs are accepted and wait, running ones end, workers go to sleep or end. endpoint resume undoes it. Exits 3 when there is no such endpoint.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> hello",
    "<%= config.bin %> <%= command.id %> hello --json",
  ];
  static override args = {
    endpoint: Args.string({ description: "name or id of the endpoint", required: true, ignoreStdin: true }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(EndpointPause);
    const connection = this.connect(flags);
    const { id } = await findEndpoint(connection, args.endpoint);
    const endpoint = await connection.client.pauseEndpoint(id);
    this.answer(
      endpoint,
      () =>
        `${endpoint.name} is paused: jobs are accepted and wait; rpx endpoint resume ${endpoint.name} hands them out again`,
    );
  }
}
