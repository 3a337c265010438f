/** What a figure is: two sides measured in turn, and the ratio that decides. */

export type Side = "rpx" | "peer";

/** One row of the table. Its ratio is rpx over peer. */
export type Row = {
  /** Distinguishes the rows of one figure; empty where there is one. */
  readonly name: string;
  readonly unit: string;
  /** Whether a larger or a smaller ratio is the better one. */
  readonly better: "higher" | "lower";
  readonly gate: number;
  readonly stretch: number;
};

export type Figure = {
  /** As in the goals: p1, p4 and so on. */
  readonly id: string;
  readonly title: string;
  /** What the other side is. */
  readonly peer: string;
  readonly rows: readonly Row[];
  /** What bounds the figure on any machine. */
  readonly limit: string;
  /** Installs and checks what the figure needs; a text says why it cannot be measured here. */
  readonly prepare: () => Promise<string | null>;
  /** One measurement of one side from nothing, with its own warm-up: a value for each row, in the order of `rows`. */
  readonly measure: (side: Side) => Promise<readonly number[]>;
};
