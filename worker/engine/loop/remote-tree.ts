/**
 * The rows of one call, and which of them belong to the output. Branch i continues the context by the first i drafts; its rows
 * follow the base's own continuation from there. A branch without a stream has one row. At each position the output agrees
 * with some branches, and any of these has the row. A stream with a lead has one branch, which begins with the lead.
 */
import type { CallReason } from "../../engine-client/messages.ts";
import type { StreamedRow, StreamQuery } from "../remote/api.ts";
import type { BaseRow } from "../remote/base-row.ts";

interface Branch {
  readonly rows: BaseRow[];
  /** The base's own tokens, one after each row; empty without a stream. */
  readonly tokens: number[];
  /** Whether the output agrees with the branch so far. */
  isLive: boolean;
}

export class RowTree {
  readonly #drafts: readonly number[];
  readonly #branches: readonly Branch[];
  /** Most rows of a branch. */
  readonly #length: number;
  /** Tokens of a branch that are not the base's own. */
  readonly #leadLength: number;
  /** Tokens of the output since the call. */
  #taken = 0;
  /** The row of this position after it was asked again. */
  #fuller: BaseRow | null = null;
  /** Whether more rows may come. */
  isOpen: boolean;
  readonly #isStream: boolean;

  private constructor(drafts: readonly number[], length: number, isOpen: boolean, leadLength = 0) {
    this.#drafts = drafts;
    this.#length = length;
    this.#leadLength = leadLength;
    this.isOpen = isOpen;
    this.#isStream = isOpen;
    this.#branches = Array.from({ length: drafts.length + 1 }, () => ({
      rows: [],
      tokens: [],
      isLive: true,
    }));
  }

  static ofRows(drafts: readonly number[], rows: readonly BaseRow[]): RowTree {
    const tree = new RowTree(drafts, 1, false);
    for (const [i, row] of rows.entries()) tree.#branches[i]!.rows.push(row);
    return tree;
  }

  static ofStream({ drafts, lead, tokens }: StreamQuery): RowTree {
    return new RowTree(drafts, tokens, true, lead.length);
  }

  add({ branch, row, token }: StreamedRow): void {
    const { rows, tokens } = this.#branches[branch]!;
    rows.push(row);
    tokens.push(token);
  }

  /** Whether the row of the position has come for which the call was made. */
  get hasFirstRow(): boolean {
    return this.#branches[0]!.rows.length > 0;
  }

  /** Whether all rows of the call have come. */
  get isComplete(): boolean {
    return this.#branches.every(({ rows }) => rows.length === this.#length);
  }

  /** The row of the position; null if it has not arrived. */
  get row(): BaseRow | null {
    return (
      this.#fuller ??
      this.#current?.rows[this.#taken - this.#branches.indexOf(this.#current)] ??
      null
    );
  }

  /** The base's own token at the position, if it has streamed one. */
  get baseToken(): number | null {
    if (this.#taken < this.#leadLength) return null;
    const branch = this.#current;
    return branch?.tokens[this.#taken - this.#branches.indexOf(branch)] ?? null;
  }

  /** Whether the row of the position is there or may come. */
  get isUseful(): boolean {
    if (this.row) return true;
    return (
      this.isOpen &&
      this.#branches.some(
        ({ isLive }, i) => isLive && i <= this.#taken && this.#taken - i < this.#length,
      )
    );
  }

  /** How many rows are still to come if the output has this token at the position; 0 if none of them would be its own. */
  rowsToCome(token: number): number {
    if (!this.isOpen) return 0;
    const rows = this.#branches.map((branch, i) =>
      branch.isLive && this.#expected(branch, i) === token ? this.#length - branch.rows.length : 0,
    );
    return Math.max(...rows);
  }

  /** Why another call is needed. */
  get reason(): CallReason {
    if (this.#isStream) return this.isOpen && !this.isComplete ? "streamLeft" : "streamEnded";
    if (this.#drafts.length === 0) return "undrafted";
    return this.#taken > this.#drafts.length ? "used" : "rejected";
  }

  /** The position's row after more was asked about it. */
  replaceRow(row: BaseRow): void {
    this.#fuller = row;
  }

  /** The output has this token at the position. */
  advance(token: number): void {
    for (const [i, branch] of this.#branches.entries()) {
      if (this.#expected(branch, i) !== token) branch.isLive = false;
    }
    this.#taken++;
    this.#fuller = null;
  }

  /** The token of branch i at the position; undefined if it is not known. */
  #expected({ tokens }: Branch, i: number): number | undefined {
    const at = this.#taken;
    return at < i ? this.#drafts[at] : tokens[at - i];
  }

  /** A branch with the row of the position. */
  get #current(): Branch | undefined {
    return this.#branches.find(
      ({ isLive, rows }, i) => isLive && i <= this.#taken && rows.length > this.#taken - i,
    );
  }
}
