/**
 * Compiles a grammar to a deterministic automaton with a stack (compiled.ts), within a budget of steps. The edge compiles each
 * response format before it accepts it, and the worker compiles it again to use it, so what the edge accepts is never
 * refused later.
 */
import { Budget } from "../rules/budget.ts";
import { addRanges, addSet, emptySet, intersects, type ByteSet } from "../rules/byte-set.ts";
import type { CompiledGrammar } from "./compiled.ts";
import { callKey, determinize, type DfaState } from "./dfa.ts";
import { emitTables } from "./emit.ts";
import { GrammarError } from "../rules/grammar-error.ts";
import type { Grammar } from "../rules/grammar.ts";
import { allParts, type Parts } from "../rules/parts.ts";
import { END, Nfa } from "./nfa.ts";
import { Nodes } from "./nodes.ts";

/** Compiles a grammar to the automaton that the worker walks. The parameters and errors are those of `grammarParts`. */
export function compileGrammar(...grammar: Parameters<typeof grammarParts>): CompiledGrammar {
  return allParts(grammarParts(...grammar));
}

/**
 * The same in parts.
 * @param budget steps that are left; a new budget for a grammar that was accepted before
 * @param origins the origin of each rule: the part of the format that it comes from, as the budget numbers it
 * @throws GrammarError if the grammar is too large or too ambiguous
 */
export function* grammarParts(
  grammar: Grammar,
  budget = new Budget(),
  origins: readonly number[] = Array.from(grammar.rules, () => budget.origin([])),
): Parts<CompiledGrammar> {
  const nodes = new Nodes(grammar, origins, budget);
  yield;
  const nfa = new Nfa(nodes, budget);
  const { body, origin } = nodes.rule(0);
  const root = nfa.build(body, END, origin);
  const copied = new Set<string>();
  for (;;) {
    const states = yield* determinize(nfa, root, budget, copied);
    yield;
    const openEnded = callsWithUnclearEnd(states, budget);
    if (openEnded.size === 0) {
      const [{ edges, calls, fallback, accepting }] = states as [DfaState];
      if (edges.length + calls.length === 0 && !fallback && !accepting) {
        throw new GrammarError([], "matches no text, or refers to itself without end");
      }
      return emitTables(states, budget);
    }
    for (const key of openEnded) copied.add(key);
  }
}

/**
 * The calls whose end the next byte does not tell: it could continue the part, begin its next repetition, or follow it.
 * @returns their keys
 */
function callsWithUnclearEnd(states: readonly DfaState[], budget: Budget): Set<string> {
  const unclear = new Set<string>();
  const continued = continuations(states, budget);
  for (const { calls } of states) {
    for (const call of calls) {
      const within = continued.get(call.start)!;
      const after = bytesOf(states, call.to);
      const repeats = call.max !== 1;
      const isUnclear =
        intersects(within, after) ||
        (repeats && (intersects(within, call.first) || intersects(call.first, after)));
      if (isUnclear) unclear.add(callKey(call));
    }
  }
  return unclear;
}

/** For the first state of each called part: the bytes that can continue a text of the part to a longer one. */
function continuations(states: readonly DfaState[], budget: Budget): Map<number, ByteSet> {
  const sets = new Map<number, ByteSet>();
  /** Of each part: calls at its end, whose continuations are its own. */
  const lastCalls = new Map<number, Set<number>>();
  const starts = new Set(states.flatMap(({ calls }) => calls.map(({ start }) => start)));
  for (const start of starts) {
    const set = emptySet();
    const last = new Set<number>();
    // The first state itself counts only if it is reached again: a part is entered by reading its first byte.
    const seen = new Set<number>();
    const open = [start];
    const visit = (state: number) => {
      if (!seen.has(state)) open.push(state);
      seen.add(state);
    };
    for (let at = open.pop(); at !== undefined; at = open.pop()) {
      const { edges, calls, fallback, accepting, origin } = states[at]!;
      budget.spend(1 + ((edges.length + calls.length) >>> 2), origin);
      if (fallback) visit(fallback.to);
      for (const { to } of edges) visit(to);
      for (const call of calls) {
        visit(call.to);
        if (!states[call.to]!.accepting) continue;
        last.add(call.start);
        if (call.max !== 1) addSet(set, call.first);
      }
      if (accepting && seen.has(at)) addSet(set, bytesOf(states, at));
    }
    sets.set(start, set);
    lastCalls.set(start, last);
  }
  for (let changed = true; changed;) {
    changed = false;
    for (const [start, set] of sets) {
      const before = set.join();
      for (const last of lastCalls.get(start)!) addSet(set, sets.get(last)!);
      budget.spend(1 + lastCalls.get(start)!.size, states[start]!.origin);
      if (set.join() !== before) changed = true;
    }
  }
  return sets;
}

/** The bytes that can be read in a state, or some more. */
function bytesOf(states: readonly DfaState[], at: number): ByteSet {
  const { edges, calls, fallback } = states[at]!;
  const set = emptySet();
  if (fallback) addSet(set, bytesOf(states, fallback.to));
  addRanges(
    set,
    edges.map(({ min, max }) => [min, max]),
  );
  for (const { first } of calls) addSet(set, first);
  return set;
}
