import { Args, Flags } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { formatFacts } from "../../cli/facts.ts";
import { talk } from "../../cli/output.ts";
import { sanitizeLine } from "../../text/sanitize.ts";
import { formatSize } from "../../text/size.ts";

export default class ImagePull extends BaseCommand {
  static override summary = "Get an image from its registry";
  static override description =
    `So that a first worker need not wait for it. What is here already is only asked for. Prints the name under which it never changes.
Exits 3 when there is no such image, 2 when it is for another processor, 9 when registry or engine do not answer or the disk is too full.`;
  static override examples = [
    "<%= config.bin %> <%= command.id %> org/image:tag",
    "<%= config.bin %> <%= command.id %> registry.example/image:1 --registry work --json",
  ];
  static override args = {
    ref: Args.string({ description: "name of the image", required: true, ignoreStdin: true }),
  };
  static override flags = {
    registry: Flags.string({
      summary: "Stored login to use; by default the one of its registry",
      helpValue: "NAME",
    }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(ImagePull);
    const { client } = this.connect(flags);
    const progress = await this.openProgress();
    const registry = flags.registry === undefined ? {} : { registry: flags.registry };
    const image = await client.pullImage({ reference: args.ref, ...registry }, progress.step);
    progress.done();
    for (const warning of image.warnings) talk(`warning: ${sanitizeLine(warning)}`);
    this.answer(image, () =>
      formatFacts([
        ["image", image.image],
        ["id", image.id],
        ["size", formatSize(image.bytes)],
      ]),
    );
  }
}
