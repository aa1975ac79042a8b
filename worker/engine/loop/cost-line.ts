/** The time of a run as a constant part and a part for each of its rows: the line of least squares through the latest runs. */
import { RunningMean } from "../decode/draft.ts";

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
    // With runs of about one size the slope is unknown: a row is then taken to be a small part of the run.
    const slope = variance > 0.2 ? covariance / variance : 0.1 * (ms / (1 + 0.1 * rows));
    const rowMs = Math.min(Math.max(0, slope), ms / Math.max(1, rows));
    return { runMs: ms - rowMs * rows, rowMs };
  }
}
