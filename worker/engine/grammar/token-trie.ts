/**
 * The vocabulary's tokens as tries over their bytes: a common prefix of many tokens is matched once. Tokens of plain characters and
 * tokens of other whole characters have tries of their own: inside a string, where all of them are allowed, most of the vocabulary
 * needs no look.
 */
import type { Frame } from "./call-stack.ts";
import { isPlainByte, Loop, type Matcher } from "./matcher.ts";

export class TokenTrie {
  readonly vocabSize: number;
  /** Bytes of the longest token. */
  readonly bytesMax: number;
  readonly #tries: readonly { readonly trie: Trie; readonly loop: Loop }[];
  readonly #tokens: readonly (Uint8Array | null)[];

  /** @param tokens bytes of each token id; null for special tokens and unused ids */
  constructor(tokens: readonly (Uint8Array | null)[]) {
    this.vocabSize = tokens.length;
    this.#tokens = tokens;
    const sorted = tokens
      .flatMap((bytes, id) => (bytes && bytes.length > 0 ? [{ bytes, id }] : []))
      .sort((a, b) => Buffer.compare(a.bytes, b.bytes));
    this.bytesMax = sorted.reduce((max, { bytes }) => Math.max(max, bytes.length), 0);
    const kinds = [Loop.None, Loop.Plain, Loop.Text].map((loop) => ({
      loop,
      tokens: [] as Token[],
    }));
    for (const token of sorted)
      kinds.find(({ loop }) => loop === kindOf(token.bytes))!.tokens.push(token);
    this.#tries = kinds.map(({ loop, tokens }) => ({ loop, trie: new Trie(tokens) }));
  }

  /** Bytes of a token; null for special tokens and unused ids. */
  bytesOf(id: number): Uint8Array | null {
    return this.#tokens[id] ?? null;
  }

  /** The tokens that are allowed at a position: [V / 32], one bit for each token id. */
  maskAt(matcher: Matcher, state: number, frame: Frame | null): Uint32Array {
    const mask = new Uint32Array(Math.ceil(this.vocabSize / 32));
    for (const { trie, loop } of this.#tries) {
      trie.allow(mask, matcher, { state, frame, bytesMax: this.bytesMax, loop });
    }
    return mask;
  }
}

interface Token {
  readonly bytes: Uint8Array;
  readonly id: number;
}

/** Where a walk begins, and the loop in which all of the trie's tokens are allowed. */
interface Start {
  readonly state: number;
  readonly frame: Frame | null;
  readonly bytesMax: number;
  readonly loop: Loop;
}

/** The loop in which a token is allowed in any case: only if it has whole characters, none of which a string must escape. */
function kindOf(bytes: Uint8Array): Loop {
  if (bytes.every(isPlainByte)) return Loop.Plain;
  if (!bytes.every((byte) => byte >= 0x80 || isPlainByte(byte))) return Loop.None;
  try {
    new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    return Loop.Text;
  } catch {
    return Loop.None;
  }
}

/** Nodes are numbered in preorder; each adds one byte to the prefix of its parent. */
class Trie {
  readonly #bytes: Uint8Array;
  readonly #depths: Uint16Array;
  /** For each node, the next node that is not below it. */
  readonly #ends: Uint32Array;
  /** Tokens that end at each node: `#ids` from `#firsts[node]` to `#firsts[node + 1]`. */
  readonly #firsts: Uint32Array;
  readonly #ids: Uint32Array;

  /** @param tokens in the order of their bytes */
  constructor(tokens: readonly Token[]) {
    const bytes: number[] = [];
    const depths: number[] = [];
    const ends: number[] = [];
    const firsts: number[] = [];
    const ids: number[] = [];
    /** Nodes from the root to the last node. */
    const path: number[] = [];
    let previous: Uint8Array = new Uint8Array();
    for (const token of tokens) {
      const shared = commonPrefixLength(previous, token.bytes);
      for (const node of path.splice(shared)) ends[node] = bytes.length;
      for (let depth = shared; depth < token.bytes.length; depth++) {
        path.push(bytes.push(token.bytes[depth]!) - 1);
        depths.push(depth);
        firsts.push(ids.length);
      }
      ids.push(token.id);
      previous = token.bytes;
    }
    for (const node of path) ends[node] = bytes.length;
    this.#bytes = Uint8Array.from(bytes);
    this.#depths = Uint16Array.from(depths);
    this.#ends = Uint32Array.from(ends);
    this.#firsts = Uint32Array.from([...firsts, ids.length]);
    this.#ids = Uint32Array.from(ids);
  }

  /** Sets the bits of the allowed tokens. */
  allow(mask: Uint32Array, matcher: Matcher, { state, frame, bytesMax, loop }: Start): void {
    const [bytes, depths, ends, firsts] = [this.#bytes, this.#depths, this.#ends, this.#firsts];
    const canLoop = loop !== Loop.None;
    if (canLoop && matcher.loopAt(state, frame) >= loop) {
      this.#set(mask, 0, this.#ids.length);
      return;
    }
    /** Positions after the prefix of each depth. */
    const states = new Int32Array(bytesMax + 1);
    const frames: (Frame | null)[] = Array.from({ length: bytesMax + 1 }, () => null);
    states[0] = state;
    frames[0] = frame;
    for (let node = 0; node < bytes.length;) {
      const depth = depths[node]!;
      const end = ends[node]!;
      if (!matcher.step(states[depth]!, frames[depth]!, bytes[node]!)) {
        node = end;
        continue;
      }
      const { nextState, nextFrame } = matcher;
      states[depth + 1] = nextState;
      frames[depth + 1] = nextFrame;
      // A prefix may end inside a character, but a place that loops is never inside one.
      const isWhole = canLoop && end > node + 1 && matcher.loopAt(nextState, nextFrame) >= loop;
      const next = isWhole ? end : node + 1;
      this.#set(mask, firsts[node]!, firsts[next]!);
      node = next;
    }
  }

  #set(mask: Uint32Array, from: number, to: number): void {
    for (let at = from; at < to; at++) {
      const id = this.#ids[at]!;
      mask[id >>> 5]! |= 1 << (id & 31);
    }
  }
}

function commonPrefixLength(a: Uint8Array, b: Uint8Array): number {
  let length = 0;
  while (length < a.length && length < b.length && a[length] === b[length]) length++;
  return length;
}
