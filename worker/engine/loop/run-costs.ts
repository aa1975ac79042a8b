/** Measured times: of the decoders' runs, by the number of tokens that they compute, and of choosing drafts. */
import { RunningMean } from "../decode/draft.ts";
import { hostOf, type Decoder } from "../decoder/decoder.ts";
import { CallCost, clipped } from "./call-cost.ts";

export class RunCosts {
  readonly #choosingMs = new RunningMean(0, 0);
  readonly #runs = new WeakMap<Decoder, CallCost>();

  /** Milliseconds of choosing one draft. */
  get choosingMs(): number {
    return this.#choosingMs.value;
  }

  /** A time counts as much as one of a run can: the first one is often too long. */
  recordChoosing(ms: number): void {
    this.#choosingMs.observe(clipped(ms, this.#choosingMs.value));
  }

  /** @param tokens of all sequences, padding included */
  record(decoder: Decoder, { ms, tokens }: { ms: number; tokens: number }): void {
    const host = hostOf(decoder);
    const cost = this.#runs.get(host) ?? new CallCost();
    this.#runs.set(host, cost);
    cost.record(ms, tokens);
  }

  /** Milliseconds of a run; null before the first run of the decoder. */
  runMs(decoder: Decoder, tokens: number): number | null {
    const cost = this.#runs.get(hostOf(decoder));
    return cost ? cost.fixedMs + cost.tokenMs * tokens : null;
  }
}
