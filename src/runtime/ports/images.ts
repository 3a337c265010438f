/** A registry's login, opened: handed to the engine with a pull or push, never shown, logged or stored in this form. */
export type RegistryLogin = {
  readonly name: string;
  /** Host and port. */
  readonly server: string;
  readonly username: string;
  readonly password: string;
};
