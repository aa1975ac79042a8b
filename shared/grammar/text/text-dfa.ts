/** Deterministic automata over characters. Their texts can be intersected and complemented, which expressions cannot. */
import type { CharSet } from "refa";
import { GrammarError } from "../rules/grammar-error.ts";
import { ANY_CHARACTER, pieces } from "./characters.ts";
import type { Meter } from "./meter.ts";
import type { TextNfa } from "./text-nfa.ts";

export interface TextDfa {
  /** State 0 is the start. */
  readonly states: readonly TextState[];
}

export interface TextState {
  /** No two have a character in common. A character without an edge leads to no text. */
  readonly edges: readonly { readonly set: CharSet; readonly to: number }[];
  /** Which kind of text may end here; 0 if none may. An automaton of one kind of text has 0 and 1. */
  readonly outcome: number;
}

/** States of one automaton, at most. */
export const STATES_MAX = 4_000;

/** The next character must be a member of the set, or the text must end. */
interface Next {
  readonly set: CharSet;
  readonly mayEnd: boolean;
}
const ANYTHING: Next = { set: ANY_CHARACTER, mayEnd: true };

/** @throws GrammarError if the budget is exceeded */
export function textDfa(nfa: TextNfa, meter: Meter): TextDfa {
  return minimal(new Determinizer(nfa, meter).run(), meter);
}

class Determinizer {
  readonly #nfa: TextNfa;
  readonly #meter: Meter;
  readonly #ids = new Map<string, number>();
  readonly #sets: (readonly Item[])[] = [];
  /** The conditions on the character before, of all jumps. */
  readonly #before: CharSet[];

  constructor(nfa: TextNfa, meter: Meter) {
    this.#nfa = nfa;
    this.#meter = meter;
    const besides = nfa.states.flatMap(({ jumps }) => jumps.map(({ beside }) => beside));
    this.#before = besides.flatMap((beside) => (beside?.side === "before" ? [beside.set] : []));
  }

  run(): TextDfa {
    this.#state(this.#closure([this.#nfa.start], null));
    const states: TextState[] = [];
    for (let id = 0; id < this.#sets.length; id++) states.push(this.#resolve(this.#sets[id]!));
    return { states };
  }

  #state(items: readonly Item[]): number {
    const key = items.map(({ key }) => key).join();
    const known = this.#ids.get(key);
    if (known !== undefined) return known;
    if (this.#sets.length >= STATES_MAX) throw tooManyStates(this.#meter);
    this.#ids.set(key, this.#sets.length);
    return this.#sets.push(items) - 1;
  }

  /** @param before a character that was read last; null at the start of the text */
  #closure(from: readonly number[], before: number | null): Item[] {
    const found = new Map<string, Item>();
    const open: { state: number; next: Next }[] = from.map((state) => ({ state, next: ANYTHING }));
    for (let at = open.pop(); at; at = open.pop()) {
      const key = itemKey(at.state, at.next);
      if (found.has(key)) continue;
      found.set(key, { ...at, key });
      const { jumps } = this.#nfa.states[at.state]!;
      const ranges = at.next === ANYTHING ? 0 : at.next.set.ranges.length;
      this.#meter.spend(1 + jumps.length + (ranges >>> 3));
      for (const { to, beside } of jumps) {
        if (beside?.side !== "before") {
          const next = beside ? both(at.next, beside) : at.next;
          if (!next.set.isEmpty || next.mayEnd) open.push({ state: to, next });
        } else if (before === null ? beside.mayBeEdge : beside.set.has(before)) {
          open.push({ state: to, next: at.next });
        }
      }
    }
    const items = [...found.values()];
    const last = this.#nfa.end;
    return items
      .filter(({ state }) => state === last || this.#nfa.states[state]!.reads.length > 0)
      .toSorted((a, b) => a.state - b.state || (a.key < b.key ? -1 : 1));
  }

  #resolve(items: readonly Item[]): TextState {
    const { states, end } = this.#nfa;
    const sets: { set: CharSet; owner: number }[] = [];
    for (const { state, next } of items) {
      for (const { set, to } of states[state]!.reads) {
        const possible = next === ANYTHING ? set : set.intersect(next.set);
        sets.push({ set: possible, owner: to });
      }
    }
    // The conditions on the character before are owners, too, so that each piece meets all or none of one.
    if (sets.length > 0) this.#before.forEach((set, i) => sets.push({ set, owner: -1 - i }));
    const edges = new Map<number, CharSet>();
    for (const { owners, set } of pieces(sets, (steps) => this.#meter.spend(steps))) {
      const targets = owners.filter((owner) => owner >= 0);
      if (targets.length === 0) continue;
      const to = this.#state(this.#closure(targets, set.ranges[0]!.min));
      edges.set(to, edges.get(to)?.union(set) ?? set);
    }
    return {
      edges: Array.from(edges, ([to, set]) => ({ to, set })),
      outcome: Number(items.some(({ state, next }) => state === end && next.mayEnd)),
    };
  }
}

interface Item {
  readonly state: number;
  readonly next: Next;
  readonly key: string;
}

const rangesKey = (set: CharSet) => set.ranges.map(({ min, max }) => `${min}-${max}`).join(" ");

const itemKey = (state: number, next: Next) =>
  next === ANYTHING ? String(state) : `${state}:${rangesKey(next.set)}:${Number(next.mayEnd)}`;

function both(next: Next, { set, mayBeEdge }: { set: CharSet; mayBeEdge: boolean }): Next {
  return { set: next.set.intersect(set), mayEnd: next.mayEnd && mayBeEdge };
}

export function tooManyStates({ path }: Meter): GrammarError {
  const message = `is too large or too ambiguous: its automaton may have ${STATES_MAX} states`;
  return new GrammarError(path, message);
}

/** Rounds of `minimal`. An automaton that needs more is left as it is, which costs only size. */
const ROUNDS_MAX = 100;

/** Merges states with the same texts, and removes those without any. */
export function minimal({ states }: TextDfa, meter: Meter): TextDfa {
  const alive = living(states, meter);
  const keys = new SetKeys(meter);
  const edges = states.map(({ edges }) => edges.filter(({ to }) => alive[to]));
  let classes = states.map(({ outcome }, i) => (alive[i] ? outcome : -1));
  let count = new Set(classes).size;
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const ids = new Map<string, number>();
    const before = classes;
    classes = states.map((_, i) => {
      meter.spend(1 + (edges[i]!.length >>> 1));
      return alive[i] ? idOf(ids, `${before[i]} ${signatureOf(edges[i]!, before, keys)}`) : -1;
    });
    const next = new Set(classes).size;
    if (next === count) return merged(states, classes, alive);
    count = next;
  }
  return merged(states, [...states.keys()], alive);
}

