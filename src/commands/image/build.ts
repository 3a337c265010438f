import { Args, Flags } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { formatFacts } from "../../cli/facts.ts";
import { talk } from "../../cli/output.ts";
import { sendFolder } from "../../cli/send-project.ts";
import { sanitizeLine } from "../../text/sanitize.ts";
import { formatSize } from "../../text/size.ts";

export default class ImageBuild extends BaseCommand {
  static override summary = "Build an image of a folder";
  static override description =
    `The folder is sent to the daemon, .dockerignore decides what of it. It is built by its Dockerfile; without one, a Dockerfile is generated for its handler: packages of requirements.txt or package.json first, then the code.
A folder that has not changed is not built again. Needs a key of scope admin, because the name may be one that others use.
Exits 2 when the build fails, with its last lines, 9 when no engine answers.`;
  static override examples = [
    "<%= config.bin %> <%= command.id %> .",
    "<%= config.bin %> <%= command.id %> ./worker --tag registry.example/worker:1 --push",
    "<%= config.bin %> <%= command.id %> ./worker --json",
  ];
  static override args = {
    dir: Args.string({
      description: "folder with a Dockerfile or a handler",
      default: ".",
      ignoreStdin: true,
    }),
  };
  static override flags = {
    tag: Flags.string({
      char: "t",
      summary: "Name of the image; by default the folder's, or the one in rpx.toml",
      helpValue: "REF",
    }),
    push: Flags.boolean({ summary: "Send it to the registry that its name says" }),
    registry: Flags.string({
      summary: "Stored login to use; by default the one of that registry",
      helpValue: "NAME",
    }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(ImageBuild);
    const { client } = this.connect(flags);
    const progress = await this.openProgress();
    const { loadImageSource } = await import("../../project/image-source.ts");
    const { folder, name, dockerfile, handler, base } = await loadImageSource(args.dir);
    const digest = await sendFolder(client, folder, progress, dockerfile === null ? [] : [dockerfile]);
    const request = {
      digest,
      tag: flags.tag ?? `${name}:latest`,
      push: flags.push,
      ...(handler === null ? {} : { handler }),
      ...(dockerfile === null ? {} : { dockerfile }),
      ...(base === null ? {} : { base }),
      ...(flags.registry === undefined ? {} : { registry: flags.registry }),
    };
    const image = await client.buildImage(request, progress.step);
    progress.done();
    for (const warning of image.warnings) talk(`warning: ${sanitizeLine(warning)}`);
    this.answer(image, () =>
      formatFacts([
        ["image", image.reference],
        ["id", image.id],
        ["size", formatSize(image.bytes)],
        ["pushed", image.pushed ?? undefined],
      ]),
    );
  }
}
