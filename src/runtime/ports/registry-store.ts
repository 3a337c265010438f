/** A login of an image registry: its password is stored sealed and never shown. */
export type Registry = {
  readonly name: string;
  /** Host and port. */
  readonly server: string;
  readonly username: string;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
};

/** Logins of image registries by name. Passwords come in sealed and go out sealed (ports/secret-box.ts); no journal row has one. */
export type RegistryStore = {
  setRegistry(
    registry: Pick<Registry, "name" | "server" | "username"> & { readonly sealed: string },
    maxRegistries: number,
    nowMs: number,
  ): Promise<"created" | "changed" | "too_many">;
  removeRegistry(name: string, nowMs: number): Promise<boolean>;
  /** In order of name. */
  registries(): readonly Registry[];
  sealed(name: string): string | null;
};
