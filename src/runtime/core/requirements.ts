/** One `name[extras] specifier ; marker` of a requirements.txt. `name` is normalised as package indexes do it. */
export type PlainRequirement = { readonly name: string; readonly line: string };

export type Requirements = {
  readonly plain: readonly PlainRequirement[];
  /** Lines only pip understands: options, other files, paths, URLs. */
  readonly other: readonly string[];
};

const PLAIN = /^([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[[^\]]*\]\s*)?(?:[<>=!~;(].*)?$/;
const COMMENT = /(?:^|\s+)#.*$/;
/** `-r FILE`, `--requirement=FILE`, `-c FILE`, `--constraint FILE`. */
const INCLUDE = /^(?:-[rc]\s*|--(?:requirement|constraint)(?:\s+|=))(\S.*)$/;

/** Reads a requirements.txt as pip does: comments dropped, lines that end in a backslash joined. */
export function parseRequirements(text: string): Requirements {
  const plain: PlainRequirement[] = [];
  const other: string[] = [];
  for (const line of logicalLines(text)) {
    const name = PLAIN.exec(line)?.[1];
    if (name === undefined) other.push(line);
    else plain.push({ name: normalised(name), line });
  }
  return { plain, other };
}

/** The files that lines of {@link Requirements.other} include, as written. */
export function includedFiles(requirements: Requirements): string[] {
  return requirements.other.flatMap((line) => INCLUDE.exec(line)?.[1]?.trim() ?? []);
}

/** Whether there is nothing for pip to do. */
export function isEmpty({ plain, other }: Requirements): boolean {
  return plain.length === 0 && other.length === 0;
}

function logicalLines(text: string): string[] {
  const joined = text.replace(/^\uFEFF/, "").replaceAll(/\\\r?\n/g, " ");
  return joined
    .split(/\r?\n/)
    .map((line) => line.replace(COMMENT, "").trim())
    .filter((line) => line !== "");
}

/** One spelling per package: lower case, and a hyphen for each run of hyphens, dots and underscores. */
function normalised(name: string): string {
  return name.toLowerCase().replaceAll(/[-_.]+/g, "-");
}
