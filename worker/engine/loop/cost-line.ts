/** The time of a run as a constant part and a part for each of its rows: the line of least squares through the latest runs. */
import { RunningMean } from "../decode/draft.ts";

const ROW_SHARE = 0.1;
/** How much this expectation weighs: as many runs whose counts of rows have this variance. */
const PRIOR_VARIANCE = 1;

export class CostLine {
  readonly #ms = new RunningMean(1, 0);
  readonly #rows = new RunningMean(1, 0);
  readonly #rowsSquared = new RunningMean(1, 0);
  readonly #product = new RunningMean(1, 0);

  record({ ms, rows }: { readonly ms: number; readonly rows: number }): void {
    this.#ms.observe(ms);
    this.#rows.observe(rows);
    this.#rowsSquared.observe(rows * rows);
    this.#product.observe(rows * ms);
  }

  /** Milliseconds of a run without rows, and of each row. */
  get line(): { readonly runMs: number; readonly rowMs: number } {
    const [ms, rows] = [this.#ms.value, this.#rows.value];
    const variance = this.#rowsSquared.value - rows * rows;
    const covariance = this.#product.value - rows * ms;
    // Before runs of different sizes were seen, a row is taken to be a small part of the run.
    const expected = (ROW_SHARE * ms) / (1 + ROW_SHARE * rows);
    const slope = (covariance + PRIOR_VARIANCE * expected) / (variance + PRIOR_VARIANCE);
    const rowMs = Math.min(Math.max(0, slope), ms / Math.max(1, rows));
    return { runMs: ms - rowMs * rows, rowMs };
  }
}
