/** Writes automata over characters as rules of a grammar. */
import { choice, EMPTY, NEVER, repeat, type Rules } from "../rules/expressions.ts";
import type { Expression } from "../rules/grammar.ts";
import type { Alphabet } from "./characters.ts";
import { Edges } from "./edges.ts";
import type { Meter } from "./meter.ts";
import type { TextDfa, TextState } from "./text-dfa.ts";
import { lengthsOf } from "./text-product.ts";

/**
 * @param ending what follows a text of each outcome
 * @returns the rule of each state, from which its texts are read with their endings
 */
export function textRules(
  { states }: TextDfa,
  alphabet: Alphabet,
  ending: (outcome: number) => Expression,
  { rules, meter }: { readonly rules: Rules; readonly meter: Meter },
): Expression[] {
  const reserved = states.map(() => rules.reserve(meter.path));
  const references = reserved.map(({ reference }) => reference);
  const edgesOf = new Edges(alphabet, rules, meter);
  for (const [i, { edges, outcome }] of states.entries()) {
    const options = edges.flatMap(({ set, to }) => edgesOf.write(set, references[to]!));
    if (outcome > 0) options.push(ending(outcome));
    reserved[i]!.define(choice(options));
  }
  return references;
}

/** Pairs of a state and a count of characters that are written out, at most. */
const PAIRS_MAX = 1_000;

/** Lengths in characters; null for no limit. */
export interface Lengths {
  readonly min: number;
  readonly max: number | null;
}

/**
 * The texts of a length, as one expression. States are repeated for each count of characters, until every further character
 * leads back to the state. If that is too much, only shorter texts than `max` are written.
 */
export function textOfLength(
  { states }: TextDfa,
  lengths: Lengths,
  alphabet: Alphabet,
  { rules, meter }: { readonly rules: Rules; readonly meter: Meter },
): Expression {
  const { min } = lengths;
  const edgesOf = new Edges(alphabet, rules, meter);
  const capped = Math.max(min + 16, Math.floor(PAIRS_MAX / states.length));
  const straight = states.map((state, i) => (loops(state, i) ? { ...state, edges: [] } : state));
  const isCapped = lengths.max !== null && lengthsOf({ states: straight }).max === Infinity;
  const max = isCapped ? Math.min(lengths.max, capped) : lengths.max;
  const written = new Map<string, Expression>();
  const open: { state: number; count: number; define: (of: Expression) => void }[] = [];
  const at = (state: number, read: number): Expression => {
    // Beyond the minimum, the count does not matter if there is no maximum.
    const count = max === null ? Math.min(read, min) : read;
    const key = `${state} ${count}`;
    const known = written.get(key);
    if (known !== undefined) return known;
    const { reference, define } = rules.reserve(meter.path);
    written.set(key, reference);
    open.push({ state, count, define });
    return reference;
  };
  const root = at(0, 0);
  for (let next = open.pop(); next; next = open.pop()) {
    const { state, count, define } = next;
    const { edges, outcome } = states[state]!;
    meter.spend(4 + edges.length);
    const [edge] = edges;
    if (edge && loops(states[state]!, state)) {
      const character = alphabet(edge.set) ?? NEVER;
      const left = max === null ? null : max - count;
      define(repeat(rules.add(character, meter.path), Math.max(0, min - count), left));
      continue;
    }
    const options: Expression[] = outcome > 0 && count >= min ? [EMPTY] : [];
    if (max === null || count < max) {
      for (const { set, to } of edges) options.push(...edgesOf.write(set, at(to, count + 1)));
    }
    define(choice(options));
  }
  return root;
}

/** Whether a state accepts, and all its characters lead back to it. */
const loops = ({ edges, outcome }: TextState, self: number) =>
  outcome > 0 && edges.length === 1 && edges[0]!.to === self;