/** Short keys of sets: equal sets have equal ones. */
class SetKeys {
  readonly #meter: Meter;
  readonly #bySet = new Map<CharSet, number>();
  readonly #byRanges = new Map<string, number>();

  constructor(meter: Meter) {
    this.#meter = meter;
  }

  of(set: CharSet): number {
    const known = this.#bySet.get(set);
    if (known !== undefined) return known;
    this.#meter.spend(set.ranges.length >>> 4);
    const key = idOf(this.#byRanges, rangesKey(set));
    this.#bySet.set(set, key);
    return key;
  }
}

function signatureOf(edges: TextState["edges"], classes: readonly number[], keys: SetKeys): string {
  const byClass = new Map<number, CharSet>();
  for (const { set, to } of edges) {
    const target = classes[to]!;
    byClass.set(target, byClass.get(target)?.union(set) ?? set);
  }
  return Array.from(byClass, ([target, set]) => `${target}:${keys.of(set)}`)
    .toSorted()
    .join(";");
}

function idOf(ids: Map<string, number>, key: string): number {
  const id = ids.get(key) ?? ids.size;
  ids.set(key, id);
  return id;
}

function merged(
  states: readonly TextState[],
  classes: readonly number[],
  alive: readonly boolean[],
): TextDfa {
  const ids = new Map([[classes[0]!, 0]]);
  const order = [0];
  const result: TextState[] = [];
  for (let i = 0; i < order.length; i++) {
    const { edges, outcome } = states[order[i]!]!;
    const byTarget = new Map<number, CharSet>();
    for (const { set, to } of edges) {
      if (!alive[to]) continue;
      let id = ids.get(classes[to]!);
      if (id === undefined) {
        id = ids.size;
        ids.set(classes[to]!, id);
        order.push(to);
      }
      byTarget.set(id, byTarget.get(id)?.union(set) ?? set);
    }
    result.push({ outcome, edges: Array.from(byTarget, ([to, set]) => ({ to, set })) });
  }
  return { states: result };
}

/** Of each state: whether any text can be finished from it. */
function living(states: readonly TextState[], meter: Meter): boolean[] {
  const sources: number[][] = states.map(() => []);
  for (const [from, { edges }] of states.entries()) {
    meter.spend(1 + edges.length);
    for (const { to } of edges) sources[to]!.push(from);
  }
  const alive = states.map(({ outcome }) => outcome > 0);
  const open = states.flatMap(({ outcome }, i) => (outcome > 0 ? [i] : []));
  for (let at = open.pop(); at !== undefined; at = open.pop()) {
    for (const from of sources[at]!) {
      if (!alive[from]) open.push(from);
      alive[from] = true;
    }
  }
  return alive;
}
