/**
 * Models without graphs: the logits of a sequence are a function of its token ids. They record their calls, and throw if a
 * call is wrong: two runs at once, a closed sequence, rewinding more tokens than there are.
 */
import { GumbelNoise } from "../../worker/engine/decode/noise.ts";
import type { Decoder, DecodeInput, ScoreInput } from "../../worker/engine/decoder/decoder.ts";

/** [>= V] from all ids of a sequence. */
export type LogitsOf = (ids: readonly number[]) => Float32Array;

export interface FakeOptions {
  /** False for a model whose KV cache cannot rewind. */
  readonly canRewind?: boolean;
  /** Duration of a run on `fakeClock`, in ms. */
  readonly runMs?: number;
}

/** Replaces `performance.now()` in tests that mock it; runs of fake models advance it. */
export const fakeClock = { ms: 0 };

interface FakeSequence {
  readonly ids: number[];
}

export class FakeDecoder implements Decoder {
  readonly fallbackReason = null;
  readonly hasExactRows = false;
  readonly logitsWidth = null;
  readonly rewind: ((sequence: unknown, count: number) => void) | null;
  /** Token ids of each prefill, decode (one entry for each sequence) and score, in order. */
  readonly tokenRuns: number[][] = [];
  /** Token ids of each prefill (one entry for each sequence). */
  readonly prefilledTokens: number[][] = [];
  /** Number of sequences in each prefill. */
  readonly prefillSizes: number[] = [];
  /** Token ids of each score. */
  readonly scoredTokens: number[][] = [];
  /** Number of sequences in each decode. */
  readonly batchSizes: number[] = [];
  /** Sequences that were opened in all. */
  openedCount = 0;
  /** Length of the longest sequence ever, in tokens. */
  longestLength = 0;
  /** The KV row of a token is its id. */
  readonly kvRows: Decoder["kvRows"];
  readonly logitsOf: LogitsOf;
  readonly #runMs: number;
  readonly #open = new Set<unknown>();
  #isBusy = false;

  constructor(logitsOf: LogitsOf, { canRewind = true, runMs = 1 }: FakeOptions = {}) {
    this.logitsOf = logitsOf;
    this.#runMs = runMs;
    this.rewind = canRewind ? (sequence, count) => this.#rewind(sequence, count) : null;
    this.kvRows = {
      bytesPerToken: 1,
      read: (sequence, start, count) => {
        const ids = this.#idsOf(sequence).slice(start, start + count);
        if (ids.length < count) throw new Error(`cannot read ${count} rows from ${start}`);
        return new Map([["ids", Float32Array.from(ids)]]);
      },
      append: (sequence, blocks, count) => {
        const ids = this.#idsOf(sequence);
        for (const rows of blocks) ids.push(...rows.get("ids")!.subarray(0, count));
        this.longestLength = Math.max(this.longestLength, ids.length);
      },
    };
  }

  /** Sequences that are open now. */
  get openCount(): number {
    return this.#open.size;
  }

  /** A token takes one byte. */
  get cacheBytes(): number {
    return [...this.#open].reduce<number>(
      (sum, open) => sum + (open as FakeSequence).ids.length,
      0,
    );
  }

  cacheBytesFor(lengths: readonly number[]): number {
    return lengths.reduce((sum, length) => sum + length, 0);
  }

  open(): unknown {
    this.#assertIdle();
    this.openedCount++;
    const sequence: FakeSequence = { ids: [] };
    this.#open.add(sequence);
    return sequence;
  }

  close(sequence: unknown): void {
    this.#idsOf(sequence);
    this.#open.delete(sequence);
  }

  async prefill(sequence: unknown, ids: readonly number[]): Promise<void> {
    await this.#run(() => this.#append(sequence, ids));
    this.prefillSizes.push(1);
    this.prefilledTokens.push([...ids]);
    this.tokenRuns.push([...ids]);
  }

  async prefillAll(inputs: readonly ScoreInput<unknown>[]): Promise<Float32Array[]> {
    this.prefillSizes.push(inputs.length);
    for (const { ids } of inputs) {
      this.prefilledTokens.push([...ids]);
      this.tokenRuns.push([...ids]);
    }
    return this.#run(() => inputs.map(({ sequence, ids }) => this.#append(sequence, ids).at(-1)!));
  }

  async decode(inputs: readonly DecodeInput<unknown>[]): Promise<Float32Array[]> {
    this.batchSizes.push(inputs.length);
    if (new Set(inputs.map(({ sequence }) => sequence)).size < inputs.length) {
      throw new Error("a sequence has two inputs in one run");
    }
    return this.#run(() =>
      inputs.map(({ sequence, id }) => {
        this.tokenRuns.push([id]);
        return this.#append(sequence, [id])[0]!;
      }),
    );
  }

  async score(sequence: unknown, ids: readonly number[]): Promise<Float32Array[]> {
    this.tokenRuns.push([...ids]);
    this.scoredTokens.push([...ids]);
    return this.#run(() => this.#append(sequence, ids));
  }

  readonly scoreAll = async (inputs: readonly ScoreInput<unknown>[]): Promise<Float32Array[][]> => {
    for (const { ids } of inputs) {
      this.tokenRuns.push([...ids]);
      this.scoredTokens.push([...ids]);
    }
    return this.#run(() => inputs.map(({ sequence, ids }) => this.#append(sequence, ids)));
  };

  async #run<T>(compute: () => T): Promise<T> {
    this.#assertIdle();
    this.#isBusy = true;
    await Promise.resolve();
    this.#isBusy = false;
    fakeClock.ms += this.#runMs;
    return compute();
  }

  #append(sequence: unknown, newIds: readonly number[]): Float32Array[] {
    const ids = this.#idsOf(sequence);
    return newIds.map((id) => {
      ids.push(id);
      this.longestLength = Math.max(this.longestLength, ids.length);
      return this.logitsOf(ids);
    });
  }

  #rewind(sequence: unknown, count: number): void {
    const ids = this.#idsOf(sequence);
    if (count < 0 || count > ids.length) throw new Error(`cannot rewind ${count} of ${ids.length}`);
    ids.length -= count;
  }

  #idsOf(sequence: unknown): number[] {
    this.#assertIdle();
    if (!this.#open.has(sequence)) throw new Error("the sequence is not open");
    return (sequence as FakeSequence).ids;
  }

  #assertIdle(): void {
    if (this.#isBusy) throw new Error("a run is under way");
  }
}

/** Logits that are noise, seeded by all ids so far. */
export function noiseLogits(salt: number, width: number): LogitsOf {
  return (ids) => {
    const noise = new GumbelNoise(
      ids.reduce((state, id) => (state * 31 + id + 1) % 1_000_003, salt),
    );
    noise.seek(ids.length);
    return Float32Array.from({ length: width }, (_, token) => noise.at(token));
  };
}

/** An ensemble of three unrelated models. */
export function fakeModels(vocabSize: number, options?: FakeOptions) {
  const model = (salt: number) => new FakeDecoder(noiseLogits(salt, vocabSize), options);
  return { base: model(1), expert: model(2), antiexpert: model(3), vocabSize };
}
