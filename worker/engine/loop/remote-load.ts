/**
 * The present speed of a remote base, measured on its calls and shared by all its sequences.
 *
 * A call takes a constant (network, one step of the server) and a part for each row that the server computes at the same time,
 * also those of other calls. So more rows in a call make the calls of all sequences slower, and a sequence that looked only at
 * its own calls would draft too much on a busy server.
 */
import { RunningMean } from "../decode/draft.ts";
import { CostLine } from "./cost-line.ts";
import { DraftStatistics } from "./draft-statistics.ts";

export class BaseLoad {
  /** Sequences that generate with the base. */
  sequences = 0;
  /** Of all its sequences: a new one begins with them. */
  readonly drafts = new DraftStatistics();
  #rowsNow = 0;
  readonly #calls = new CostLine();
  /** Time between two tokens of a stream. */
  readonly #streamedMs = new RunningMean(0, 0);
  /** Rows that a step of a stream had, with those of other calls. */
  readonly #streamedRows = new RunningMean(0, 0);

  /** A call begins. Returns the rows under way, those of the call included. */
  begin(rows: number): number {
    this.#rowsNow += rows;
    return this.#rowsNow;
  }

  end(rows: number): void {
    this.#rowsNow -= rows;
  }

  /** @param rowsAtOnce as `begin` has returned it */
  recordCall(ms: number, rowsAtOnce: number): void {
    this.#calls.record({ ms, rows: rowsAtOnce });
  }

  recordStep(ms: number): void {
    this.#streamedMs.observe(ms);
    this.#streamedRows.observe(this.#rowsNow);
  }

  /** Milliseconds of a call without rows, and of each row. */
  get call(): { readonly fixedMs: number; readonly rowMs: number } {
    const { runMs, rowMs } = this.#calls.line;
    return { fixedMs: runMs, rowMs };
  }

  /** Milliseconds of a stream's step without its rows; null before a stream was seen. */
  get stepMs(): number | null {
    const ms = this.#streamedMs.value;
    return ms === 0 ? null : Math.max(0, ms - this.call.rowMs * this.#streamedRows.value);
  }
}
