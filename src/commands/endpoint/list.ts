import { BaseCommand } from "../../cli/base-command.ts";
import { endpointTable } from "../../cli/tables.ts";

export default class EndpointList extends BaseCommand {
  static override summary = "List endpoints";
  static override description =
    "Each with its state, the reason for it, and what waits and runs. Exits 5 when no daemon answers.";
  static override examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> --json",
  ];

  async run(): Promise<void> {
    const { flags } = await this.parse(EndpointList);
    const { client } = this.connect(flags);
    const endpoints = await client.listEndpoints();
    this.answer(endpoints, () => endpointTable(endpoints));
  }
}
