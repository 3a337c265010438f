/** Characters: longer words get no suggestion, which bounds the work to 64 x 64 steps a candidate. */
const MAX_WORD_LENGTH = 64;

/**
 * The candidate nearest to a mistyped word, for "did you mean": at most one edit away for words of up to three letters, two up to
 * eight, three beyond. More would propose `idle_timeout` for `exec_timeout`. Insertions, deletions, substitutions and swaps of
 * neighbours count one; letter case counts nothing. The first of equals wins; null when none is near.
 */
export function closest(word: string, candidates: readonly string[]): string | null {
  const typed = word.toLowerCase();
  if (typed.length === 0 || typed.length > MAX_WORD_LENGTH) return null;
  let best: string | null = null;
  let limit = typed.length <= 3 ? 1 : typed.length < 9 ? 2 : 3;
  for (const candidate of candidates) {
    if (Math.abs(candidate.length - typed.length) > limit) continue;
    const distance = editDistance(typed, candidate.toLowerCase());
    if (distance > limit) continue;
    best = candidate;
    limit = distance - 1; // a later one must be nearer
  }
  return best;
}

/** Damerau-Levenshtein distance in its restricted form (optimal string alignment): no piece is edited twice. */
function editDistance(from: string, to: string): number {
  let beforePrevious: number[] = [];
  let previous = Array.from({ length: to.length + 1 }, (_, column) => column);
  for (let row = 1; row <= from.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= to.length; column += 1) {
      const substitution = (previous[column - 1] ?? 0) + (from[row - 1] === to[column - 1] ? 0 : 1);
      const removal = (previous[column] ?? 0) + 1;
      const insertion = (current[column - 1] ?? 0) + 1;
      const swaps = row > 1 && from[row - 1] === to[column - 2] && from[row - 2] === to[column - 1];
      const swap = swaps ? (beforePrevious[column - 2] ?? 0) + 1 : Number.POSITIVE_INFINITY;
      current.push(Math.min(substitution, removal, insertion, swap));
    }
    beforePrevious = previous;
    previous = current;
  }
  return previous[to.length] ?? 0;
}
