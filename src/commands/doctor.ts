import { BaseCommand } from "../cli/base-command.ts";
import { type Diagnosis, diagnose } from "../cli/doctor.ts";
import { ShownError } from "../cli/errors.ts";
import { terminalWidth } from "../cli/output.ts";
import { exitCode } from "../contract/error.ts";
import { formatTable } from "../text/format.ts";

export default class Doctor extends BaseCommand {
  static override summary = "Check what rpx needs, and show each setting with its source";
  static override description =
    "Looks at Node, SQLite, python3, Docker (its version, and what it can hold workers to), the data directory and the daemon. Exits 0 unless something is broken; then with the code of the first broken thing (4 permissions, 5 daemon unreachable, ...).";
  static override examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> --json",
  ];

  async run(): Promise<void> {
    const { flags } = await this.parse(Doctor);
    const diagnosis = await diagnose(flags);
    this.answer({ ok: firstBroken(diagnosis) === undefined, ...diagnosis }, () => describe(diagnosis));
    const worst = firstBroken(diagnosis);
    if (worst !== undefined) throw new ShownError(exitCode(worst.code ?? "internal"));
  }
}

function firstBroken({ checks }: Diagnosis): Diagnosis["checks"][number] | undefined {
  return checks.find(({ state }) => state === "broken");
}

function describe({ checks, settings }: Diagnosis): string {
  const found = formatTable(
    [{ title: "CHECK" }, { title: "STATE" }, { title: "FOUND" }],
    checks.map(({ name, state, detail, hint }) => [
      name,
      state,
      hint === undefined ? detail : `${detail}; try: ${hint}`,
    ]),
  );
  const width = terminalWidth();
  const values = formatTable(
    [{ title: "SETTING" }, { title: "FROM" }, { title: "VALUE" }],
    settings.map(({ name, value, from }) => [name, from, value]),
    width === undefined ? {} : { width },
  );
  return settings.length === 0 ? found : `${found}\n\n${values}`;
}
