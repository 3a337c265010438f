import type { ErrorCode } from "../contract/error.ts";

/** One thing that was looked at. `code` says with which error a broken one ends the command. */
export type Check = {
  readonly name: string;
  readonly state: "ok" | "note" | "broken";
  readonly detail: string;
  readonly hint?: string;
  readonly code?: ErrorCode;
};
