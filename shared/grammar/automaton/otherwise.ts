/**
 * The bytes of a state that are read by other texts: all but a few of them are left to another state of the automaton, its fallback, so
 * that a place in one of many names has few edges of its own.
 */
import {
  addRanges,
  addSet,
  emptySet,
  isEmptySet,
  rangesWithin,
  without,
  type ByteSet,
} from "../rules/byte-set.ts";
import type { ByteRange } from "../rules/grammar.ts";
import { END, type Nfa } from "./nfa.ts";

/** An edge of the nondeterministic automaton. */
export interface Read {
  readonly ranges: readonly ByteRange[];
  readonly to: number;
}

export interface Otherwise {
  /** The states that the fallback stands for. */
  readonly from: readonly number[];
  /** The bytes that are not left to the fallback. */
  readonly own: ByteSet;
  /** The edges of the other texts, with those of these bytes that they may begin with. */
  readonly reads: readonly Read[];
  /** Whether the empty text is among the other texts. */
  readonly mayEnd: boolean;
}

export class OtherTexts {
  readonly #nfa: Nfa;
  /** By state: the edges that are reached without reading, with all calls replaced by copies. */
  readonly #edges = new Map<number, { reads: readonly Read[]; mayEnd: boolean }>();

  constructor(nfa: Nfa) {
    this.#nfa = nfa;
  }

  /**
   * @param members states of the nondeterministic automaton, as `closure` returns them
   * @returns null if none of them has other texts
   */
  of(members: readonly number[]): Otherwise | null {
    const { states } = this.#nfa;
    if (!members.some((state) => states[state]!.others !== undefined)) return null;
    const own = emptySet();
    const from: number[] = [];
    for (const state of members) {
      const { ranges, call, others, unless, origin } = states[state]!;
      if (ranges) addRanges(own, ranges);
      if (unless) addRanges(own, unless);
      if (call) addSet(own, this.#nfa.first(call.body, origin));
      if (others !== undefined && !from.includes(others)) from.push(others);
    }
    const reads: Read[] = [];
    for (const state of members) {
      const { others, unless } = states[state]!;
      if (others === undefined) continue;
      const excluded = emptySet();
      addRanges(excluded, unless!);
      const left = without(own, excluded);
      if (isEmptySet(left)) continue;
      for (const { ranges, to } of this.#edgesOf(others).reads) {
        const within = rangesWithin(ranges, left);
        if (within.length > 0) reads.push({ ranges: within, to });
      }
    }
    return { from, own, reads, mayEnd: from.some((state) => this.#edgesOf(state).mayEnd) };
  }

  #edgesOf(state: number) {
    const known = this.#edges.get(state);
    if (known) return known;
    const { states } = this.#nfa;
    const replaced = new Set<number>();
    let members = this.#nfa.closure([state]);
    for (;;) {
      const calls = members.filter((member) => states[member]!.call);
      if (calls.length === 0) break;
      for (const call of calls) replaced.add(call);
      const copies = calls.map((call) => this.#nfa.expand(call));
      const kept = members.filter((member) => !replaced.has(member));
      members = this.#nfa.closure([...kept, ...copies]).filter((member) => !replaced.has(member));
    }
    if (members.some((member) => states[member]!.others !== undefined)) {
      throw new Error("Other texts must not have other texts themselves");
    }
    const reads = members.flatMap((member) => {
      const { ranges, to } = states[member]!;
      return ranges ? [{ ranges, to: to! }] : [];
    });
    const edges = { reads, mayEnd: members.includes(END) };
    this.#edges.set(state, edges);
    return edges;
  }
}

const ALL_BYTES: readonly ByteRange[] = [[0, 255]];

/** The bytes that are not left to the fallback, and those of them that neither an edge nor a call reads. */
export function fallbackBytes(
  { own }: Otherwise,
  edges: readonly { readonly min: number; readonly max: number }[],
  calls: readonly { readonly first: ByteSet }[],
) {
  const read = emptySet();
  addRanges(
    read,
    edges.map(({ min, max }) => [min, max]),
  );
  for (const { first } of calls) addSet(read, first);
  return {
    own: rangesWithin(ALL_BYTES, own),
    forbidden: rangesWithin(ALL_BYTES, without(own, read)),
  };
}
