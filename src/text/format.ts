import { sanitizeLine } from "./sanitize.ts";
import { displayWidth, padEnd, padStart, truncate } from "./width.ts";

/** A column of a table: its title and on which side its cells stand (left unless told). */
export type TableColumn = { readonly title: string; readonly align?: "left" | "right" };

const GUTTER = "  ";

/**
 * A plain table: titles, then one line a row, without a final line break. Cells are untrusted and pass {@link sanitizeLine};
 * a missing cell is empty. `width`: terminal columns to which the last column is cut; the others are never cut.
 */
export function formatTable(
  columns: readonly TableColumn[],
  rows: readonly (readonly string[])[],
  options: { readonly width?: number } = {},
): string {
  const lines = [columns.map(({ title }) => title), ...rows].map((cells) =>
    columns.map((_, index) => sanitizeLine(cells[index] ?? "")),
  );
  const fitted = options.width === undefined ? lines : cutLastColumn(lines, options.width);
  const widths = columnWidths(fitted);
  return fitted.map((cells) => formatLine(cells, columns, widths)).join("\n");
}

function columnWidths(lines: readonly (readonly string[])[]): number[] {
  const widths: number[] = [];
  for (const cells of lines) {
    for (const [index, cell] of cells.entries()) {
      widths[index] = Math.max(widths[index] ?? 0, displayWidth(cell));
    }
  }
  return widths;
}

/** Leaves the last column at least one column of the terminal: an ellipsis says that something is there. */
function cutLastColumn(lines: readonly (readonly string[])[], width: number): string[][] {
  const before = columnWidths(lines.map((cells) => cells.slice(0, -1)));
  const left = width - before.reduce((sum, columnWidth) => sum + columnWidth + GUTTER.length, 0);
  return lines.map((cells) => [
    ...cells.slice(0, -1),
    ...cells.slice(-1).map((cell) => truncate(cell, Math.max(1, left))),
  ]);
}

function formatLine(
  cells: readonly string[],
  columns: readonly TableColumn[],
  widths: readonly number[],
): string {
  const padded = cells.map((cell, index) => {
    const pad = columns[index]?.align === "right" ? padStart : padEnd;
    return pad(cell, widths[index] ?? 0);
  });
  return padded.join(GUTTER).trimEnd();
}

/** How long ago, in the largest whole unit, never rounded up: `12s`, `5m`, `3h`, `2d`. A negative age is `0s`. */
export function formatAge(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3_600)}h`;
  return `${Math.floor(seconds / 86_400)}d`;
}

/** A count for a narrow column: exact below ten thousand, then `12.3k`, `4.5M`, `6.7G`, never rounded up. */
export function formatCount(count: number): string {
  if (count < 10_000) return String(count);
  const [size, suffix] = count < 1e6 ? [1e3, "k"] : count < 1e9 ? [1e6, "M"] : [1e9, "G"];
  return `${Math.floor(count / (size / 10)) / 10}${suffix}`;
}
