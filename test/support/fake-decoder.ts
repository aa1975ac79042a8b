/**
 * Models without graphs: a sequence's logits are a function of the ids that it has seen. They note what they are asked,
 * and refuse what no decoder could do: two runs at once, a sequence that is closed, forgetting more than there is.
 */
import { GumbelNoise } from "../../worker/decode/noise.ts";
import type { Decoder, Turn } from "../../worker/model/decoder.ts";

/** [>= V] from all ids of a sequence. */
export type LogitsOf = (ids: readonly number[]) => Float32Array;

export interface FakeOptions {
  /** False for a model whose cache cannot forget. */
  readonly canRewind?: boolean;
  /** What a run takes by `fakeClock`. */
  readonly runMs?: number;
}

/** Stands for `performance.now()` where a test says so; runs of fake models advance it. */
export const fakeClock = { ms: 0 };

interface FakeSequence {
  readonly ids: number[];
}

export class FakeDecoder implements Decoder {
  readonly slowBecause = null;
  readonly logitsWidth = null;
  readonly rewind: ((sequence: unknown, count: number) => void) | null;
  /** Ids of each prefill, decode (one per turn) and score, in order. */
  readonly asked: number[][] = [];
  /** Ids of each score. */
  readonly scored: number[][] = [];
  /** Turns of each decode. */
  readonly turns: number[] = [];
  opened = 0;
  /** The most tokens that a sequence ever held. */
  longest = 0;
  /** A row is its token's id. */
  readonly rows: Decoder["rows"];
  readonly logitsOf: LogitsOf;
  readonly #runMs: number;
  readonly #open = new Set<unknown>();
  #isBusy = false;

  constructor(logitsOf: LogitsOf, { canRewind = true, runMs = 1 }: FakeOptions = {}) {
    this.logitsOf = logitsOf;
    this.#runMs = runMs;
    this.rewind = canRewind ? (sequence, count) => this.#rewind(sequence, count) : null;
    this.rows = {
      bytesPerToken: 1,
      read: (sequence, start, count) => {
        const ids = this.#idsOf(sequence).slice(start, start + count);
        if (ids.length < count) throw new Error(`cannot read ${count} rows from ${start}`);
        return new Map([["ids", Float32Array.from(ids)]]);
      },
      append: (sequence, blocks, count) => {
        const ids = this.#idsOf(sequence);
        for (const rows of blocks) ids.push(...rows.get("ids")!.subarray(0, count));
        this.longest = Math.max(this.longest, ids.length);
      },
    };
  }

  /** Sequences that are open. */
  get running(): number {
    return this.#open.size;
  }

  /** A token is a byte. */
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
    this.#mustRest();
    this.opened++;
    const sequence: FakeSequence = { ids: [] };
    this.#open.add(sequence);
    return sequence;
  }

  close(sequence: unknown): void {
    this.#idsOf(sequence);
    this.#open.delete(sequence);
  }

  async prefill(sequence: unknown, ids: readonly number[]): Promise<void> {
    await this.#run(() => this.#see(sequence, ids));
    this.asked.push([...ids]);
  }

  async decode(turns: readonly Turn<unknown>[]): Promise<Float32Array[]> {
    this.turns.push(turns.length);
    if (new Set(turns.map(({ sequence }) => sequence)).size < turns.length) {
      throw new Error("a sequence has two turns in one run");
    }
    return this.#run(() =>
      turns.map(({ sequence, id }) => {
        this.asked.push([id]);
        return this.#see(sequence, [id])[0]!;
      }),
    );
  }

  async score(sequence: unknown, ids: readonly number[]): Promise<Float32Array[]> {
    this.asked.push([...ids]);
    this.scored.push([...ids]);
    return this.#run(() => this.#see(sequence, ids));
  }

  async #run<T>(see: () => T): Promise<T> {
    this.#mustRest();
    this.#isBusy = true;
    await Promise.resolve();
    this.#isBusy = false;
    fakeClock.ms += this.#runMs;
    return see();
  }

  #see(sequence: unknown, fresh: readonly number[]): Float32Array[] {
    const ids = this.#idsOf(sequence);
    return fresh.map((id) => {
      ids.push(id);
      this.longest = Math.max(this.longest, ids.length);
      return this.logitsOf(ids);
    });
  }

  #rewind(sequence: unknown, count: number): void {
    const ids = this.#idsOf(sequence);
    if (count < 0 || count > ids.length) throw new Error(`cannot forget ${count} of ${ids.length}`);
    ids.length -= count;
  }

  #idsOf(sequence: unknown): number[] {
    this.#mustRest();
    if (!this.#open.has(sequence)) throw new Error("the sequence is not open");
    return (sequence as FakeSequence).ids;
  }

  #mustRest(): void {
    if (this.#isBusy) throw new Error("a run is under way");
  }
}

/** Logits that are noise, decided by all ids so far. */
export function noiseLogits(salt: number, width: number): LogitsOf {
  return (ids) => {
    const noise = new GumbelNoise(
      ids.reduce((state, id) => (state * 31 + id + 1) % 1_000_003, salt),
    );
    noise.seek(ids.length);
    return Float32Array.from({ length: width }, (_, token) => noise.at(token));
  };
}

/** The ensemble of three models that know nothing of each other. */
export function fakeModels(vocabSize: number, options?: FakeOptions) {
  const model = (salt: number) => new FakeDecoder(noiseLogits(salt, vocabSize), options);
  return { base: model(1), expert: model(2), antiexpert: model(3), vocabSize };
}
