/**
 * Makes the automaton deterministic: a state stands for all states that the text so far can have reached. Where a byte could
 * both begin a call and be read otherwise, the call is replaced by a copy, so each byte has one meaning.
 */
import type { Budget } from "../rules/budget.ts";
import { addRanges, addSet, emptySet, intersects, type ByteSet } from "../rules/byte-set.ts";
import type { ByteRange } from "../rules/grammar.ts";
import type { Parts } from "../rules/parts.ts";
import { END, type Call, type Nfa, type NfaState } from "./nfa.ts";
import { numberKey } from "./number-key.ts";
import { fallbackBytes, OtherTexts, type Otherwise, type Read } from "./otherwise.ts";

/** An edge that reads one byte from min to max. */
export interface DfaEdge {
  readonly min: number;
  readonly max: number;
  readonly to: number;
}

export interface DfaCall extends Call {
  /** First state of the called part. */
  readonly start: number;
  /** The bytes with which the call begins. */
  readonly first: ByteSet;
}

export interface DfaState {
  readonly edges: readonly DfaEdge[];
  /** No two begin with the same byte, and none with a byte of an edge. */
  readonly calls: readonly DfaCall[];
  /** The state whose edges and calls count for all bytes but `own`; null if there is none. No byte of `forbidden` is allowed. */
  readonly fallback: {
    readonly to: number;
    readonly own: readonly ByteRange[];
    readonly forbidden: readonly ByteRange[];
  } | null;
  /** Whether the part may end here. */
  readonly accepting: boolean;
  /** The part of the format that the state comes from (Budget.origin). */
  readonly origin: number;
}

/** The calls that a copy must replace in any case: their end cannot be told by the next byte. */
export type Copied = ReadonlySet<string>;
export const callKey = ({ body, min, max }: Call) => `${body} ${min} ${max}`;

/** @returns the states; the first one is the start */
export function determinize(
  nfa: Nfa,
  root: number,
  budget: Budget,
  copied: Copied,
): Parts<DfaState[]> {
  return new Determinizer(nfa, budget, copied).run(root);
}

/** Steps of one part of the work: about a millisecond. */
const STEPS_PER_PART = 5_000;

/** Steps that looking up a state counts as, beside those of its closure. */
const STATE_STEPS = 4;

class Determinizer {
  readonly #nfa: Nfa;
  readonly #budget: Budget;
  readonly #copied: Copied;
  readonly #otherTexts: OtherTexts;
  readonly #ids = new Map<string, number>();
  readonly #sets: (readonly number[])[] = [];
  /** The state that stands for the closure of one state, by that state. */
  readonly #single: (number | undefined)[] = [];
  /** The state that stands for a set of one state, by that state. */
  readonly #only: (number | undefined)[] = [];
  /** Buffers of `#edges`. */
  readonly #isBorder = new Uint8Array(257);
  readonly #intervalOf = new Uint16Array(257);

  constructor(nfa: Nfa, budget: Budget, copied: Copied) {
    this.#nfa = nfa;
    this.#budget = budget;
    this.#copied = copied;
    this.#otherTexts = new OtherTexts(nfa);
  }

