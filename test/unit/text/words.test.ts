import { expect, test } from "vitest";
import { splitWords } from "../../../src/text/words.ts";

test.each<[string, string[] | null]>([
  ["", []],
  ["  ", []],
  ["python -u handler.py", ["python", "-u", "handler.py"]],
  [" a\t b\nc ", ["a", "b", "c"]],
  [`sh -c 'echo "a b"'`, ["sh", "-c", 'echo "a b"']],
  [String.raw`sh -c "say \"hi\" \\ C:\dir"`, ["sh", "-c", String.raw`say "hi" \ C:\dir`]],
  [String.raw`a\ b 'c\d'`, ["a b", String.raw`c\d`]],
  [`--x='a'"b"c`, ["--x=abc"]],
  [`''`, [""]],
  ["'open", null],
  ['"open', null],
  ["end\\", null],
  ["x".repeat(32_769), null],
])("%j", (text, words) => {
  expect(splitWords(text)).toEqual(words);
});
