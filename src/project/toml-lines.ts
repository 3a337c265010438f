/** Where things stand in a TOML text: the parser gives values without places, and an error without its line is half an error. */

const HEADER = /^\s*\[\[?\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$/;
const ASSIGNMENT =
  /^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=(.*)$/;
const KEY_PART = /[A-Za-z0-9_-]+|"([^"]*)"|'([^']*)'/g;
const MULTI_LINE = ['"""', "'''"] as const;

/**
 * The line (from 1) that sets the key at `path`, else the line of the nearest table above it, else null. Keys inside inline
 * tables are found at the line of the table.
 */
export function lineOfKey(toml: string, path: readonly string[]): number | null {
  const places = keyPlaces(toml);
  for (let length = path.length; length > 0; length -= 1) {
    const line = places.get(placeKey(path.slice(0, length)));
    if (line !== undefined) return line;
  }
  return null;
}

function keyPlaces(toml: string): Map<string, number> {
  const places = new Map<string, number>();
  let table: readonly string[] = [];
  let openString: string | null = null;
  for (const [index, line] of toml.split("\n").entries()) {
    if (openString !== null) {
      if (line.includes(openString)) openString = null;
      continue;
    }
    const header = HEADER.exec(line)?.[1];
    const assignment = header === undefined ? ASSIGNMENT.exec(line) : null;
    if (header !== undefined) table = keyParts(header);
    const path = assignment === null ? table : [...table, ...keyParts(assignment[1] ?? "")];
    if (header !== undefined || assignment !== null) remember(places, path, index + 1);
    openString = opensString(assignment?.[2] ?? "");
  }
  return places;
}

/** The first place wins, for the key and for every table that it makes on its way. */
function remember(places: Map<string, number>, path: readonly string[], line: number): void {
  for (let length = 1; length <= path.length; length += 1) {
    const key = placeKey(path.slice(0, length));
    if (!places.has(key)) places.set(key, line);
  }
}

function keyParts(text: string): string[] {
  return [...text.matchAll(KEY_PART)].map((match) => match[1] ?? match[2] ?? match[0]);
}

function opensString(value: string): string | null {
  const mark = MULTI_LINE.find((quotes) => value.trimStart().startsWith(quotes));
  return mark !== undefined && value.split(mark).length === 2 ? mark : null;
}

function placeKey(path: readonly string[]): string {
  return JSON.stringify(path);
}
