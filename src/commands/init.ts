import { basename, resolve } from "node:path";
import { Args, Flags } from "@oclif/core";
import { BaseCommand } from "../cli/base-command.ts";
import { talk } from "../cli/output.ts";
import { endpointNameFrom } from "../project/name.ts";
import { scaffold, writeNewFiles } from "../project/scaffold.ts";
import { sanitizeLine } from "../text/sanitize.ts";

export default class Init extends BaseCommand {
  static override summary = "Write a handler to begin with";
  static override description =
    "Writes a handler, rpx.toml with every key explained, test_input.json and .dockerignore. Files that are there stay.";
  static override examples = [
    "<%= config.bin %> init hello",
    "<%= config.bin %> init hello --lang node",
    "<%= config.bin %> init",
  ];
  static override args = {
    dir: Args.string({ description: "Folder, made when it is missing", default: "." }),
  };
  // Which daemon to talk to is no question here.
  static override baseFlags = {} as typeof BaseCommand.baseFlags;
  static override flags = {
    lang: Flags.option({ options: ["python", "node"] as const })({
      summary: "Language of the handler",
      default: "python",
      env: "RPX_LANG",
    }),
    force: Flags.boolean({ summary: "Replace files that are there" }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Init);
    const folder = resolve(args.dir);
    const files = scaffold({ name: endpointNameFrom(basename(folder)), language: flags.lang });
    await writeNewFiles(folder, files, { isForced: flags.force });
    const names = [...files.keys()];
    this.answer({ folder, files: names }, () =>
      names.map((name) => sanitizeLine(`${args.dir}/${name}`)).join("\n"),
    );
    talk(sanitizeLine(`next: rpx dev ${args.dir} --input '{"name": "Ada"}'`));
  }
}
