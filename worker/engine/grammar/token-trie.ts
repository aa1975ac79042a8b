/**
 * The vocabulary's tokens as tries over their bytes: a common prefix of many tokens is matched once. Tokens of plain characters and
 * tokens of other whole characters have tries of their own: where a run (runs.ts) goes on for as long as the tokens below a node are,
 * they are all allowed without a look at each.
 */
import { CLASS_OF, isPlainByte } from "./byte-classes.ts";
import type { Frame } from "./call-stack.ts";
import type { Matcher } from "./matcher.ts";
import { allowsPlain, allowsText, roomFor, type Run } from "./runs.ts";

/**
 * The tokens of a trie: of plain bytes, of whole characters of which none must be escaped in a JSON string (with a first character of
 * more than one byte, or else), or others.
 */
type Kind = "plain" | "wide" | "text" | "other";
/** Nodes below a node of which a look one by one takes more than to find out whether a place is closed. */
const LARGE_NODES = 1_000;

const KINDS = ["plain", "wide", "text", "other"] as const;

export class TokenTrie {
  readonly vocabSize: number;
  /** Bytes of the longest token. */
  readonly bytesMax: number;
  readonly #tries: readonly Trie[];
  readonly #tokens: readonly (Uint8Array | null)[];

  /** @param tokens bytes of each token id; null for special tokens and unused ids */
  constructor(tokens: readonly (Uint8Array | null)[]) {
    this.vocabSize = tokens.length;
    this.#tokens = tokens;
    const sorted = tokens
      .flatMap((bytes, id) =>
        bytes && bytes.length > 0 ? [{ bytes, id, kind: kindOf(bytes) }] : [],
      )
      .sort((a, b) => Buffer.compare(a.bytes, b.bytes));
    this.bytesMax = sorted.reduce((max, { bytes }) => Math.max(max, bytes.length), 0);
    this.#tries = KINDS.map((kind) => {
      const tokensOfKind = sorted.filter((token) => token.kind === kind);
      return new Trie(tokensOfKind, kind, this.vocabSize);
    });
  }

  /** Bytes of a token; null for special tokens and unused ids. */
  bytesOf(id: number): Uint8Array | null {
    return this.#tokens[id] ?? null;
  }

  /** The tokens that are allowed at a position: [V / 32], one bit for each token id. */
  maskAt(matcher: Matcher, state: number, frame: Frame | null): Uint32Array {
    const mask = new Uint32Array(Math.ceil(this.vocabSize / 32));
    for (const trie of this.#tries) {
      trie.allow(mask, matcher, { state, frame, bytesMax: this.bytesMax });
    }
    return mask;
  }
}

interface Token {
  readonly bytes: Uint8Array;
  readonly id: number;
}

interface Start {
  readonly state: number;
  readonly frame: Frame | null;
  readonly bytesMax: number;
}

function kindOf(bytes: Uint8Array): Kind {
  if (bytes.every(isPlainByte)) return "plain";
  if (!bytes.every((byte) => byte >= 0x80 || isPlainByte(byte))) return "other";
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    // A dot of a pattern matches all other characters.
    if (/[\u2028\u2029]/u.test(text)) return "other";
    return bytes[0]! >= 0x80 ? "wide" : "text";
  } catch {
    return "other";
  }
}

/** Nodes are numbered in preorder from 1; each adds one byte to the prefix of its parent. Node 0 is the empty prefix. */
class Trie {
  readonly #kind: Kind;
  readonly #bytes: Uint8Array;
  readonly #depths: Uint16Array;
  /** For each node, the next node that is not below it. */
  readonly #ends: Uint32Array;
  /** Tokens that end at each node: `#ids` from `#firsts[node]` to `#firsts[node + 1]`. */
  readonly #firsts: Uint32Array;
  readonly #ids: Uint32Array;
  /** The classes of all bytes below each node, and how many characters the longest token goes on below it. */
  readonly #classes: Int32Array;
  readonly #lengths: Uint16Array;
  /** By the number of characters: [V / 32] the bits of all tokens with at most so many. */
  readonly #upTo: (Uint32Array | undefined)[] = [];
  readonly #vocabSize: number;

