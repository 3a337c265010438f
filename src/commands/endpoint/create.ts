import { Args, Flags } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { describeEndpoint } from "../../cli/describe-endpoint.ts";
import { configFromFlags, ENDPOINT_FLAGS, overlay } from "../../cli/endpoint-flags.ts";
import { talk } from "../../cli/output.ts";
import { sendProject } from "../../cli/send-project.ts";
import { RpxError } from "../../contract/error.ts";
import { sanitizeLine } from "../../text/sanitize.ts";

export default class EndpointCreate extends BaseCommand {
  static override summary = "Create an endpoint from a handler";
  static override description =
    `The folder of the handler is sent to the daemon; its rpx.toml is read too. Flags win over the file, and NAME over its name. Times are durations (5s, 10m) or plain seconds.
Exits 6 when the name or id is taken, 2 for a name, a handler or a setting that cannot be used.`;
  static override examples = [
    "<%= config.bin %> <%= command.id %> hello --handler handler.py",
    "<%= config.bin %> <%= command.id %> hello --handler . --workers-max 5 --idle-timeout 30s --env MODEL=tiny",
    "<%= config.bin %> <%= command.id %> hello --handler ./worker --scale-by QUEUE_DELAY --scale-threshold 4 --json",
  ];
  static override args = {
    name: Args.string({
      description: "name of the endpoint: a-z, 0-9 and -",
      required: true,
      ignoreStdin: true,
    }),
  };
  static override flags = {
    handler: Flags.string({
      summary: "Handler, or the folder that it is in",
      required: true,
      helpValue: "PATH",
    }),
    id: Flags.string({ summary: "Id that clients have in their code already", helpValue: "ID" }),
    python: Flags.string({ summary: "Python interpreter for the handler", helpValue: "PATH" }),
    ...ENDPOINT_FLAGS,
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(EndpointCreate);
    const config = configFromFlags(flags);
    await checkName(args.name);
    const { client } = this.connect(flags);
    const progress = await this.openProgress();
    const project = await sendProject(client, flags.handler, progress);
    const request = {
      name: args.name,
      ...(flags.id === undefined ? {} : { id: flags.id }),
      config: overlay(project.config, config),
      ...project.code,
      ...(flags.python === undefined ? {} : { python: flags.python }),
    };
    const endpoint = await client.createEndpoint(request, progress.step);
    progress.done();
    for (const warning of [...project.warnings, ...endpoint.warnings])
      talk(`warning: ${sanitizeLine(warning)}`);
    this.answer(endpoint, () => describeEndpoint(endpoint));
  }
}

/** Refused here, before a folder is packed and sent. */
async function checkName(name: string): Promise<void> {
  const { NAME_PATTERN, RESERVED_NAMES } = await import("../../contract/schemas/endpoint.ts");
  if (RESERVED_NAMES.includes(name)) {
    throw new RpxError("usage", `an endpoint cannot be called "${name}"`, {
      why: "RunPod's own API uses that word in its addresses",
    });
  }
  if (NAME_PATTERN.test(name)) return;
  throw new RpxError("usage", `an endpoint cannot be called "${name}"`, {
    why: "a name has 1 to 63 of a-z, 0-9 and -, and does not begin with -",
  });
}
