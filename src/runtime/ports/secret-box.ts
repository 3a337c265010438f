/**
 * Short texts as they may lie on a disk: encrypted with a key of this data directory, and protected against change. A `context`
 * says what a text is and whose ("secret:OWNER:NAME"): it is not stored, and a sealed text opens with its own only, so that one
 * cannot be moved to another's place.
 */
export type SecretBox = {
  /** The sealed form of a text of at most MAX_SEALED_TEXT_BYTES, new each time. Makes the key where there is none. */
  seal(text: string, context: string): string;
  /**
   * The text again. An RpxError where the key is missing or is not the one that sealed it, and where the sealed form was changed or
   * belongs to another context.
   */
  open(sealed: string, context: string): string;
};

/** Most bytes (UTF-8) of a text: a certificate chain with its key, and half of what Linux lets one variable of an environment hold. */
export const MAX_SEALED_TEXT_BYTES = 64 * 1024;
