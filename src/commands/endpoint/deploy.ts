import { Args, Flags } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { deployProject } from "../../cli/deploy-project.ts";
import { CODE_FLAGS, configFromFlags, ENDPOINT_FLAGS } from "../../cli/endpoint-flags.ts";
import { inVain } from "../../cli/in-vain.ts";
import { talk } from "../../cli/output.ts";
import { finishRollout } from "../../cli/rollout.ts";
import { sanitizeLine } from "../../text/sanitize.ts";

export default class EndpointDeploy extends BaseCommand {
  static override summary = "Make an endpoint of a folder or an image, or a new release of it";
  static override description =
    `Sends the folder, creates the endpoint or rolls it, and waits until the new release serves: its first worker has to become ready, and
its tests (.runpod/tests.json, or --test) have to pass. Until then, and when it fails, the release before goes on serving. Workers are made of exactly
what rpx.toml and flags say; settings that neither names stay as they are. Nothing that workers are made of changed: no release is made.
Ctrl-C stops waiting, not the rollout.

Exits 2 when the release cannot be built or its first worker fails, 6 when a newer deploy takes its place, 7 when a test fails.`;
  static override examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> ./worker --name hello --env MODEL=tiny --test tests.json",
    "<%= config.bin %> <%= command.id %> --image org/worker:1.2 --name hello --workers-max 5",
    "<%= config.bin %> <%= command.id %> . --no-wait --json",
  ];
  static override args = {
    dir: Args.string({
      description: "Folder, or handler file; the present folder unless named",
      ignoreStdin: true,
    }),
  };
  static override flags = {
    name: Flags.string({
      summary: "Name of the endpoint; else of rpx.toml, else of the folder",
      helpValue: "NAME",
    }),
    test: Flags.string({
      summary: "Tests that the release has to pass, instead of .runpod/tests.json",
      helpValue: "FILE",
    }),
    wait: Flags.boolean({ summary: "Wait until the release serves", default: true, allowNo: true }),
    ...CODE_FLAGS,
    ...ENDPOINT_FLAGS,
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(EndpointDeploy);
    const config = configFromFlags(flags);
    const { client } = this.connect(flags);
    const progress = await this.openProgress();
    this.interrupt.explain({ message: "stopped before the release was built; what serves goes on serving" });
    const deployed = await deployProject({ client, dir: args.dir, flags, config, progress });
    const { endpoint, project } = deployed;
    const told = [...project.warnings, ...inVain(endpoint.pool, project.config)];
    for (const warning of told) talk(`warning: ${sanitizeLine(warning)}`);
    const rollout = { client, progress, interrupt: this.interrupt, isWaitedFor: flags.wait };
    const outcome = await finishRollout({ ...rollout, ...deployed });
    this.answer(outcome.document, () => outcome.text);
  }
}
