/** The budget of one response format: each step of compiling it is counted before it is done. */
import { LIMITS } from "../../api/limits.ts";
import { BudgetError, type GrammarError } from "./grammar-error.ts";

/**
 * Steps are counted, not milliseconds, so that a format is accepted or refused alike on every machine, by the edge and by
 * the worker.
 */
export class Budget {
  #left: number = LIMITS.grammarStepsMax;
  /** Steps that a part must leave to others. */
  #withheld = 0;
  readonly #paths: (readonly string[])[] = [];
  /** Steps of each origin, to name the most expensive part. */
  readonly #spent: number[] = [];

  get used(): number {
    return LIMITS.grammarStepsMax - this.#left;
  }

  /** Registers a part of the format, by its keys from the top, as the origin of steps. @returns the origin's number */
  origin(path: readonly string[]): number {
    this.#spent.push(0);
    return this.#paths.push(path) - 1;
  }

  /** The keys from the top of the format to an origin. */
  pathOf(origin: number): readonly string[] {
    return this.#paths[origin] ?? [];
  }

  /** @throws GrammarError with the path of the most expensive part if the budget is exceeded */
  spend(steps: number, origin: number): void {
    this.#left -= steps;
    this.#spent[origin]! += steps;
    if (this.#left < this.#withheld) throw this.#exceeded();
  }

  /** Runs a part of the compilation that may use only some of the steps. @throws GrammarError as `spend` does */
  within<T>(stepsMax: number, run: () => T): T {
    const outer = this.#withheld;
    this.#withheld = Math.max(outer, this.#left - stepsMax);
    try {
      return run();
    } finally {
      this.#withheld = outer;
    }
  }

  #exceeded(): GrammarError {
    // There may be more origins than a call may have arguments.
    let worst = 0;
    for (const [origin, steps] of this.#spent.entries()) {
      if (steps > this.#spent[worst]!) worst = origin;
    }
    const message = `is too large or too ambiguous: compiling a response format may take ${LIMITS.grammarStepsMax} steps, and this part takes most of them`;
    return new BudgetError(this.pathOf(worst), message);
  }
}
