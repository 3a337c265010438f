import { Args, Flags } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { findEndpoint } from "../../cli/find.ts";
import { SNIPPET_CLIENTS, type SnippetClient, snippet } from "../../cli/snippets.ts";

export default class EndpointUrl extends BaseCommand {
  static override summary = "Show an endpoint's address, or lines to paste that call it";
  static override description =
    "Lines for a client name the key by its variable, RPX_API_KEY, never by its text. Exits 3 when there is no such endpoint.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> hello",
    "<%= config.bin %> <%= command.id %> hello --client python",
    "<%= config.bin %> <%= command.id %> hello --client curl --json",
  ];
  static override args = {
    endpoint: Args.string({ description: "name or id of the endpoint", required: true, ignoreStdin: true }),
  };
  static override flags = {
    client: Flags.string({ summary: "For which client", options: [...SNIPPET_CLIENTS], helpValue: "CLIENT" }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(EndpointUrl);
    const { id, name, url } = await findEndpoint(this.connect(flags), args.endpoint);
    const text = flags.client === undefined ? null : snippet(flags.client as SnippetClient, { url, id });
    this.answer(
      { id, name, url, ...(text === null ? {} : { client: flags.client, snippet: text }) },
      () => text ?? url,
    );
  }
}
