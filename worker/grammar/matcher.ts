/**
 * Where a text stands in a grammar. A position is all places of the automaton that the text may have come to, each with
 * its stack of rules to return to. Positions are made when they are first reached, and kept with what follows from them:
 * the many texts of one grammar walk the same few.
 *
 * With 2,048 tokens (the demo models) a mask that is there costs 3 µs a token, and the lost mass 7, of a step of 2.8 ms; with
 * 50,000 they are 0.2 and 0.3 ms, with 100,000 twice that. A mask that is not there yet takes up to 0.3, 5 and 16 ms.
 */
import { AppError } from "../../shared/errors.ts";
import type { Grammar } from "../../shared/grammar.ts";
import { automatonOf, type Automaton } from "./automaton.ts";
import type { TokenTrie } from "./token-trie.ts";

/** Places of one position. More are a grammar that can be read in very many ways, or one that calls itself for ever. */
const PLACES_MAX = 4_096;
/** Positions kept for each grammar, of 2 KB and, where a token began, a mask: 16 KB with 128,000 tokens. */
const POSITIONS_MAX = 1_024;

/** The states to return to; the same stack is the same object. */
interface Stack {
  readonly id: number;
  readonly state: number;
  readonly below: Stack | null;
}

interface Place {
  readonly state: number;
  readonly stack: Stack | null;
}

export class Position {
  readonly #matcher: Matcher;
  readonly #places: readonly Place[];
  /** Whether the text may end here. */
  readonly canEnd: boolean;
  /** By byte; undefined is not known yet. */
  readonly #next: (Position | null | undefined)[] = Array.from({ length: 256 });
  #mask: Uint32Array | null = null;

  /** @param places all of those that are reached without a byte */
  constructor(matcher: Matcher, places: readonly Place[], canEnd: boolean) {
    this.#matcher = matcher;
    this.#places = places;
    this.canEnd = canEnd;
  }

  /** Whether the text can go on. */
  get canGoOn(): boolean {
    return this.#places.length > 0;
  }

  /** The position after a byte, or null if it may not come. */
  after(byte: number): Position | null {
    const known = this.#next[byte];
    if (known !== undefined) return known;
    const next = this.#matcher.step(this.#places, byte);
    this.#next[byte] = next;
    return next;
  }

  /** [V / 32] bit by bit, the tokens that may come. */
  get mask(): Uint32Array {
    return (this.#mask ??= this.#matcher.trie.maskAt(this));
  }
}

/** One grammar over one vocabulary. */
export class Matcher {
  readonly trie: TokenTrie;
  readonly start: Position;
  readonly #automaton: Automaton;
  readonly #stacks = new Map<string, Stack>();
  readonly #positions = new Map<string, Position>();
  #lastStack = 0;

  /** @throws AppError invalid_request */
  constructor(grammar: Grammar, trie: TokenTrie) {
    this.trie = trie;
    this.#automaton = automatonOf(grammar);
    this.start = this.#positionAt([{ state: this.#automaton.starts[0]!, stack: null }])!;
  }

  step(places: readonly Place[], byte: number): Position | null {
    const reached: Place[] = [];
    for (const { state, stack } of places) {
      for (const { ranges, to } of this.#automaton.states[state]!.bytes) {
        const fits = ranges.some(([min, max]) => byte >= min && byte <= max);
        if (fits) reached.push({ state: to, stack });
      }
    }
    return this.#positionAt(reached);
  }

  #positionAt(reached: readonly Place[]): Position | null {
    if (reached.length === 0) return null;
    const { places, canEnd } = this.#closure(reached);
    const key = places.map(keyOf).sort().join(" ") + (canEnd ? " end" : "");
    const known = this.#positions.get(key);
    if (known) return known;
    // Texts under way keep theirs.
    if (this.#positions.size >= POSITIONS_MAX) {
      this.#positions.clear();
      this.#stacks.clear();
    }
    const position = new Position(this, places, canEnd);
    this.#positions.set(key, position);
    return position;
  }

  /** What is reached without a byte: over skips, into rules and out of them. Only places that read a byte are kept. */
  #closure(reached: readonly Place[]): { places: Place[]; canEnd: boolean } {
    const { states, starts } = this.#automaton;
    const places: Place[] = [];
    const seen = new Set<string>();
    const open = [...reached];
    let canEnd = false;
    for (let place = open.pop(); place; place = open.pop()) {
      const key = keyOf(place);
      if (seen.has(key)) continue;
      seen.add(key);
      if (seen.size > PLACES_MAX) throw tooAmbiguous();
      const { stack } = place;
      const { bytes, skips, calls, isEnd } = states[place.state]!;
      if (bytes.length > 0) places.push(place);
      for (const state of skips) open.push({ state, stack });
      for (const { rule, to } of calls) {
        open.push({ state: starts[rule]!, stack: this.#push(stack, to) });
      }
      if (isEnd && stack) open.push({ state: stack.state, stack: stack.below });
      else if (isEnd) canEnd = true;
    }
    return { places, canEnd };
  }

  #push(below: Stack | null, state: number): Stack {
    const key = `${state} ${below?.id ?? ""}`;
    const known = this.#stacks.get(key);
    if (known) return known;
    const stack = { id: ++this.#lastStack, state, below };
    this.#stacks.set(key, stack);
    return stack;
  }
}

const keyOf = ({ state, stack }: Place) => `${state}/${stack?.id ?? ""}`;

function tooAmbiguous(): AppError {
  const message = "response_format can be read in too many ways, or refers to itself without end";
  return new AppError("invalid_request", message, { param: "response_format" });
}
