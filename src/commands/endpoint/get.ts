import { Args } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { describeEndpoint } from "../../cli/describe-endpoint.ts";
import { findEndpoint } from "../../cli/find.ts";

export default class EndpointGet extends BaseCommand {
  static override summary = "Show an endpoint and its settings";
  static override description =
    "Settings stand under their rpx.toml names. Exits 3 when there is no such endpoint.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> hello",
    "<%= config.bin %> <%= command.id %> hello --json",
  ];
  static override args = {
    endpoint: Args.string({ description: "name or id of the endpoint", required: true, ignoreStdin: true }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(EndpointGet);
    const endpoint = await findEndpoint(this.connect(flags), args.endpoint);
    this.answer(endpoint, () => describeEndpoint(endpoint));
  }
}
