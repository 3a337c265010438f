import { Args, Flags } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { describeEndpoint } from "../../cli/describe-endpoint.ts";
import {
  CODE_FLAGS,
  configFromFlags,
  ENDPOINT_FLAGS,
  overlay,
  type PoolFlag,
  poolOf,
} from "../../cli/endpoint-flags.ts";
import { findEndpoint } from "../../cli/find.ts";
import { inVain } from "../../cli/in-vain.ts";
import { talk } from "../../cli/output.ts";
import { imageCode, sendProject } from "../../cli/send-project.ts";
import type { Client } from "../../client/client.ts";
import { RpxError } from "../../contract/error.ts";
import type { EndpointConfig, UpdateEndpoint } from "../../contract/schemas/endpoint.ts";
import { sanitizeLine } from "../../text/sanitize.ts";

export default class EndpointUpdate extends BaseCommand {
  static override summary = "Change an endpoint";
  static override description =
    `What is not named stays. --handler or --image brings new code; that, and settings that workers are made of (env, limits, image), make a new
release, which serves once its first worker is ready; running jobs end on the old one. endpoint deploy also waits for it.
Exits 3 when there is no such endpoint, 6 when the new name is taken.`;
  static override examples = [
    "<%= config.bin %> <%= command.id %> hello --workers-max 5",
    "<%= config.bin %> <%= command.id %> hello --handler . --json",
    "<%= config.bin %> <%= command.id %> hello --image org/worker:1.3 --pool docker",
    "<%= config.bin %> <%= command.id %> hello --no-flash-boot --env MODEL=large",
  ];
  static override args = {
    endpoint: Args.string({ description: "name or id of the endpoint", required: true, ignoreStdin: true }),
  };
  static override flags = {
    name: Flags.string({ summary: "New name", helpValue: "NAME" }),
    handler: Flags.string({
      summary: "New code: a handler, or its folder",
      helpValue: "PATH",
      helpGroup: "CODE",
      exclusive: ["image"],
    }),
    ...CODE_FLAGS,
    ...ENDPOINT_FLAGS,
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(EndpointUpdate);
    const config = configFromFlags(flags);
    checkChange(flags, config);
    const connection = this.connect(flags);
    const { id } = await findEndpoint(connection, args.endpoint);
    const change = await this.prepare(connection.client, config, flags);
    const progress = await this.openProgress();
    const endpoint = await connection.client.updateEndpoint(id, change, progress.step);
    progress.done();
    const warnings = [...endpoint.warnings, ...inVain(endpoint.pool, change.config ?? {})];
    for (const warning of warnings) talk(`warning: ${sanitizeLine(warning)}`);
    this.answer(endpoint, () => describeEndpoint(endpoint));
  }

  private async prepare(client: Client, config: EndpointConfig, flags: ChangeFlags): Promise<UpdateEndpoint> {
    const { name, handler, image, dockerfile, python } = flags;
    const change = { ...(name === undefined ? {} : { name }), ...poolOf(flags.pool) };
    if (image !== undefined) return { ...change, config, code: imageCode(image) };
    if (handler === undefined) return { ...change, config };
    const progress = await this.openProgress();
    const project = await sendProject(client, handler, { dockerfile, progress });
    progress.done();
    for (const warning of project.warnings) talk(`warning: ${sanitizeLine(warning)}`);
    const code = { ...project.code, ...(python === undefined ? {} : { python }) };
    return { ...change, config: overlay(project.config, config), code };
  }
}

type ChangeFlags = {
  readonly name: string | undefined;
  readonly handler: string | undefined;
  readonly image: string | undefined;
  readonly dockerfile: string | undefined;
  readonly python: string | undefined;
  readonly pool: PoolFlag | undefined;
};

function checkChange(flags: ChangeFlags, config: EndpointConfig): void {
  const { name, handler, image, dockerfile, python, pool } = flags;
  const alone = dockerfile === undefined ? "python" : "dockerfile";
  if (handler === undefined && (dockerfile !== undefined || python !== undefined))
    throw new RpxError("usage", `--${alone} needs --handler`, { why: "it belongs to code that is sent" });
  const isNamed = [name, handler, image, pool].some((value) => value !== undefined);
  if (!isNamed && Object.keys(config).length === 0)
    throw new RpxError("usage", "nothing to change was named", {
      hint: "for example --workers-max 5, or --handler .",
    });
}
