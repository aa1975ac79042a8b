/** Combines automata over characters: texts of several at once, texts of none, and kinds of texts. */
import type { CharSet } from "refa";
import { ANY_CHARACTER, pieces } from "./characters.ts";
import type { Meter } from "./meter.ts";
import { minimal, STATES_MAX, tooManyStates, type TextDfa, type TextState } from "./text-dfa.ts";

/** The state of an automaton that has read a character without an edge. */
const DEAD = -1;

/** The texts of all of `positive` and of none of `negative`; all texts without any. */
export function intersection(
  positive: readonly TextDfa[],
  negative: readonly TextDfa[],
  meter: Meter,
): TextDfa {
  const [only] = positive;
  if (only && positive.length === 1 && negative.length === 0) return only;
  const count = positive.length;
  return product(
    [...positive, ...negative],
    (ends) => Number(ends.every((ends, i) => ends === i < count)),
    (states) => states.some((state, i) => state === DEAD && i < count),
    meter,
  );
}

/** The texts of any of the automata. */
export function union(parts: readonly TextDfa[], meter: Meter): TextDfa {
  const [only] = parts;
  if (only && parts.length === 1) return only;
  const isDead = (states: readonly number[]) => states.every((state) => state === DEAD);
  return product(parts, (ends) => Number(ends.some(Boolean)), isDead, meter);
}

/**
 * @param outcomeOf the kind of a text, by whether it belongs to each of the automata; 0 for none
 * @param isHopeless whether no kind of text can be reached, by the states (DEAD is -1)
 */
export function product(
  parts: readonly TextDfa[],
  outcomeOf: (ends: readonly boolean[]) => number,
  isHopeless: (states: readonly number[]) => boolean,
  meter: Meter,
): TextDfa {
  const ids = new Map<string, number>();
  const tuples: (readonly number[])[] = [];
  const idOf = (states: readonly number[]): number => {
    const key = states.join();
    const known = ids.get(key);
    if (known !== undefined) return known;
    if (tuples.length >= STATES_MAX) throw tooManyStates(meter);
    meter.spend(1 + states.length);
    ids.set(key, tuples.length);
    return tuples.push(states) - 1;
  };
  idOf(parts.map(() => 0));
  const result: TextState[] = [];
  for (let id = 0; id < tuples.length; id++) {
    const tuple = tuples[id]!;
    const ends = tuple.map((state, i) => state !== DEAD && parts[i]!.states[state]!.outcome > 0);
    result.push({
      edges: edgesOf(parts, tuple, isHopeless, idOf, meter),
      outcome: outcomeOf(ends),
    });
  }
  return minimal({ states: result }, meter);
}

function edgesOf(
  parts: readonly TextDfa[],
  tuple: readonly number[],
  isHopeless: (states: readonly number[]) => boolean,
  idOf: (states: readonly number[]) => number,
  meter: Meter,
): TextState["edges"] {
  // An owner is an automaton and its next state, as one number. Every character has at least the owner -1.
  const sets: { set: CharSet; owner: number }[] = [{ set: ANY_CHARACTER, owner: -1 }];
  for (const [i, state] of tuple.entries()) {
    if (state === DEAD) continue;
    for (const { set, to } of parts[i]!.states[state]!.edges) {
      sets.push({ set, owner: to * parts.length + i });
    }
  }
  const byTarget = new Map<number, CharSet>();
  for (const { owners, set } of pieces(sets, (steps) => meter.spend(steps))) {
    const next = tuple.map(() => DEAD);
    for (const owner of owners) {
      if (owner >= 0) next[owner % parts.length] = Math.floor(owner / parts.length);
    }
    if (isHopeless(next)) continue;
    const to = idOf(next);
    byTarget.set(to, byTarget.get(to)?.union(set) ?? set);
  }
  return Array.from(byTarget, ([to, set]) => ({ to, set }));
}

/** The shortest and the longest text, in characters; Infinity if there is no longest one. */
export function lengthsOf({ states }: TextDfa): { readonly min: number; readonly max: number } {
  let min = 0;
  let level = [0];
  const seen = new Set(level);
  while (level.length > 0 && !level.some((state) => states[state]!.outcome > 0)) {
    min++;
    const next = new Set(level.flatMap((state) => states[state]!.edges.map(({ to }) => to)));
    level = [...next].filter((state) => !seen.has(state));
    for (const state of level) seen.add(state);
  }
  return { min, max: longest(states) };
}

function longest(states: readonly TextState[]): number {
  const known = states.map(() => 0);
  /** 0: not visited, 1: on the present path, 2: known. */
  const marks = states.map(() => 0);
  const path = [0];
  while (path.length > 0) {
    const at = path.at(-1)!;
    if (marks[at] === 2) path.pop();
    else if (marks[at] === 1) {
      known[at] = Math.max(0, ...states[at]!.edges.map(({ to }) => 1 + known[to]!));
      marks[at] = 2;
      path.pop();
    } else {
      marks[at] = 1;
      for (const { to } of states[at]!.edges) {
        if (marks[to] === 1) return Infinity;
        if (marks[to] === 0) path.push(to);
      }
    }
  }
  return known[0]!;
}
