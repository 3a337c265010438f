import { BaseCommand } from "../../cli/base-command.ts";
import { readContexts } from "../../cli/contexts.ts";
import { formatTable } from "../../text/format.ts";

export default class ContextList extends BaseCommand {
  static override summary = "List the daemons that have a name";
  static override description =
    "The current one is marked. Without a current one the daemon of this user is used.";
  static override examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> --json",
  ];

  async run(): Promise<void> {
    await this.parse(ContextList);
    const { current, contexts } = readContexts();
    const list = Object.entries(contexts).map(([name, { url, key }]) => ({
      name,
      url,
      current: name === current,
      hasKey: key !== undefined,
    }));
    this.answer(list, () => (list.length === 0 ? "no contexts" : table(list)));
  }
}

type Row = {
  readonly name: string;
  readonly url: string;
  readonly current: boolean;
  readonly hasKey: boolean;
};

function table(rows: readonly Row[]): string {
  return formatTable(
    [{ title: "" }, { title: "NAME" }, { title: "URL" }, { title: "KEY" }],
    rows.map(({ name, url, current, hasKey }) => [current ? "*" : "", name, url, hasKey ? "yes" : "no"]),
  );
}
