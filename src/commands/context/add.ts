import { Args, Flags } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { addContext, CONTEXT_NAME } from "../../cli/contexts.ts";
import { readStdin } from "../../cli/job-input.ts";
import { checkUrl, readKeyFile } from "../../cli/settings.ts";
import { RpxError } from "../../contract/error.ts";

export default class ContextAdd extends BaseCommand {
  static override summary = "Give a daemon a name";
  static override description =
    "An existing name is replaced. The key is read from a file that only this user can read, or with - from standard input, never from the command line. Exits 4 for a key file that others can read.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> lab --url http://lab:7790 --key-file ~/lab.key --use",
    "echo $LAB_KEY | <%= config.bin %> <%= command.id %> lab --url http://lab:7790 --key-file -",
  ];
  static override args = {
    name: Args.string({
      description: "name of the context: a-z, 0-9 and -",
      required: true,
      ignoreStdin: true,
    }),
  };
  static override flags = {
    url: Flags.string({ summary: "Address of the daemon", required: true, helpValue: "URL" }),
    "key-file": Flags.string({
      summary: "File with its key (mode 0600), or - for standard input",
      helpValue: "FILE",
    }),
    use: Flags.boolean({ summary: "Make it the current context" }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(ContextAdd);
    if (!CONTEXT_NAME.test(args.name)) {
      throw new RpxError("usage", `"${args.name}" cannot name a context`, {
        why: "a name has 1 to 63 of a-z, 0-9 and -, and does not begin with -",
      });
    }
    const url = checkUrl(flags.url, "--url");
    const key = flags["key-file"] === undefined ? undefined : await readKey(flags["key-file"]);
    await addContext(args.name, key === undefined ? { url } : { url, key }, { use: flags.use });
    const answer = { name: args.name, url, hasKey: key !== undefined };
    this.answer(answer, () => `context ${args.name} is ${url}`);
  }
}

async function readKey(file: string): Promise<string> {
  const key = file === "-" ? (await readStdin()).trim() : readKeyFile(file);
  if (key) return key;
  throw new RpxError("usage", file === "-" ? "standard input has no key" : `there is no key in ${file}`);
}
