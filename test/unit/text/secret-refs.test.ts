import { describe, expect, test } from "vitest";
import { fillSecrets, SECRET_NAME_PATTERN, secretNames } from "../../../src/text/secret-refs.ts";

const upper = (name: string) => `<${name.toUpperCase()}>`;

test.each([
  ["secret:hf_token", ["hf_token"], "<HF_TOKEN>"],
  ["secret:HF-Token", ["HF-Token"], "<HF-TOKEN>"],
  ["{{ RUNPOD_SECRET_hf_token }}", ["hf_token"], "<HF_TOKEN>"],
  ["{{RUNPOD_SECRET_a}}/{{\tRUNPOD_SECRET_b-1  }}", ["a", "b-1"], "<A>/<B-1>"],
  ["postgres://u:{{ RUNPOD_SECRET_pw }}@host/db", ["pw"], "postgres://u:<PW>@host/db"],
  ["{{{ RUNPOD_SECRET_a }}}", ["a"], "{<A>}"],
  // Not asked for: another spelling, another place, nothing named.
  ["plain", [], "plain"],
  ["", [], ""],
  ["see secret:hf_token", [], "see secret:hf_token"],
  ["{{ runpod_secret_a }}", [], "{{ runpod_secret_a }}"],
  ["{{ RUNPOD_SECRET_ }}", [], "{{ RUNPOD_SECRET_ }}"],
  ["{{ RUNPOD_SECRET_a b }}", [], "{{ RUNPOD_SECRET_a b }}"],
  ["{ RUNPOD_SECRET_a }", [], "{ RUNPOD_SECRET_a }"],
  // Names that nobody can have set: the look-up says so.
  ["secret:", [""], "<>"],
  ["secret:{{ RUNPOD_SECRET_a }}", ["{{ RUNPOD_SECRET_a }}"], "<{{ RUNPOD_SECRET_A }}>"],
])("%j asks for %j", (value, names, filled) => {
  expect(secretNames(value)).toEqual(names);
  expect(fillSecrets(value, upper)).toBe(filled);
});

describe("a secret's own text", () => {
  test("is not looked at again", () => {
    const secrets: Record<string, string> = { a: "{{ RUNPOD_SECRET_b }}", b: "secret:a", c: "$& $1 $$" };
    const secretOf = (name: string) => secrets[name] ?? "";
    expect(fillSecrets("{{RUNPOD_SECRET_a}} {{RUNPOD_SECRET_b}}", secretOf)).toBe(
      "{{ RUNPOD_SECRET_b }} secret:a",
    );
    expect(fillSecrets("{{RUNPOD_SECRET_c}}", secretOf)).toBe("$& $1 $$");
    expect(fillSecrets("secret:a", secretOf)).toBe("{{ RUNPOD_SECRET_b }}");
  });
});

test("names", () => {
  for (const name of ["a", "HF_TOKEN", "_x", "9", "a-b", "x".repeat(63)])
    expect(name).toMatch(SECRET_NAME_PATTERN);
  for (const name of ["", "-a", "a b", "ä", "a.b", "../a", "x".repeat(64), "a\n"])
    expect(name).not.toMatch(SECRET_NAME_PATTERN);
});
