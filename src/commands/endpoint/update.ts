import { Args, Flags } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { describeEndpoint } from "../../cli/describe-endpoint.ts";
import { configFromFlags, ENDPOINT_FLAGS, overlay } from "../../cli/endpoint-flags.ts";
import { findEndpoint } from "../../cli/find.ts";
import { talk } from "../../cli/output.ts";
import { sendProject } from "../../cli/send-project.ts";
import type { Client } from "../../client/client.ts";
import { RpxError } from "../../contract/error.ts";
import type { EndpointConfig, UpdateEndpoint } from "../../contract/schemas/endpoint.ts";
import { sanitizeLine } from "../../text/sanitize.ts";

export default class EndpointUpdate extends BaseCommand {
  static override summary = "Change an endpoint";
  static override description =
    `What is not named stays. --handler sends new code and makes a new release; running jobs end on the old one.
Exits 3 when there is no such endpoint, 6 when the new name is taken.`;
  static override examples = [
    "<%= config.bin %> <%= command.id %> hello --workers-max 5",
    "<%= config.bin %> <%= command.id %> hello --handler . --json",
    "<%= config.bin %> <%= command.id %> hello --no-flash-boot --env MODEL=large",
  ];
  static override args = {
    endpoint: Args.string({ description: "name or id of the endpoint", required: true, ignoreStdin: true }),
  };
  static override flags = {
    name: Flags.string({ summary: "New name", helpValue: "NAME" }),
    handler: Flags.string({ summary: "New code: a handler, or its folder", helpValue: "PATH" }),
    python: Flags.string({
      summary: "Python interpreter for the new code",
      helpValue: "PATH",
      dependsOn: ["handler"],
    }),
    ...ENDPOINT_FLAGS,
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(EndpointUpdate);
    const config = configFromFlags(flags);
    if (flags.name === undefined && flags.handler === undefined && Object.keys(config).length === 0) {
      throw new RpxError("usage", "nothing to change was named", {
        hint: "for example --workers-max 5, or --handler .",
      });
    }
    const connection = this.connect(flags);
    const { id } = await findEndpoint(connection, args.endpoint);
    const change = await this.prepare(connection.client, config, flags);
    const progress = await this.openProgress();
    const endpoint = await connection.client.updateEndpoint(id, change, progress.step);
    progress.done();
    for (const warning of endpoint.warnings) talk(`warning: ${sanitizeLine(warning)}`);
    this.answer(endpoint, () => describeEndpoint(endpoint));
  }

  private async prepare(
    client: Client,
    config: EndpointConfig,
    flags: { name: string | undefined; handler: string | undefined; python: string | undefined },
  ): Promise<UpdateEndpoint> {
    const name = flags.name === undefined ? {} : { name: flags.name };
    if (flags.handler === undefined) return { ...name, config };
    const progress = await this.openProgress();
    const project = await sendProject(client, flags.handler, progress);
    progress.done();
    for (const warning of project.warnings) talk(`warning: ${sanitizeLine(warning)}`);
    const python = flags.python === undefined ? {} : { python: flags.python };
    return { ...name, config: overlay(project.config, config), code: { ...project.code, ...python } };
  }
}
