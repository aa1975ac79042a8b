/**
 * Matches a text against a compiled grammar, byte by byte. A position is one state of the automaton and one stack of calls;
 * the next position is found by a table lookup. Token masks are computed when they are first needed, and kept, because the
 * texts of one grammar go through the same few positions.
 */
import type { CompiledGrammar } from "../../../shared/grammar/automaton/compiled.ts";
import { CallStack, type Frame } from "./call-stack.ts";
import type { TokenTrie } from "./token-trie.ts";

/** No edge for this byte. */
const NONE = -0x80000000;
/** Bytes of token masks that a matcher keeps. */
const MASK_BYTES_MAX = 2 ** 23;
/** More than the kinds of a stack, which forgets them in time. */
const KINDS_MAX = 2 ** 24;
/** Results of `loopAt` that are kept. */
const LOOPS_MAX = 2 ** 16;

/** Whether a byte is an ASCII character that a JSON string contains as it is. */
export const isPlainByte = (byte: number) =>
  byte >= 0x20 && byte < 0x7f && byte !== 0x22 && byte !== 0x5c;

const range = (min: number, max: number) =>
  Array.from({ length: max - min + 1 }, (_, i) => min + i);
const PLAIN = range(0x20, 0x7e).filter(isPlainByte);
const REST = range(0x80, 0xbf);
/** The characters of more than one byte in UTF-8: the ranges of their bytes. */
const WIDE: readonly (readonly number[])[][] = [
  [range(0xc2, 0xdf), REST],
  [[0xe0], range(0xa0, 0xbf), REST],
  [range(0xe1, 0xec), REST, REST],
  [[0xed], range(0x80, 0x9f), REST],
  [range(0xee, 0xef), REST, REST],
  [[0xf0], range(0x90, 0xbf), REST, REST],
  [range(0xf1, 0xf3), REST, REST, REST],
  [[0xf4], range(0x80, 0x8f), REST, REST],
];

/** The characters that may follow each other without end at a place: none, all plain ones, or all that need no escape in JSON. */
export const Loop = { None: 0, Plain: 1, Text: 2 } as const;
export type Loop = (typeof Loop)[keyof typeof Loop];

interface Place {
  readonly state: number;
  readonly frame: Frame | null;
}

/** Whether two places have the same masks. */
const isSame = (a: Place, b: Place) =>
  a.state === b.state && (a.frame?.kind ?? 0) === (b.frame?.kind ?? 0);

/** A place in the texts of a grammar. */
export class GrammarPosition {
  readonly #matcher: Matcher;
  readonly state: number;
  /** The innermost call; null outside of all calls. */
  readonly frame: Frame | null;

  constructor(matcher: Matcher, state: number, frame: Frame | null) {
    this.#matcher = matcher;
    this.state = state;
    this.frame = frame;
  }

  /** Whether the text may end here. */
  get canEnd(): boolean {
    return this.#matcher.canEnd(this);
  }

  /** Whether any byte is allowed next. */
  get canContinue(): boolean {
    return this.#matcher.canContinue(this);
  }

  /** The position after a byte, or null if the byte is not allowed. */
  advance(byte: number): GrammarPosition | null {
    const matcher = this.#matcher;
    return matcher.step(this.state, this.frame, byte)
      ? new GrammarPosition(matcher, matcher.nextState, matcher.nextFrame)
      : null;
  }

  /** The allowed tokens: [V / 32], one bit for each token id. */
  get mask(): Uint32Array {
    return this.#matcher.maskAt(this);
  }
}

/** One grammar over one vocabulary. */
export class Matcher {
  readonly trie: TokenTrie;
  readonly start: GrammarPosition;
  readonly #grammar: CompiledGrammar;
  readonly #stack: CallStack;
  /** By state and byte: the next state, -1 - e for entry e, or NONE. A row is written when it is first needed. */
  readonly #rows: (Int32Array | undefined)[];
  /** By state and kind of stack. */
  readonly #masks = new Map<string, Uint32Array>();
  /** By state and kind of stack: the results of `loopAt`. */
  readonly #loops = new Map<number, Loop>();
  /** The result of the last `step` that returned true. */
  nextState = 0;
  nextFrame: Frame | null = null;

  constructor(grammar: CompiledGrammar, trie: TokenTrie) {
    this.trie = trie;
    this.#grammar = grammar;
    this.#stack = new CallStack(grammar, trie.bytesMax);
    this.#rows = Array.from({ length: grammar.accepting.length });
    this.start = new GrammarPosition(this, 0, null);
  }

