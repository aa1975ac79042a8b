/**
 * A remote base in the place of a local model. It has no KV cache here, so it takes no part of the cache budget, and it runs
 * no tokens: the loop asks `base` for rows instead (loop/remote-run.ts).
 */
import type { Decoder } from "../decoder/decoder.ts";
import type { RemoteBase } from "./remote-base.ts";

export class RemoteDecoder implements Decoder {
  readonly logitsWidth = null;
  readonly fallbackReason = null;
  readonly hasExactRows = false;
  readonly cacheBytes = 0;
  readonly kvRows = null;
  readonly scoreAll = null;
  readonly base: RemoteBase;

  constructor(base: RemoteBase) {
    this.base = base;
  }

  readonly rewind = (): void => {};

  cacheBytesFor(): number {
    return 0;
  }

  open(): unknown {
    return null;
  }

  close(): void {}

  async prefill(): Promise<void> {}

  prefillAll(): Promise<never> {
    return Promise.reject(new Error("A remote base has no logits here"));
  }

  decode(): Promise<never> {
    return Promise.reject(new Error("A remote base decodes nothing here"));
  }

  score(): Promise<never> {
    return Promise.reject(new Error("A remote base scores nothing here"));
  }
}
