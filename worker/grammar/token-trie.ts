/** A vocabulary by its tokens' bytes, in which those that begin alike are read together. */
import type { Position } from "./matcher.ts";

/** Nodes in preorder, each a byte after that of its parent. */
export class TokenTrie {
  readonly vocabSize: number;
  readonly #bytes: Uint8Array;
  readonly #depths: Uint16Array;
  /** The node after all those below. */
  readonly #ends: Uint32Array;
  /** Tokens that end at each node: `#ids` from `#firsts[node]` to `#firsts[node + 1]`. */
  readonly #firsts: Uint32Array;
  readonly #ids: Uint32Array;
  readonly #tokens: readonly (Uint8Array | null)[];

  /** @param tokens bytes by id; null for those that are not text */
  constructor(tokens: readonly (Uint8Array | null)[]) {
    this.vocabSize = tokens.length;
    this.#tokens = tokens;
    const sorted = tokens
      .flatMap((bytes, id) => (bytes && bytes.length > 0 ? [{ bytes, id }] : []))
      .sort((a, b) => compare(a.bytes, b.bytes));
    const bytes: number[] = [];
    const depths: number[] = [];
    const ends: number[] = [];
    const firsts: number[] = [];
    const ids: number[] = [];
    /** The nodes that lead to the last one. */
    const path: number[] = [];
    let before: Uint8Array = new Uint8Array();
    for (const token of sorted) {
      const shared = sharedLength(before, token.bytes);
      for (const node of path.splice(shared)) ends[node] = bytes.length;
      for (let depth = shared; depth < token.bytes.length; depth++) {
        path.push(bytes.push(token.bytes[depth]!) - 1);
        depths.push(depth);
        firsts.push(ids.length);
      }
      ids.push(token.id);
      before = token.bytes;
    }
    for (const node of path) ends[node] = bytes.length;
    this.#bytes = Uint8Array.from(bytes);
    this.#depths = Uint16Array.from(depths);
    this.#ends = Uint32Array.from(ends);
    this.#firsts = Uint32Array.from([...firsts, ids.length]);
    this.#ids = Uint32Array.from(ids);
  }

  /** Bytes of a token; null if it is no text. */
  bytesOf(id: number): Uint8Array | null {
    return this.#tokens[id] ?? null;
  }

  /** [V / 32] bit by bit, the tokens that may come at a position. */
  maskAt(start: Position): Uint32Array {
    const mask = new Uint32Array(Math.ceil(this.vocabSize / 32));
    const [bytes, depths, ends, firsts] = [this.#bytes, this.#depths, this.#ends, this.#firsts];
    /** Positions along the way to a node. */
    const path: Position[] = [start];
    for (let node = 0; node < bytes.length;) {
      const depth = depths[node]!;
      const next = path[depth]!.after(bytes[node]!);
      if (next === null) {
        node = ends[node]!;
        continue;
      }
      path[depth + 1] = next;
      for (let at = firsts[node]!; at < firsts[node + 1]!; at++) {
        const id = this.#ids[at]!;
        mask[id >>> 5]! |= 1 << (id & 31);
      }
      node++;
    }
    return mask;
  }
}

function compare(a: Uint8Array, b: Uint8Array): number {
  const shared = sharedLength(a, b);
  return (a[shared] ?? -1) - (b[shared] ?? -1);
}

function sharedLength(a: Uint8Array, b: Uint8Array): number {
  let length = 0;
  while (length < a.length && length < b.length && a[length] === b[length]) length++;
  return length;
}
