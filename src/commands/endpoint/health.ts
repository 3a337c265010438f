import { Args } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { formatFacts } from "../../cli/facts.ts";
import { findEndpoint } from "../../cli/find.ts";

export default class EndpointHealth extends BaseCommand {
  static override summary = "Show counts of an endpoint's jobs and workers";
  static override description = "The answer of RunPod's /health. Exits 3 when there is no such endpoint.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> hello",
    "<%= config.bin %> <%= command.id %> hello --json",
  ];
  static override args = {
    endpoint: Args.string({ description: "name or id of the endpoint", required: true, ignoreStdin: true }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(EndpointHealth);
    const connection = this.connect(flags);
    const { id } = await findEndpoint(connection, args.endpoint);
    const health = await connection.client.health(id);
    const facts = [
      ...Object.entries(health.jobs).map(([name, count]) => [`jobs ${name}`, count] as const),
      ...Object.entries(health.workers).map(([name, count]) => [`workers ${name}`, count] as const),
    ];
    this.answer(health, () => formatFacts(facts));
  }
}
