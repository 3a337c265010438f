import { Args } from "@oclif/core";
import { BaseCommand } from "../../cli/base-command.ts";
import { diffText } from "../../cli/diff-text.ts";
import { findEndpoint } from "../../cli/find.ts";
import { RpxError } from "../../contract/error.ts";

export default class EndpointDiff extends BaseCommand {
  static override summary = "Show what a release changed";
  static override description =
    `Field by field, against the release that served when it was made. Without VERSION: the release that is on its way, else the one that serves.
Values of env are hidden; --json has them. Exits 3 when there is no such endpoint or release.`;
  static override examples = [
    "<%= config.bin %> <%= command.id %> hello",
    "<%= config.bin %> <%= command.id %> hello 3 --json",
  ];
  static override args = {
    endpoint: Args.string({ description: "name or id of the endpoint", required: true, ignoreStdin: true }),
    version: Args.string({ description: "version of the release", ignoreStdin: true }),
  };

  async run(): Promise<void> {
    const { args, flags } = await this.parse(EndpointDiff);
    const asked = args.version === undefined ? undefined : readVersion(args.version);
    const connection = this.connect(flags);
    const endpoint = await findEndpoint(connection, args.endpoint);
    const shown = asked ?? endpoint.candidateRelease ?? endpoint.release;
    const { version, source, state, diff } = await connection.client.release(endpoint.id, shown);
    this.answer({ version, source, state, diff }, () => diffText({ version, source, state, diff }));
  }
}

function readVersion(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new RpxError("usage", `"${text}" is no version of a release`, {
    why: "versions are whole numbers from 1 on",
  });
}
