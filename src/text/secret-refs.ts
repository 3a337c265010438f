/** Names of secrets as RunPod's console takes them: letters, digits, _ and -. Upper and lower case differ. */
export const SECRET_NAME_PATTERN = /^[A-Za-z0-9_][A-Za-z0-9_-]{0,62}$/;

/** A value that is a secret as a whole. */
const WHOLE = "secret:";
/** A secret inside a value, as RunPod writes it. */
const INSIDE = /\{\{[ \t]*RUNPOD_SECRET_([A-Za-z0-9_][A-Za-z0-9_-]{0,62})[ \t]*\}\}/g;

/** The secrets that a value asks for, in order: what follows `secret:`, or each `{{ RUNPOD_SECRET_name }}`. */
export function secretNames(value: string): string[] {
  if (value.startsWith(WHOLE)) return [value.slice(WHOLE.length)];
  return [...value.matchAll(INSIDE)].map((match) => match[1] ?? "");
}

/** The value with its secrets in their places. They are not looked at again: a secret cannot ask for another. */
export function fillSecrets(value: string, secretOf: (name: string) => string): string {
  if (value.startsWith(WHOLE)) return secretOf(value.slice(WHOLE.length));
  return value.replace(INSIDE, (_, name: string) => secretOf(name));
}
