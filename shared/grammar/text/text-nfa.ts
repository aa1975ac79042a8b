/** Patterns as nondeterministic automata over characters. Assertions about one character, such as ^, $ and \b, are conditions. */
import type { CharSet } from "refa";
import { GrammarError } from "../rules/grammar-error.ts";
import {
  besideOf,
  type Alternatives,
  type Beside,
  type Pattern,
  type PatternNode,
} from "./pattern.ts";
import { characters } from "./characters.ts";
import type { Meter } from "./meter.ts";

/** States of one pattern: a counted repetition is written out. */
const STATES_MAX = 20_000;

export interface TextNfaState {
  /** Edges that read a character. */
  readonly reads: { readonly set: CharSet; readonly to: number }[];
  /** Edges that read nothing, some with a condition. */
  readonly jumps: { readonly to: number; readonly beside: Beside | null }[];
}

export interface TextNfa {
  readonly states: readonly TextNfaState[];
  readonly start: number;
  readonly end: number;
}

/**
 * The texts in which the alternatives match.
 * @param anywhere on which sides of the match other characters may be
 * @throws GrammarError for assertions about more than one character
 */
export function textNfa(
  alternatives: Alternatives,
  alphabet: Pattern["alphabet"],
  anywhere: { readonly before: boolean; readonly after: boolean },
  meter: Meter,
): TextNfa {
  const builder = new Builder(meter);
  const [start, end] = [builder.add(), builder.add()];
  if (anywhere.before) builder.states[start]!.reads.push({ set: alphabet, to: start });
  if (anywhere.after) builder.states[end]!.reads.push({ set: alphabet, to: end });
  builder.jump(start, builder.alternatives(alternatives, end));
  return { states: builder.states, start, end };
}

class Builder {
  readonly states: TextNfaState[] = [];
  readonly #meter: Meter;

  constructor(meter: Meter) {
    this.#meter = meter;
  }

  add(): number {
    this.#meter.spend(1);
    if (this.states.length >= STATES_MAX) {
      throw new GrammarError(this.#meter.path, "is too large: use smaller repetitions");
    }
    return this.states.push({ reads: [], jumps: [] }) - 1;
  }

  jump(from: number, to: number, beside: Beside | null = null): void {
    this.#meter.spend(1);
    this.states[from]!.jumps.push({ to, beside });
  }

  /** The state from which one of the alternatives leads to `end`. */
  alternatives(alternatives: Alternatives, end: number): number {
    const start = this.add();
    for (const { elements } of alternatives) this.jump(start, this.sequence(elements, end));
    return start;
  }

  sequence(elements: readonly PatternNode[], end: number): number {
    let at = end;
    for (const element of elements.toReversed()) at = this.#element(element, at);
    return at;
  }

  #element(element: PatternNode, end: number): number {
    switch (element.type) {
      case "CharacterClass": {
        const state = this.add();
        this.states[state]!.reads.push({ set: characters(element.characters), to: end });
        return state;
      }
      case "Alternation":
        return this.alternatives(element.alternatives, end);
      case "Quantifier":
        return this.#repeat(element.alternatives, element.min, element.max, end);
      case "Assertion": {
        const beside = besideOf(element);
        if (!beside) throw unsupportedAssertion(this.#meter);
        const state = this.add();
        this.jump(state, end, beside);
        return state;
      }
      case "Concatenation":
      case "Expression":
      case "Unknown":
        throw new Error(`Unexpected ${element.type} in a parsed pattern`);
    }
  }

  #repeat(alternatives: Alternatives, min: number, max: number, end: number): number {
    let at = end;
    if (max === Infinity) {
      at = this.add();
      this.jump(at, end);
      this.jump(at, this.alternatives(alternatives, at));
    } else {
      for (let i = min; i < max; i++) {
        const optional = this.add();
        this.jump(optional, end);
        this.jump(optional, this.alternatives(alternatives, at));
        at = optional;
      }
    }
    for (let i = 0; i < min; i++) at = this.alternatives(alternatives, at);
    return at;
  }
}

export function unsupportedAssertion({ path }: Meter): GrammarError {
  const message =
    "has a lookaround of more than one character that is neither right after ^ nor right before $, which is not supported";
  return new GrammarError(path, message, { unsupported: true });
}
