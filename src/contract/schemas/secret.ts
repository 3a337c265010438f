import { z } from "zod";
import { NAME_PATTERN } from "./endpoint.ts";

/** Most bytes of a value, as UTF-8: what fits into one variable of an environment, twice. */
export const MAX_SECRET_BYTES = 64 * 1024;

/** PUT /api/secrets/{name}. */
export const setSecretSchema = z.strictObject({
  value: z
    .string()
    .min(1, "a secret is not empty")
    .max(MAX_SECRET_BYTES)
    .refine((value) => !value.includes("\0"), "no variable can hold a NUL character")
    .describe(`At most ${MAX_SECRET_BYTES} bytes of UTF-8. No answer ever holds it.`),
  /** Whose it is; only an admin may name another than the key's own. */
  owner: z.string().regex(NAME_PATTERN).optional(),
});
export type SetSecret = z.infer<typeof setSecretSchema>;

export const secretSchema = z.object({
  name: z.string(),
  owner: z.string(),
  createdAt: z.string(),
  updatedAt: z.string(),
  endpoints: z.array(z.string()).describe("names of the endpoints whose variables or webhooks use it"),
});
export type SecretBody = z.infer<typeof secretSchema>;

/** `workers` were started before the change: they have the old value until they are replaced. */
export const storedSecretSchema = secretSchema.extend({
  outcome: z.enum(["created", "changed"]),
  workers: z.array(z.string()),
});
export type StoredSecret = z.infer<typeof storedSecretSchema>;

export const unsetSecretSchema = secretSchema.extend({ unset: z.literal(true) });
export type UnsetSecret = z.infer<typeof unsetSecretSchema>;
