import { Args } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { findEndpoint } from "../../cli/find.ts";

export default class EndpointResume extends BaseCommand {
  static override summary = "Undo a pause";
  static override description =
    "Waiting jobs are handed out again. One that is not paused stays as it is. Exits 3 when there is no such endpoint.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> hello",
    "<%= config.bin %> <%= command.id %> hello --json",
  ];
  static override args = {
    endpoint: Args.string({ description: "name or id of the endpoint", required: true, ignoreStdin: true }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(EndpointResume);
    const connection = this.connect(flags);
    const { id } = await findEndpoint(connection, args.endpoint);
    const endpoint = await connection.client.resumeEndpoint(id);
    this.answer(endpoint, () => `${endpoint.name} hands out jobs; ${endpoint.jobs.inQueue} wait`);
  }
}