  /** Reads a byte. Sets `nextState` and `nextFrame`, which no object is created for: a mask takes 100,000s of steps. */
  step(from: number, inside: Frame | null, byte: number): boolean {
    const { accepting, callFirst, callReturn } = this.#grammar;
    let [state, frame] = [from, inside];
    for (;;) {
      const to = this.#row(state)[byte]!;
      if (to !== NONE) return this.#enter(to, frame);
      if (frame === null || accepting[state] === 0) return false;
      // The call has ended here. It is repeated, or the text goes on after it.
      const { call } = frame;
      const again = frame.mayRepeat ? this.#row(callFirst[call]!)[byte]! : NONE;
      if (again !== NONE) return this.#enter(again, this.#stack.repeated(frame));
      if (!frame.mayReturn) return false;
      state = callReturn[call]!;
      frame = frame.below;
    }
  }

  /**
   * Whether every plain (or every whole) character leads to the same place, and from there to one with the same masks, so that any
   * number of them is allowed.
   */
  loopAt(state: number, frame: Frame | null): Loop {
    const key = state * KINDS_MAX + (frame?.kind ?? 0);
    const known = this.#loops.get(key);
    if (known !== undefined) return known;
    const first = this.#afterAll(state, frame, PLAIN);
    const second = first && this.#afterAll(first.state, first.frame, PLAIN);
    let loop: Loop = Loop.None;
    if (first && second && isSame(first, second)) {
      loop = Loop.Plain;
      const [a, b] = [this.#afterWide({ state, frame }), this.#afterWide(first)];
      if (a && b && isSame(a, first) && isSame(b, first)) loop = Loop.Text;
    }
    if (this.#loops.size > LOOPS_MAX) this.#loops.clear();
    this.#loops.set(key, loop);
    return loop;
  }

  /** The place to which each of the bytes leads; null if they lead to several, or one leads nowhere. */
  #afterAll(state: number, frame: Frame | null, bytes: readonly number[]): Place | null {
    let place: Place | null = null;
    for (const byte of bytes) {
      if (!this.step(state, frame, byte)) return null;
      const { nextState, nextFrame } = this;
      if (place && (place.state !== nextState || place.frame !== nextFrame)) return null;
      place = { state: nextState, frame: nextFrame };
    }
    return place;
  }

  /** The place to which each character of more than one byte leads; null if they lead to several, or one leads nowhere. */
  #afterWide({ state, frame }: Place): Place | null {
    let result: Place | null = null;
    for (const bytes of WIDE) {
      let place: Place | null = { state, frame };
      for (const range of bytes) place = place && this.#afterAll(place.state, place.frame, range);
      if (!place || (result && !isSame(place, result))) return null;
      result = place;
    }
    return result;
  }

  canEnd({ state, frame }: GrammarPosition): boolean {
    return this.#grammar.accepting[state] === 1 && (frame === null || frame.canEnd);
  }

  canContinue({ state, frame }: GrammarPosition): boolean {
    const { accepting, edgeStarts } = this.#grammar;
    if (edgeStarts[state + 1]! > edgeStarts[state]!) return true;
    return accepting[state] === 1 && frame !== null && frame.canContinue;
  }

  /** The mask of a position. It depends on the stack only through the frame's kind. */
  maskAt({ state, frame }: GrammarPosition): Uint32Array {
    const key = `${state} ${frame?.kind ?? ""}`;
    const known = this.#masks.get(key);
    if (known) return known;
    const mask = this.trie.maskAt(this, state, frame);
    if ((this.#masks.size + 1) * mask.byteLength > MASK_BYTES_MAX) this.#masks.clear();
    this.#masks.set(key, mask);
    return mask;
  }

  #enter(to: number, frame: Frame | null): true {
    if (to >= 0) {
      this.nextState = to;
      this.nextFrame = frame;
      return true;
    }
    const { entryCalls, entryStarts, entryTo } = this.#grammar;
    const entry = -1 - to;
    let inner = frame;
    for (let i = entryStarts[entry]!; i < entryStarts[entry + 1]!; i++) {
      inner = this.#stack.entered(inner, entryCalls[i]!);
    }
    this.nextState = entryTo[entry]!;
    this.nextFrame = inner;
    return true;
  }

  #row(state: number): Int32Array {
    const known = this.#rows[state];
    if (known) return known;
    const { edgeStarts, edgeMin, edgeMax, edgeTo } = this.#grammar;
    const row = new Int32Array(256).fill(NONE);
    for (let edge = edgeStarts[state]!; edge < edgeStarts[state + 1]!; edge++) {
      row.fill(edgeTo[edge]!, edgeMin[edge], edgeMax[edge]! + 1);
    }
    return (this.#rows[state] = row);
  }
}