  /** @param tokens in the order of their bytes */
  constructor(tokens: readonly Token[], kind: Kind, vocabSize: number) {
    const bytes = [0];
    const depths = [0];
    const ends: number[] = [];
    const firsts = [0];
    const ids: number[] = [];
    /** Nodes from the root to the last node. */
    const path: number[] = [];
    let previous: Uint8Array = new Uint8Array();
    for (const token of tokens) {
      const shared = commonPrefixLength(previous, token.bytes);
      for (const node of path.splice(shared)) ends[node] = bytes.length;
      for (let depth = shared; depth < token.bytes.length; depth++) {
        path.push(bytes.push(token.bytes[depth]!) - 1);
        depths.push(depth + 1);
        firsts.push(ids.length);
      }
      ids.push(token.id);
      previous = token.bytes;
    }
    for (const node of [0, ...path]) ends[node] = bytes.length;
    this.#kind = kind;
    this.#bytes = Uint8Array.from(bytes);
    this.#depths = Uint16Array.from(depths);
    this.#ends = Uint32Array.from(ends);
    this.#firsts = Uint32Array.from([...firsts, ids.length]);
    this.#ids = Uint32Array.from(ids);
    this.#classes = new Int32Array(bytes.length);
    this.#lengths = new Uint16Array(bytes.length);
    this.#fillBelow();
    this.#vocabSize = vocabSize;
  }

  #fillBelow(): void {
    const [bytes, classes, lengths] = [this.#bytes, this.#classes, this.#lengths];
    // The nodes after each node, from the last: its children are those one deeper, up to the first that is not below it.
    for (let node = bytes.length - 1; node >= 0; node--) {
      for (let child = node + 1; child < this.#ends[node]!; child = this.#ends[child]!) {
        const isContinuation = (bytes[child]! & 0xc0) === 0x80;
        const length = lengths[child]! + (isContinuation ? 0 : 1);
        classes[node]! |= classes[child]! | CLASS_OF[bytes[child]!]!;
        lengths[node] = Math.max(lengths[node]!, length);
      }
    }
  }

  /** Sets the bits of the allowed tokens. */
  allow(mask: Uint32Array, matcher: Matcher, { state, frame, bytesMax }: Start): void {
    const [bytes, depths, ends, firsts] = [this.#bytes, this.#depths, this.#ends, this.#firsts];
    const all = this.#allowedAtOnce(matcher.runs.at(state, frame));
    if (all !== null) {
      for (let i = 0; i < mask.length; i++) mask[i]! |= all[i]!;
      return;
    }
    /** Positions after the prefix of each depth. */
    const states = new Int32Array(bytesMax + 1);
    const frames: (Frame | null)[] = [frame];
    states[0] = state;
    for (let node = 1; node < bytes.length;) {
      const depth = depths[node]!;
      const end = ends[node]!;
      if (!matcher.step(states[depth - 1]!, frames[depth - 1]!, bytes[node]!)) {
        node = end;
        continue;
      }
      const { nextState, nextFrame } = matcher;
      states[depth] = nextState;
      frames[depth] = nextFrame;
      // Only the rest of a character may be below. A prefix may end inside a character, but no run begins there.
      const isKnown = end > node + 1 && this.#lengths[node]! > 0 && this.#kind !== "other";
      const run = isKnown ? matcher.runs.at(nextState, nextFrame) : null;
      const allowsAll = run !== null && this.#allowsBelow(node, run);
      this.#set(mask, firsts[node]!, firsts[allowsAll ? end : node + 1]!);
      const isOver = allowsAll || (run !== null && this.#kind === "plain" && !run.ways.hasPlain);
      node = isOver ? end : node + 1;
    }
  }

  /** The tokens that are allowed at the start of a run, if the run tells all of them: [V / 32]. */
  #allowedAtOnce(run: Run): Uint32Array | null {
    if (this.#kind === "other") return null;
    const most = this.#lengths[0]!;
    if (this.#allowsBelow(0, run)) return this.#shorterTokens(most);
    const count = roomFor(this.#kind === "plain" ? "plain" : "text", run, most);
    return count === null ? null : this.#shorterTokens(count);
  }

  /** The tokens with at most so many characters: [V / 32]. */
  #shorterTokens(most: number): Uint32Array {
    const known = this.#upTo[most];
    if (known) return known;
    const mask = new Uint32Array(Math.ceil(this.#vocabSize / 32));
    const characters: number[] = [];
    for (let node = 1; node < this.#bytes.length; node++) {
      const depth = this.#depths[node]!;
      const isContinuation = (this.#bytes[node]! & 0xc0) === 0x80;
      characters[depth] = (characters[depth - 1] ?? 0) + (isContinuation ? 0 : 1);
      if (characters[depth] <= most) this.#set(mask, this.#firsts[node]!, this.#firsts[node + 1]!);
    }
    return (this.#upTo[most] = mask);
  }

  /** Whether the run after a node's prefix tells that all tokens below the node are allowed. */
  #allowsBelow(node: number, run: Run): boolean {
    const length = this.#lengths[node]!;
    const isLarge = this.#ends[node]! - node > LARGE_NODES;
    switch (this.#kind) {
      case "plain":
        return allowsPlain(run, this.#classes[node]!, length, isLarge);
      case "wide":
        if (node === 0 && run.wide && allowsText(run.wide, length - 1, isLarge)) return true;
        return allowsText(run, length, isLarge);
      case "text":
        return allowsText(run, length, isLarge);
      case "other":
        return false;
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
