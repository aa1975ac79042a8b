/** How often drafters are right, how often a base is asked again, and the time of a draft. */
import { RunningMean } from "../decode/draft.ts";
import { DraftMargins } from "./draft-margins.ts";

/** As so many observations counts what other sequences have seen. */
const PRIOR = 8;

/** Rows with lifted tokens (remote-proposal.ts), and others. Those of streams have none. */
export type ListKind = "lifted" | "plain";

const EXPECTED = {
  expert: { value: 0.6 },
  base: { value: 0.6 },
  lookup: { value: 0.5 },
  baseOnly: { value: 0.2 },
  asks: { lifted: { value: 0.03 }, plain: { value: 0.1 } },
  draftMs: { value: 0 },
  margins: null,
};

export class DraftStatistics {
  /** How often each drafter's token is the output's. */
  readonly expert: RunningMean;
  readonly base: RunningMean;
  readonly lookup: RunningMean;
  /** How often the base's token is right, and the expert's is not. */
  readonly baseOnly: RunningMean;
  /** How often the base is asked again about a position. */
  readonly asks: Readonly<Record<ListKind, RunningMean>>;
  /** Time of one draft of the expert, with the pair's other model. */
  readonly draftMs: RunningMean;
  /** How often the expert's token is the output's, by how far it won. */
  readonly margins: DraftMargins;

  /** @param other what is expected before anything is seen */
  constructor(other: DraftStatistics | typeof EXPECTED = EXPECTED) {
    const mean = ({ value }: { readonly value: number }) => new RunningMean(value, PRIOR);
    const { asks, draftMs, margins } = other;
    this.expert = mean(other.expert);
    this.base = mean(other.base);
    this.lookup = mean(other.lookup);
    this.baseOnly = mean(other.baseOnly);
    this.asks = { lifted: mean(asks.lifted), plain: mean(asks.plain) };
    this.margins = new DraftMargins(margins, PRIOR);
    this.draftMs = new RunningMean(draftMs.value, draftMs.value > 0 ? 1 : 0);
  }
}
