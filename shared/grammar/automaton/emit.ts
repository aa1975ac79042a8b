/** Writes the states of a deterministic automaton as tables. */
import type { Budget } from "../rules/budget.ts";
import { addRanges, emptySet, rangesWithin, without } from "../rules/byte-set.ts";
import { NOWHERE, type CompiledGrammar } from "./compiled.ts";
import type { DfaCall, DfaState } from "./dfa.ts";

/** An edge, and the calls that it enters, outermost first, if there are any. */
interface FlatEdge {
  readonly min: number;
  readonly max: number;
  readonly to: number;
  readonly enters?: readonly number[];
}

/** @returns the tables of the automaton; state 0 is the first of `states`. @throws GrammarError if the budget is exceeded */
export function emitTables(states: readonly DfaState[], budget: Budget): CompiledGrammar {
  const calls: DfaCall[] = [];
  const flat: (readonly FlatEdge[] | undefined)[] = [];
  /** The text of the part is complete in this state, and cannot be longer. */
  const isLast = ({ accepting, edges, calls, fallback }: DfaState) =>
    accepting && edges.length + calls.length === 0 && !fallback;
  const edgesOf = (at: number): readonly FlatEdge[] => {
    const known = flat[at];
    if (known) return known;
    const state = states[at]!;
    if (state.calls.length === 0) return (flat[at] = state.edges);
    const result: FlatEdge[] = [...state.edges];
    for (const call of state.calls) {
      const once = call.max === 1;
      // Nothing follows the call: its end is the end of the part around it.
      const isTail = once && isLast(states[call.to]!);
      const id = isTail ? -1 : calls.push(call) - 1;
      for (const { min, max, to, enters } of allEdgesOf(call.start)) {
        if (once && !enters && isLast(states[to]!)) result.push({ min, max, to: call.to });
        else if (!isTail) result.push({ min, max, to, enters: [id, ...(enters ?? [])] });
        else result.push(enters ? { min, max, to, enters } : { min, max, to });
      }
    }
    const entered = result.reduce((sum, { enters }) => sum + (enters?.length ?? 0), 0);
    budget.spend(result.length + (entered >>> 3), state.origin);
    result.sort((a, b) => a.min - b.min);
    return (flat[at] = result);
  };
  /** With those of the fallback. */
  const allEdgesOf = (at: number): readonly FlatEdge[] => {
    const { fallback, origin } = states[at]!;
    if (!fallback) return edgesOf(at);
    const own = emptySet();
    addRanges(own, fallback.own);
    const left = without(emptySet().fill(0xffffffff), own);
    const others = allEdgesOf(fallback.to).flatMap((edge) =>
      rangesWithin([[edge.min, edge.max]], left).map(([min, max]) => ({ ...edge, min, max })),
    );
    budget.spend(others.length, origin);
    return [...edgesOf(at), ...others].toSorted((a, b) => a.min - b.min);
  };
  const edges = states.map((state, at) => {
    const own = edgesOf(at);
    if (!state.fallback) return own;
    const { forbidden } = state.fallback;
    return [...own, ...forbidden.map(([min, max]): FlatEdge => ({ min, max, to: NOWHERE }))];
  });
  const edgeStarts = starts(edges);
  const count = edgeStarts.at(-1)!;
  const [edgeMin, edgeMax] = [new Uint8Array(count), new Uint8Array(count)];
  const edgeTo = new Int32Array(count);
  const entries: { to: number; enters: readonly number[] }[] = [];
  let edge = 0;
  for (const list of edges) {
    for (const { min, max, to, enters } of list) {
      edgeMin[edge] = min;
      edgeMax[edge] = max;
      edgeTo[edge++] = enters ? -entries.push({ to, enters }) : to;
    }
  }
  return {
    accepting: Uint8Array.from(states, ({ accepting }) => Number(accepting)),
    edgeStarts,
    edgeMin,
    edgeMax,
    edgeTo,
    fallback: Int32Array.from(states, ({ fallback }) => fallback?.to ?? -1),
    entryTo: Int32Array.from(entries, ({ to }) => to),
    entryStarts: starts(entries.map(({ enters }) => enters)),
    entryCalls: Uint32Array.from(entries.flatMap(({ enters }) => enters)),
    callMin: Uint32Array.from(calls, ({ min }) => min),
    callMax: Uint32Array.from(calls, ({ max }) => max ?? 0),
    callReturn: Uint32Array.from(calls, ({ to }) => to),
    callFirst: Uint32Array.from(calls, ({ start }) => start),
  };
}

/** Where each list starts if all are joined, and where the last one ends. */
function starts(lists: readonly (readonly unknown[])[]): Uint32Array {
  const result = new Uint32Array(lists.length + 1);
  for (const [i, list] of lists.entries()) result[i + 1] = result[i]! + list.length;
  return result;
}
