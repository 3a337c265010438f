import { z } from "zod";
import { NAME_PATTERN } from "./endpoint.ts";

/** Longer is no password or token of any registry. */
const MAX_PASSWORD_CHARACTERS = 16 * 1024;

/** PUT /api/registries/{registry}. */
export const setRegistrySchema = z.strictObject({
  server: z.string().min(1).max(255).describe("host and port: docker.io, ghcr.io, registry.example:5000"),
  username: z.string().min(1).max(255),
  password: z
    .string()
    .min(1, "a password is not empty")
    .max(MAX_PASSWORD_CHARACTERS)
    .describe("No answer ever holds it."),
});
export type SetRegistry = z.infer<typeof setRegistrySchema>;

export const registrySchema = z.object({
  name: z.string().regex(NAME_PATTERN),
  server: z.string(),
  username: z.string(),
  createdAt: z.string(),
  updatedAt: z.string(),
  endpoints: z.array(z.string()).describe("names of the endpoints whose live release uses it"),
});
export type RegistryBody = z.infer<typeof registrySchema>;

export const storedRegistrySchema = registrySchema.extend({ outcome: z.enum(["created", "changed"]) });
export type StoredRegistry = z.infer<typeof storedRegistrySchema>;

export const removedRegistrySchema = registrySchema.extend({ removed: z.literal(true) });
export type RemovedRegistry = z.infer<typeof removedRegistrySchema>;
