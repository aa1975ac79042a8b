/**
 * Keeps the token ids of the latest prompts, so that the choices of a request and the models with the same tokenizer tokenize
 * a prompt once. A refusal is kept too: sixteen choices with a prompt that is too long cost one look at it. A key contains the
 * tenant, so that the time to prepare a prompt does not reveal what another tenant has sent.
 */
import { AppError } from "../../../shared/api/errors.ts";
import type { TokenIds } from "../../engine-client/messages.ts";

/** Counted for an entry in addition to its token ids, in bytes. */
const ENTRY_BYTES = 256;

export class PromptCache {
  readonly #bytesMax: number;
  /** From the least to the most recently used. */
  readonly #entries = new Map<string, TokenIds | AppError>();
  #bytes = 0;

  /** @param bytesMax of all entries together; a larger one is not kept */
  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /**
   * The token ids that are stored under a key, or else those that `encode` returns, in shared memory.
   * @throws the error of `encode`; an AppError is kept and thrown again
   */
  get(key: string, encode: () => readonly number[]): TokenIds {
    const known = this.#entries.get(key);
    const entry = known ?? encoded(encode);
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    if (!known) this.#bytes += bytesOf(entry);
    for (const [oldest, value] of this.#entries) {
      if (this.#bytes <= this.#bytesMax) break;
      this.#entries.delete(oldest);
      this.#bytes -= bytesOf(value);
    }
    if (entry instanceof AppError) throw entry;
    return entry;
  }
}

function encoded(encode: () => readonly number[]): TokenIds | AppError {
  try {
    return toTokenIds(encode());
  } catch (error) {
    if (error instanceof AppError) return error;
    throw error;
  }
}

/** Copies token ids into shared memory. */
export function toTokenIds(ids: readonly number[]): TokenIds {
  const shared = new Int32Array(new SharedArrayBuffer(4 * ids.length));
  shared.set(ids);
  return shared;
}

const bytesOf = (entry: TokenIds | AppError) =>
  ENTRY_BYTES + (entry instanceof AppError ? 0 : entry.byteLength);
