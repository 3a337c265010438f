import { Args, Flags } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { describeEndpoint } from "../../cli/describe-endpoint.ts";
import { CODE_FLAGS, configFromFlags, ENDPOINT_FLAGS, overlay, poolOf } from "../../cli/endpoint-flags.ts";
import { checkName } from "../../cli/endpoint-name.ts";
import { inVain } from "../../cli/in-vain.ts";
import { talk } from "../../cli/output.ts";
import { imageCode, type SentProject, sendProject } from "../../cli/send-project.ts";
import type { Client } from "../../client/client.ts";
import { RpxError } from "../../contract/error.ts";
import { sanitizeLine } from "../../text/sanitize.ts";

export default class EndpointCreate extends BaseCommand {
  static override summary = "Create an endpoint from a handler or an image";
  static override description =
    `The folder of the handler is sent to the daemon; its rpx.toml is read too. Flags win over the file, and NAME over its name. Times are durations (5s, 10m) or plain seconds.
The endpoint serves as soon as it is built; endpoint deploy waits for a first worker and tests.
Exits 6 when the name or id is taken, 2 for a name, a handler or a setting that cannot be used.`;
  static override examples = [
    "<%= config.bin %> <%= command.id %> hello --handler handler.py",
    "<%= config.bin %> <%= command.id %> hello --handler . --workers-max 5 --idle-timeout 30s --env MODEL=tiny",
    "<%= config.bin %> <%= command.id %> hello --handler ./worker --scale-by QUEUE_DELAY --scale-threshold 4 --json",
    "<%= config.bin %> <%= command.id %> hello --image org/worker:1.2 --prewarm --extra 2",
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
      helpValue: "PATH",
      helpGroup: "CODE",
    }),
    id: Flags.string({ summary: "Id that clients have in their code already", helpValue: "ID" }),
    ...CODE_FLAGS,
    ...ENDPOINT_FLAGS,
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(EndpointCreate);
    const config = configFromFlags(flags);
    await checkName(args.name);
    checkCode(flags);
    const { client } = this.connect(flags);
    const project = await this.send(client, flags);
    const request = {
      name: args.name,
      ...(flags.id === undefined ? {} : { id: flags.id }),
      config: overlay(project.config, config),
      ...project.code,
      ...(flags.python === undefined ? {} : { python: flags.python }),
      ...poolOf(flags.pool),
    };
    const progress = await this.openProgress();
    const endpoint = await client.createEndpoint(request, progress.step);
    progress.done();
    const vain = inVain(endpoint.pool, request.config);
    for (const warning of [...project.warnings, ...endpoint.warnings, ...vain])
      talk(`warning: ${sanitizeLine(warning)}`);
    this.answer(endpoint, () => describeEndpoint(endpoint));
  }

  private async send(
    client: Client,
    { handler, image, dockerfile }: CodeFlags,
  ): Promise<Omit<SentProject, "name">> {
    if (image !== undefined) return { config: {}, warnings: [], code: imageCode(image) };
    return await sendProject(client, handler ?? ".", { dockerfile, progress: await this.openProgress() });
  }
}

type CodeFlags = {
  readonly handler: string | undefined;
  readonly image: string | undefined;
  readonly dockerfile: string | undefined;
};

function checkCode({ handler, image, dockerfile }: CodeFlags): void {
  const hint = "--handler . or --image org/worker:1.2";
  if (handler === undefined && image === undefined)
    throw new RpxError("usage", "nothing that could run was named", { hint });
  if (image === undefined || (handler === undefined && dockerfile === undefined)) return;
  throw new RpxError(
    "usage",
    `--image and --${handler === undefined ? "dockerfile" : "handler"} exclude each other`,
    {
      why: "an image runs as it is, and no code is sent with it",
      hint,
    },
  );
}
