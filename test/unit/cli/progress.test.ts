import { expect, test } from "vitest";
import { withBar } from "../../../src/cli/progress.ts";

test.each([
  [undefined, "text"],
  [Number.NaN, "text"],
  [0, "░░░░░░░░░░░░░░░░░░░░   0 % text"],
  [50, "██████████░░░░░░░░░░  50 % text"],
  [99.9, "███████████████████░  99 % text"],
  [250, "████████████████████ 100 % text"],
])("withBar: %s", (percent, shown) => expect(withBar("text", percent)).toBe(shown));
