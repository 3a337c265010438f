import { Args, Flags } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { talk } from "../../cli/output.ts";

export default class KeyCreate extends BaseCommand {
  static override summary = "Create an API key";
  static override description =
    `The key's text is printed on stdout, this once; the daemon keeps only its digest.
Scopes, each with the ones before it: read (status, stream, health, logs), run (submit, cancel, retry, purge), deploy (create and change endpoints), admin (keys, daemon).`;
  static override examples = [
    "<%= config.bin %> <%= command.id %> ci",
    "<%= config.bin %> <%= command.id %> ada --owner ada --scope deploy",
    "<%= config.bin %> <%= command.id %> app --endpoint hello --scope run --json",
  ];
  static override args = {
    name: Args.string({ description: "name of the key: a-z, 0-9 and -", required: true, ignoreStdin: true }),
  };
  static override flags = {
    owner: Flags.string({
      summary: "Whom it belongs to: owners see their own endpoints and jobs",
      helpValue: "OWNER",
    }),
    endpoint: Flags.string({
      summary: "An endpoint that it may use (repeatable)",
      multiple: true,
      multipleNonGreedy: true,
      helpValue: "EP",
    }),
    scope: Flags.string({ summary: "What it allows (run)", options: ["read", "run", "deploy", "admin"] }),
    "max-queued": Flags.integer({
      summary: "Most jobs that its owner may have waiting; 0: no limit",
      min: 0,
    }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(KeyCreate);
    const { client } = this.connect(flags);
    const key = await client.createKey({
      name: args.name,
      ...(flags.owner === undefined ? {} : { owner: flags.owner }),
      ...(flags.scope === undefined ? {} : { scope: flags.scope as Scope }),
      ...(flags.endpoint === undefined ? {} : { endpoints: flags.endpoint }),
      ...(flags["max-queued"] === undefined ? {} : { maxQueued: flags["max-queued"] }),
    });
    if (!this.jsonEnabled()) talk(`key ${key.name} (${key.scope}); its text is shown only now:`);
    this.answer(key, () => key.key);
  }
}

type Scope = "read" | "run" | "deploy" | "admin";
