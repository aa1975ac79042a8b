/**
 * A decoder that holds the KV caches in JS memory (grouped-cache.ts). A run returns only logits and the keys and values of the new
 * tokens, and sequences of different lengths share a run where that is faster. Each row of a batch has its own positions and mask, so its
 * logits are those of a run with this sequence alone (fp32: within 1e-4; int8: exactly, see ../graph/exact-attention.ts). It
 * needs a prepared graph (../graph).
 */
import type { InferenceSession, Tensor } from "../onnxruntime/onnxruntime.ts";
import { AdapterPlaces } from "./adapter-places.ts";
import type { GraphSession } from "./session.ts";
import {
  bytesPerToken,
  LOGITS,
  logitsRow,
  logitsRows,
  type CacheValues,
  type GraphIo,
  type RunRow,
} from "./graph-io.ts";
import { release } from "./free-arrays.ts";
import { GroupedCache, rangeOf } from "./grouped-cache.ts";
import type { KvRows, Slot } from "./kv-cache.ts";
import type { DecodeInput, Decoder, ScoreInput } from "./decoder.ts";
import { rowsOf } from "./token-places.ts";

/**
 * A run reads all weights. Per byte that takes as long as two bytes of masked entries, which are mostly memory that was never written.
 * Measured as processor time with 98M parameters, seven rows of 128 tokens and one of 4,096 in one run: 1.7 in fp32, 2.6 in int8.
 */
const WEIGHTS_PRICE = 2;
/** Everything else that a run costs (inputs, operators, threads), in bytes. */
const RUN_BYTES = 8 * 2 ** 20;

/** Bytes of the attention scores of one layer in a run. A run has a few arrays of that size at once. */
const SCORES_BYTES_MAX = 2 ** 28;

interface DecoderFacts {
  readonly hasExactRows: boolean;
  readonly contextTokens: number | null;
  readonly weightBytes: number;
  /** Heads of queries. */
  readonly attentionHeads: number;
}

export class ExternalCacheDecoder implements Decoder<Slot> {
  readonly fallbackReason = null;
  readonly hasExactRows: boolean;
  readonly kvRows;
  readonly scoreAll: Decoder<Slot>["scoreAll"];
  #session: GraphSession;
  #io: GraphIo;
  #lastRun: Promise<unknown> = Promise.resolve();
  /** `past_key_values.*` input -> output with the new tokens' keys or values. */
  readonly #newKvOutputs: ReadonlyMap<string, string>;
  readonly #newKvOutputNames: readonly string[];
  readonly #cache: GroupedCache;
  readonly #attentionHeads: number;
  readonly #contextTokens: number;
  readonly #adapters = new AdapterPlaces();

