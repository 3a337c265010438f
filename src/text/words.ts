/** Characters: longer than any command line has reason to be. */
const MAX_LENGTH = 32_768;

/**
 * The words of a text as a shell splits them, without expanding anything: blanks separate, '…' keeps all as it is, "…" keeps all but
 * an escaped quote or backslash, and a backslash keeps the character behind it. Null where a quote is not closed, where a backslash ends
 * the text, or where it is too long.
 */
export function splitWords(text: string): string[] | null {
  if (text.length > MAX_LENGTH) return null;
  const words: string[] = [];
  let word: string | null = null;
  let quote: string | null = null;
  for (let at = 0; at < text.length; at += 1) {
    const char = text[at] ?? "";
    if (char === "\\" && (quote === null || (quote === '"' && /["\\]/.test(text[at + 1] ?? "")))) {
      at += 1;
      if (at === text.length) return null;
      word = (word ?? "") + (text[at] ?? "");
    } else if (char === quote) quote = null;
    else if (quote === null && (char === "'" || char === '"')) {
      quote = char;
      word ??= "";
    } else if (quote === null && /\s/.test(char)) {
      if (word !== null) words.push(word);
      word = null;
    } else word = (word ?? "") + char;
  }
  if (quote !== null) return null;
  return word === null ? words : [...words, word];
}
