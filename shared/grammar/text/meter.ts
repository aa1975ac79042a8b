/** Counts the steps of one part of a response format. */
import type { Rules } from "../rules/expressions.ts";
import type { Path } from "../rules/grammar-error.ts";

export interface Meter {
  /** Keys from the top of the format to the part. */
  readonly path: Path;
  /** @throws GrammarError if the format's budget is exceeded */
  spend(steps: number): void;
}

export const meterOf = (rules: Rules, path: Path): Meter => ({
  path,
  spend: (steps) => rules.spend(steps, path),
});