  /**
   * @param session of a prepared graph
   * @param contextTokens null if it is not known
   * @param weightBytes of the graph's files
   */
  constructor(
    session: GraphSession,
    io: GraphIo,
    { hasExactRows, contextTokens, weightBytes, attentionHeads }: DecoderFacts,
  ) {
    this.hasExactRows = hasExactRows;
    this.#attentionHeads = attentionHeads;
    this.#session = session;
    this.#io = io;
    this.#contextTokens = contextTokens ?? Infinity;
    // GroupQueryAttention refuses several new tokens behind a past in a batch.
    this.scoreAll = io.alignment === "start" ? null : (inputs) => this.#runTogether(inputs);
    this.#newKvOutputs = new Map(io.pastInputs.map(({ name, output }) => [name, output]));
    // Two inputs may share an output (keys that are also the values); it is then fetched once.
    this.#newKvOutputNames = [...new Set(this.#newKvOutputs.values())];
    const passBytes = RUN_BYTES + WEIGHTS_PRICE * weightBytes;
    this.#cache = new GroupedCache(io.pastInputs, io.alignment, {
      passBytes,
      widthMax: contextTokens,
    });
    this.kvRows = {
      bytesPerToken: bytesPerToken(io.pastInputs),
      read: (slot: Slot, start: number, count: number) => slot.cache.read(slot, start, count),
      append: (slot: Slot, blocks: readonly KvRows[], count: number) => {
        // Reserved once for all blocks, because growing copies a cache.
        this.#cache.reserve(slot.length + blocks.length * count, slot);
        for (const block of blocks) {
          slot.cache.append(slot, (name) => block.get(name)!, count);
        }
      },
    };
  }

  get logitsWidth(): number | null {
    return this.#io.logitsWidth;
  }

  get cacheBytes(): number {
    return this.#cache.bytes;
  }

  cacheBytesFor(lengths: readonly number[]): number {
    return this.#cache.bytesFor(lengths);
  }

  limitCache(bytesMax: number): void {
    this.#cache.limit(bytesMax);
  }

  reserve(tokens: number, slot?: Slot): void {
    this.#cache.reserve(tokens, slot);
  }

  /**
   * Goes on with another session of the same graph, which has other adapters. Open sequences keep their caches and adapters, and a run that
   * has begun ends with the session before.
   * @param session on another thread
   * @param adapterIndexes number of each adapter -> its index in the graph; those of open sequences are among them
   */
  async replaceSession(
    session: GraphSession,
    adapterIndexes: ReadonlyMap<number, number>,
  ): Promise<void> {
    const before = this.#session;
    this.#io = this.#io.withSession(session);
    this.#session = session;
    this.#adapters.move(adapterIndexes);
    this.#cache.share();
    await this.#lastRun.catch(() => {});
    await before.release();
  }

  /** Ends the thread of a session that has one. */
  async closeThread(): Promise<void> {
    if (!this.#adapters.isMoved) return;
    await this.#lastRun.catch(() => {});
    await this.#session.release();
  }

  /** Bytes of open caches that the first other session copies: runs on its thread need them in shared memory. */
  get cacheBytesToMove(): number {
    return this.#adapters.isMoved ? 0 : this.#cache.bytes;
  }

  /** @param adapter number of one of the graph's adapters: its index when the graph was loaded; absent for none */
  open(adapter?: number): Slot {
    const slot = this.#cache.open();
    this.#adapters.open(slot, adapter);
    return slot;
  }

  close(slot: Slot): void {
    this.#adapters.close(slot);
    this.#cache.close(slot);
  }

  async prefill(slot: Slot, ids: readonly number[]): Promise<void> {
    this.#cache.reserve(slot.length + ids.length, slot);
    for (const { part } of this.#parts(slot, ids)) {
      await this.#runAlone(slot, part, 0);
    }
  }

  async prefillAll(inputs: readonly ScoreInput<Slot>[]): Promise<Float32Array[]> {
    const { limitsLogits } = this.#io;
    if (inputs.length > 1 && limitsLogits && this.scoreAll) {
      return (await this.#runTogether(inputs, true)).map((rows) => rows[0]!);
    }
    const logits: Float32Array[] = [];
    for (const { sequence, ids } of inputs) {
      // Where the logits of all tokens would be computed and copied, the last one has a run of its own.
      const rest = limitsLogits ? ids : ids.slice(-1);
      if (rest.length < ids.length) await this.prefill(sequence, ids.slice(0, -1));
      this.#cache.reserve(sequence.length + rest.length, sequence);
      logits.push(await this.#lastLogits(sequence, rest));
    }
    return logits;
  }

  /** The logits after the last of new tokens, for which there is room. */
  async #lastLogits(slot: Slot, ids: readonly number[]): Promise<Float32Array> {
    for (const { part, isLast } of this.#parts(slot, ids)) {
      const results = await this.#runAlone(slot, part, isLast ? 1 : 0);
      if (isLast) return logitsRows(results[LOGITS] as Tensor).at(-1)!;
    }
    throw new Error("A prompt without tokens has no logits");
  }

  async decode(inputs: readonly DecodeInput<Slot>[]): Promise<Float32Array[]> {
    const rows = inputs.map(({ sequence, id }) => ({ sequence, ids: [id] }));
    return (await this.#runTogether(rows)).map(([logits]) => logits!);
  }

  async score(slot: Slot, ids: readonly number[]): Promise<Float32Array[]> {
    const logits: Float32Array[] = [];
    // A sequence that drafts alone has only such runs: they too make a rectangle smaller that has become too wide.
    this.#cache.runs([slot], () => ids.length);
    for (const { part } of this.#parts(slot, ids)) {
      const results = await this.#runAlone(slot, part, part.length);
      logits.push(...logitsRows(results[LOGITS] as Tensor));
    }
    return logits;
  }

  /** Tokens, for which there is room, in parts whose attention scores fit: those of 128 tokens behind 32,000 with 32 heads would take 0.5 GiB. */
  *#parts(
    slot: Slot,
    ids: readonly number[],
  ): Generator<{ readonly part: readonly number[]; readonly isLast: boolean }> {
    for (let start = 0; start < ids.length;) {
      const tokenBytes = this.#scoresBytes(slot, ids.length);
      const end = start + Math.max(1, Math.floor(SCORES_BYTES_MAX / tokenBytes));
      yield { part: ids.slice(start, end), isLast: end >= ids.length };
      start = end;
    }
  }

  async #runAlone(
    slot: Slot,
    ids: readonly number[],
    logitsCount: number,
  ): Promise<InferenceSession.ReturnType> {
    const results = await this.#run([slot], [this.#row(slot, ids)], logitsCount);
    this.#append(slot, results, { row: 0, width: ids.length, count: ids.length });
    this.#releaseNewKv(results);
    return results;
  }

  /**
   * Sequences that run together. With several tokens each, they run apart where padding would exceed the context, because graphs may have
   * tables that end there, and where attention scores would not fit.
   */
  #runsOf(all: readonly Slot[], countOf: (slot: Slot) => number): Slot[][] {
    return this.#cache.runs(all, countOf).flatMap((slots) => {
      const longest = Math.max(...slots.map(({ length }) => length));
      const width = Math.max(...slots.map(countOf));
      const scoresBytes = width * slots.length * this.#scoresBytes(slots[0]!, width);
      const fits = longest + width <= this.#contextTokens && scoresBytes <= SCORES_BYTES_MAX;
      return width === 1 || fits ? [slots] : slots.map((slot) => [slot]);
    });
  }

  /** Bytes of the attention scores of one token, in a run with so many new ones of each sequence. */
  #scoresBytes({ cache }: Slot, newTokens: number): number {
    return 4 * this.#attentionHeads * (cache.tokenCapacity + newTokens);
  }

  /**
   * Runs sequences of about the same length together. Rows with fewer new tokens than others are padded at their ends.
   * @returns the logits of all tokens of each sequence, or only of its last one
   */
  async #runTogether(
    inputs: readonly ScoreInput<Slot>[],
    lastOnly = false,
  ): Promise<Float32Array[][]> {
    const ids = new Map(inputs.map((input) => [input.sequence, input.ids]));
    const countOf = (slot: Slot) => ids.get(slot)!.length;
    const logits = new Map<Slot, Float32Array[]>();
    for (const slots of this.#runsOf([...ids.keys()], countOf)) {
      if (lastOnly && slots.length === 1) {
        const [slot] = slots as [Slot];
        logits.set(slot, [await this.#lastLogits(slot, ids.get(slot)!)]);
        continue;
      }
      const width = Math.max(...slots.map(countOf));
      const { first, count } = rangeOf(slots);
      // A batch is a range of slots. A slot in the range without an input (of a pair that waits for its gate) costs an idle row,
      // whose result is dropped.
      const padding = Array<number>(width).fill(0);
      const rows: RunRow[] = Array.from({ length: count }, () => ({ ids: padding, pastTokens: 0 }));
      for (const slot of slots) {
        const row = this.#row(slot, [...ids.get(slot)!, ...padding.slice(countOf(slot))]);
        rows[slot.index - first] = row;
      }
      const skippedOf = (slot: Slot) => (lastOnly ? countOf(slot) - 1 : 0);
      const logitsCount = width - Math.min(...slots.map(skippedOf));
      const results = await this.#run(slots, rows, logitsCount);
      const all = results[LOGITS] as Tensor;
      const positions = all.dims[1]!;
      for (const slot of slots) {
        const row = slot.index - first;
        this.#append(slot, results, { row, width, count: countOf(slot) });
        const skipped = skippedOf(slot);
        // Logits of the first tokens may not have been computed.
        const start = (row + 1) * positions - width + skipped;
        const wanted = Array.from({ length: countOf(slot) - skipped }, (_, i) => start + i);
        logits.set(
          slot,
          wanted.map((i) => logitsRow(all, i)),
        );
      }
      this.#releaseNewKv(results);
    }
    return inputs.map(({ sequence }) => logits.get(sequence)!);
  }

  readonly rewind = (slot: Slot, count: number): void => {
    // Cache entries beyond the length are masked, and overwritten by the next tokens.
    slot.length -= count;
  };

  #row(slot: Slot, ids: readonly number[]): RunRow {
    return { ids, pastTokens: slot.length, adapter: this.#adapters.indexOf(slot) };
  }

  /**
   * @param rows those of neighbouring slots of one cache, from the first of `slots` to the last
   * @param logitsCount of how many of the last new tokens logits are wanted; with 0 none are fetched
   */
  #run(
    slots: readonly Slot[],
    rows: readonly RunRow[],
    logitsCount: number,
  ): Promise<InferenceSession.ReturnType> {
    const shown = { shown: slots, newTokens: rows[0]!.ids.length };
    const [{ cache }] = slots as [Slot];
    const { tensors, width } = cache.tensors(rangeOf(slots).first, rows.length, shown);
    const feeds = { ...tensors, ...this.#io.feeds(rows, width, Math.max(1, logitsCount)) };
    const fetches = logitsCount > 0 ? [LOGITS, ...this.#newKvOutputNames] : this.#newKvOutputNames;
    const run = this.#cache.during(() => this.#session.run(feeds, fetches));
    this.#lastRun = run;
    return run;
  }

  /** @param from the slot's row in a batch with `width` new tokens, of which it has `count` */
  #append(
    slot: Slot,
    results: InferenceSession.ReturnType,
    { row, width, count }: { readonly row: number; readonly width: number; readonly count: number },
  ): void {
    const newValues = (name: string) => valuesOf(results, this.#newKvOutputs.get(name)!);
    slot.cache.append(slot, newValues, count, rowsOf(row, width));
  }

  #releaseNewKv(results: InferenceSession.ReturnType): void {
    for (const name of this.#newKvOutputNames) release(valuesOf(results, name));
  }
}

const valuesOf = (results: InferenceSession.ReturnType, output: string) =>
  (results[output] as Tensor).data as CacheValues;
