/**
 * Matches a text against a compiled grammar, byte by byte. A position is one state of the automaton and one stack of calls;
 * the next position is found by a table lookup. Token masks are computed when they are first needed, and kept, because the
 * texts of one grammar go through the same few positions.
 */
import { NOWHERE, type CompiledGrammar } from "../../../shared/grammar/automaton/compiled.ts";
import { CallStack, type Frame } from "./call-stack.ts";
import { Runs } from "./runs.ts";
import type { TokenTrie } from "./token-trie.ts";

/** Bytes of token masks that a matcher keeps. */
const MASK_BYTES_MAX = 2 ** 23;

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
  readonly runs = new Runs(this);
  readonly #grammar: CompiledGrammar;
  readonly #stack: CallStack;
  /** By state and byte: the next state, -1 - e for entry e, or NOWHERE. A row is written when it is first needed. */
  readonly #rows: (Int32Array | undefined)[];
  /** 1 for each state in which its part ends and no byte follows within the part. */
  readonly #isLast: Uint8Array;
  /** By state and kind of stack. */
  readonly #masks = new Map<string, Uint32Array>();
  /** The result of the last `step` that returned true. */
  nextState = 0;
  nextFrame: Frame | null = null;

  constructor(grammar: CompiledGrammar, trie: TokenTrie) {
    this.trie = trie;
    this.#grammar = grammar;
    this.#stack = new CallStack(grammar, trie.bytesMax);
    const { accepting, edgeStarts } = grammar;
    this.#isLast = accepting.map((end, i) => (edgeStarts[i + 1] === edgeStarts[i] ? end : 0));
    this.#rows = Array.from({ length: grammar.accepting.length });
    this.start = new GrammarPosition(this, 0, null);
  }

  /** Reads a byte. Sets `nextState` and `nextFrame`, which no object is created for: a mask takes 100,000s of steps. */
  step(from: number, inside: Frame | null, byte: number): boolean {
    const { accepting, callFirst, callReturn } = this.#grammar;
    let [state, frame] = [from, inside];
    for (;;) {
      const to = this.#row(state)[byte]!;
      if (to !== NOWHERE) return this.#enter(to, frame);
      if (frame === null || accepting[state] === 0) return false;
      // The call has ended here. It is repeated, or the text goes on after it.
      const { call } = frame;
      const again = frame.mayRepeat ? this.#row(callFirst[call]!)[byte]! : NOWHERE;
      if (again !== NOWHERE) return this.#enter(again, this.#stack.repeated(frame));
      if (!frame.mayReturn) return false;
      state = callReturn[call]!;
      frame = frame.below;
    }
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
    if (to >= 0) return this.#arrive(to, frame);
    const { entryCalls, entryStarts, entryTo } = this.#grammar;
    const entry = -1 - to;
    let inner = frame;
    for (let i = entryStarts[entry]!; i < entryStarts[entry + 1]!; i++) {
      inner = this.#stack.entered(inner, entryCalls[i]!);
    }
    return this.#arrive(entryTo[entry]!, inner);
  }

  /**
   * A call that can neither go on nor be repeated is left at once: the place is then the same as after a text that needs no call, as
   * in a string, where only characters of more than one byte are calls.
   */
  #arrive(at: number, inside: Frame | null): true {
    let [state, frame] = [at, inside];
    while (frame !== null && this.#isLast[state] === 1 && frame.mayReturn && !frame.mayRepeat) {
      state = this.#grammar.callReturn[frame.call]!;
      frame = frame.below;
    }
    this.nextState = state;
    this.nextFrame = frame;
    return true;
  }

  #row(state: number): Int32Array {
    const known = this.#rows[state];
    if (known) return known;
    const { edgeStarts, edgeMin, edgeMax, edgeTo, fallback } = this.#grammar;
    const other = fallback[state]!;
    const row = other < 0 ? new Int32Array(256).fill(NOWHERE) : this.#row(other).slice();
    for (let edge = edgeStarts[state]!; edge < edgeStarts[state + 1]!; edge++) {
      row.fill(edgeTo[edge]!, edgeMin[edge], edgeMax[edge]! + 1);
    }
    return (this.#rows[state] = row);
  }
}
