/**
 * A model that is another one with an adapter: its sequences are rows of the other decoder's runs, which hold one set of weights
 * for both. The decode loop runs the sequences of a decoder and of its adapters together (`hostOf`).
 */
import type { DecodeInput, Decoder, ScoreInput } from "./decoder.ts";
import type { ExternalCacheDecoder } from "./external-cache-decoder.ts";
import type { Slot } from "./kv-cache.ts";

export class AdapterDecoder implements Decoder<Slot> {
  readonly host: ExternalCacheDecoder;
  readonly fallbackReason = null;
  readonly hasExactRows: boolean;
  readonly rewind;
  readonly kvRows;
  readonly scoreAll;
  /** They are the host's. */
  readonly cacheBytes = 0;
  readonly #adapter: number;

  /** @param adapter its index in the host's graph */
  constructor(host: ExternalCacheDecoder, adapter: number, exactRows = false) {
    this.host = host;
    this.hasExactRows = exactRows;
    this.rewind = host.rewind;
    this.kvRows = host.kvRows;
    this.scoreAll = host.scoreAll;
    this.#adapter = adapter;
  }

  get logitsWidth(): number | null {
    return this.host.logitsWidth;
  }

  cacheBytesFor(lengths: readonly number[]): number {
    return this.host.cacheBytesFor(lengths);
  }

  reserve(tokens: number, slot?: Slot): void {
    this.host.reserve(tokens, slot);
  }

  open(): Slot {
    return this.host.open(this.#adapter);
  }

  close(slot: Slot): void {
    this.host.close(slot);
  }

  prefill(slot: Slot, ids: readonly number[]): Promise<void> {
    return this.host.prefill(slot, ids);
  }

  prefillAll(inputs: readonly ScoreInput<Slot>[]): Promise<Float32Array[]> {
    return this.host.prefillAll(inputs);
  }

  decode(inputs: readonly DecodeInput<Slot>[]): Promise<Float32Array[]> {
    return this.host.decode(inputs);
  }

  score(slot: Slot, ids: readonly number[]): Promise<Float32Array[]> {
    return this.host.score(slot, ids);
  }
}