  *run(root: number): Parts<DfaState[]> {
    this.#state([root]);
    const states: DfaState[] = [];
    let until = this.#budget.used + STEPS_PER_PART;
    for (let id = 0; id < this.#sets.length; id++) {
      states.push(this.#resolve(this.#sets[id]!));
      if (this.#budget.used < until) continue;
      until = this.#budget.used + STEPS_PER_PART;
      yield;
    }
    return states;
  }

  /** The state that stands for the closure of these. */
  #state(from: readonly number[]): number {
    if (from.length > 1) return this.#stateOf(from);
    const [state] = from as [number];
    return (this.#single[state] ??= this.#stateOf(from));
  }

  #stateOf(from: readonly number[]): number {
    const set = this.#nfa.closure(from);
    const { origin } = this.#nfa.states[from[0]!]!;
    if (set.length === 1) {
      this.#budget.spend(1, origin);
      return (this.#only[set[0]!] ??= this.#sets.push(set) - 1);
    }
    this.#budget.spend(STATE_STEPS, origin);
    const key = numberKey(set);
    const known = this.#ids.get(key);
    if (known !== undefined) return known;
    this.#ids.set(key, this.#sets.length);
    return this.#sets.push(set) - 1;
  }

  #resolve(set: readonly number[]): DfaState {
    const { states } = this.#nfa;
    const simple = set.length === 1 ? this.#simple(states[set[0]!]!) : null;
    if (simple) return simple;
    let members = set;
    const replaced = new Set<number>();
    for (;;) {
      const otherwise = this.#otherTexts.of(members);
      const { calls, conflicting } = this.#callsOf(members, otherwise?.reads ?? []);
      if (conflicting.length === 0) return this.#toState(members, calls, otherwise);
      for (const state of conflicting) replaced.add(state);
      const copies = conflicting.map((state) => this.#nfa.expand(state));
      const kept = members.filter((state) => !replaced.has(state));
      members = this.#nfa.closure([...kept, ...copies]);
      // A copy may lead back to a call that was replaced: its copy is among the members already.
      members = members.filter((state) => !replaced.has(state));
      this.#budget.spend(members.length, states[members[0] ?? END]!.origin);
    }
  }

  /** The state of a place in a text: it reads one byte. Null for other states. */
  #simple({ ranges, to, others, epsilons, origin }: NfaState): DfaState | null {
    if (!ranges || epsilons.length > 0) return null;
    const edges = this.#edges([{ ranges, to: to! }], origin);
    // A text begins with another byte than the one that its place reads (Nfa.build).
    const fallback =
      others === undefined ? null : { to: this.#state([others]), own: ranges, forbidden: [] };
    return { edges, calls: [], fallback, accepting: false, origin };
  }

  /** The calls of these states, and the states whose calls must be replaced. Equal calls are one, with several returns. */
  #callsOf(members: readonly number[], others: readonly Read[]) {
    const { states } = this.#nfa;
    if (!members.some((state) => states[state]!.call)) return { calls: [], conflicting: [] };
    const bytes = emptySet();
    for (const { ranges } of others) addRanges(bytes, ranges);
    const groups = new Map<
      string,
      { call: Call; first: ByteSet; from: number[]; origin: number }
    >();
    for (const state of members) {
      const { ranges, call, origin } = states[state]!;
      if (ranges) addRanges(bytes, ranges);
      if (!call) continue;
      const key = callKey(call);
      const group = groups.get(key);
      if (group) group.from.push(state);
      else
        groups.set(key, { call, first: this.#nfa.first(call.body, origin), from: [state], origin });
    }
    const seen = emptySet();
    const twice = emptySet();
    for (const first of [bytes, ...[...groups.values()].map((group) => group.first)]) {
      for (let i = 0; i < 8; i++) twice[i]! |= seen[i]! & first[i]!;
      addSet(seen, first);
    }
    const calls = [...groups.values()];
    const conflicting = calls
      .filter(({ call, first }) => this.#copied.has(callKey(call)) || intersects(first, twice))
      .flatMap(({ from }) => from);
    this.#budget.spend(8 * calls.length, states[members[0] ?? END]!.origin);
    return { calls, conflicting };
  }

  #toState(
    members: readonly number[],
    groups: readonly { call: Call; first: ByteSet; from: readonly number[]; origin: number }[],
    otherwise: Otherwise | null,
  ): DfaState {
    const { states } = this.#nfa;
    const reading: Read[] = [];
    for (const member of members) {
      const { ranges, to } = states[member]!;
      if (ranges) reading.push({ ranges, to: to! });
    }
    const calls = groups.map(({ call, first, from, origin }) => ({
      ...call,
      first,
      start: this.#state([this.#nfa.build(call.body, END, origin)]),
      to: this.#state(from.map((state) => states[state]!.call!.to)),
    }));
    const origin = states[members.findLast((state) => state !== END) ?? END]!.origin;
    const ends = members.includes(END);
    if (!otherwise) {
      return {
        edges: this.#edges(reading, origin),
        calls,
        fallback: null,
        accepting: ends,
        origin,
      };
    }
    reading.push(...otherwise.reads);
    const edges = this.#edges(reading, origin);
    const fallback = { to: this.#state(otherwise.from), ...fallbackBytes(otherwise, edges, calls) };
    return { edges, calls, fallback, accepting: ends || otherwise.mayEnd, origin };
  }

  #edges(reading: readonly Read[], origin: number): DfaEdge[] {
    const [only] = reading;
    if (only === undefined) return [];
    if (reading.length === 1) {
      const { ranges, to } = only;
      this.#budget.spend(ranges.length, origin);
      const target = this.#state([to]);
      return ranges.map(([min, max]) => ({ min, max, to: target }));
    }
    // The bytes fall into intervals that all ranges treat alike.
    const isBorder = this.#isBorder.fill(0);
    for (const { ranges } of reading) {
      for (const [min, max] of ranges) isBorder[min] = isBorder[max + 1] = 1;
    }
    const borders: number[] = [];
    const intervalOf = this.#intervalOf;
    for (let byte = 0; byte <= 256; byte++) {
      if (isBorder[byte] === 1) borders.push(byte);
      intervalOf[byte] = borders.length - 1;
    }
    const targets: number[][] = borders.map(() => []);
    for (const { ranges, to } of reading) {
      for (const [min, max] of ranges) {
        const [from, until] = [intervalOf[min]!, intervalOf[max]!];
        this.#budget.spend(1 + until - from, origin);
        for (let i = from; i <= until; i++) targets[i]!.push(to);
      }
    }
    const edges: DfaEdge[] = [];
    for (const [i, to] of targets.entries()) {
      if (to.length === 0) continue;
      const edge = { min: borders[i]!, max: borders[i + 1]! - 1, to: this.#state(to) };
      const last = edges.at(-1);
      if (last?.to === edge.to && last.max === edge.min - 1) {
        edges[edges.length - 1] = { ...last, max: edge.max };
      } else edges.push(edge);
    }
    return edges;
  }
}
