/**
 * A grammar as a nondeterministic automaton. Rules, and repetitions that are long when written out, become calls instead of
 * copies. `expand` replaces a call by a copy where the deterministic automaton needs it.
 */
import type { Budget } from "../rules/budget.ts";
import { addRanges, addSet, emptySet, type ByteSet } from "../rules/byte-set.ts";
import { GrammarError } from "../rules/grammar-error.ts";
import type { ByteRange } from "../rules/grammar.ts";
import type { Node, Nodes } from "./nodes.ts";

/** A repetition, or a rule that other parts follow, is copied if the copy has at most this many states; else it is called. */
const COPY_STATES_MAX = 16;

/** Reads `body` min to max times (null: no limit; min is at least 1), then goes on in state `to`. */
export interface Call {
  readonly body: number;
  readonly min: number;
  readonly max: number | null;
  readonly to: number;
}

export interface NfaState {
  /** An edge to state `to` that reads one byte. */
  readonly ranges?: readonly ByteRange[];
  readonly to?: number;
  readonly call?: Call;
  /** The state whose texts are read instead if they begin with no byte of `unless`. It leads to no such state without reading. */
  readonly others?: number;
  readonly unless?: readonly ByteRange[];
  /** States that are reached without reading a byte. */
  readonly epsilons: number[];
  /** The part of the format that the state comes from (Budget.origin). */
  readonly origin: number;
}

/** The state in which every text ends; a part that is called is compiled by itself and ends here, too. */
export const END = 0;

interface Repetition {
  readonly of: number;
  readonly min: number;
  readonly max: number | null;
}

/** The states that were built up to now. A state is a number from 0 (END). Each method throws GrammarError if the budget is exceeded. */
export class Nfa {
  readonly states: NfaState[] = [{ epsilons: [], origin: 0 }];
  readonly #nodes: Nodes;
  readonly #budget: Budget;
  /** First state of a node, by the node, the state after it and `isLast`: equal ones are built once. */
  readonly #built = new Map<number, number>();
  /** The same for calls. */
  readonly #calls = new Map<string, number>();
  /** Rules whose state exists and leads nowhere yet: not built by recursion, which could exhaust the stack. */
  readonly #pending: { state: number; body: number; to: number; origin: number }[] = [];
  readonly #expanded = new Map<number, number>();
  /** The number of the last `closure`, and of the last one that visited each state. */
  #visit = 0;
  readonly #visits: number[] = [];
  /** First bytes of nodes; null while they are computed. */
  readonly #firsts = new Map<number, ByteSet | null>();

  constructor(nodes: Nodes, budget: Budget) {
    this.#nodes = nodes;
    this.#budget = budget;
  }

  /** The state from which a node is read until state `to` is reached. */
  build(node: number, to: number, origin: number): number {
    const start = this.#build(node, to, origin, true);
    for (let next = this.#pending.pop(); next; next = this.#pending.pop()) {
      const { epsilons } = this.states[next.state]!;
      const content = this.#nodes.at(next.body);
      const options = content.kind === "any" ? content.parts : [next.body];
      for (const option of options) {
        epsilons.push(this.#build(option, next.to, next.origin, true));
      }
    }
    return start;
  }

  /** Replaces the call of a state by a copy of the called part, followed by a call for its other repetitions. */
  expand(state: number): number {
    const known = this.#expanded.get(state);
    if (known !== undefined) return known;
    const { call, origin } = this.states[state]!;
    const { body, min, max, to } = call!;
    const others = { of: body, min: min - 1, max: max && max - 1 };
    const copy = this.build(body, max === 1 ? to : this.#call(others, to, origin), origin);
    this.#expanded.set(state, copy);
    return copy;
  }

  /** The bytes that a text of the node can begin with. @throws GrammarError if the node begins with itself */
  first(node: number, origin: number): ByteSet {
    const known = this.#firsts.get(node);
    if (known) return known;
    if (known === null) {
      throw new GrammarError(this.#budget.pathOf(origin), "refers to itself without end");
    }
    this.#firsts.set(node, null);
    const set = emptySet();
    const open = this.closure([this.build(node, END, origin)]);
    for (let state = open.pop(); state !== undefined; state = open.pop()) {
      const { ranges, call, others, origin } = this.states[state]!;
      if (others !== undefined) open.push(...this.closure([others]));
      if (ranges) addRanges(set, ranges);
      if (call) addSet(set, this.first(call.body, origin));
    }
    this.#firsts.set(node, set);
    return set;
  }

  /** The states with an edge, a call or other texts, and END, that are reached from these without reading a byte; in ascending order. */
  closure(from: readonly number[]): number[] {
    const visit = ++this.#visit;
    const open: number[] = [];
    const reached: number[] = [];
    const add = (state: number) => {
      if (this.#visits[state] === visit) return;
      this.#visits[state] = visit;
      open.push(state);
    };
    for (const state of from) add(state);
    for (let state = open.pop(); state !== undefined; state = open.pop()) {
      const { epsilons, ranges, call, others, origin } = this.states[state]!;
      this.#budget.spend(1 + epsilons.length, origin);
      if (ranges || call || others !== undefined || state === END) reached.push(state);
      for (const next of epsilons) add(next);
    }
    return reached.sort((a, b) => a - b);
  }

  /** @param isLast whether nothing of the called part follows the node */
  #build(node: number, to: number, origin: number, isLast: boolean): number {
    const content = this.#nodes.at(node);
    if (content.kind === "rule" && !isLast && this.#nodes.size(node) > COPY_STATES_MAX) {
      return this.#call({ of: node, min: 1, max: 1 }, to, origin);
    }
    if (content.kind === "byte") return this.#byte(content.ranges, to, origin);
    if (content.kind === "text") {
      return content.ranges.reduceRight((at, ranges) => this.#byte(ranges, at, origin), to);
    }
    const key = (node * 2 ** 24 + to) * 2 + Number(isLast);
    const known = this.#built.get(key);
    if (known !== undefined) return known;
    switch (content.kind) {
      case "all":
        return this.#remember(key, this.#sequence(content.parts, to, origin, isLast));
      case "any": {
        const state = this.#remember(key, this.#add({ epsilons: [], origin }));
        const { epsilons } = this.states[state]!;
        for (const option of content.parts) epsilons.push(this.#build(option, to, origin, isLast));
        return state;
      }
      case "rule": {
        const rule = this.#nodes.rule(content.rule);
        // Remembered before it is built: a rule may end with itself.
        const state = this.#remember(key, this.#add({ epsilons: [], origin: rule.origin }));
        this.#pending.push({ state, to, ...rule });
        return state;
      }
      case "repeat":
        return this.#remember(key, this.#repeat(content, to, origin, isLast));
      case "unless":
        return this.#remember(key, this.#unless(content, to, origin, isLast));
    }
  }

  #sequence(parts: readonly number[], to: number, origin: number, isLast: boolean): number {
    let at = to;
    for (let i = parts.length - 1; i >= 0; i--) {
      at = this.#build(parts[i]!, at, origin, isLast && i === parts.length - 1);
    }
    return at;
  }

  #unless(
    { ranges: text, first, others: otherNode, unless }: Node & { readonly kind: "unless" },
    to: number,
    origin: number,
    isLast: boolean,
  ): number {
    const others = this.#build(otherNode, to, origin, isLast);
    const epsilons = [this.#build(first, to, origin, isLast)];
    let at = this.#add({ epsilons, others, unless, origin });
    for (let i = text.length - 1; i >= 0; i--) {
      const ranges = text[i]!;
      at = this.#add({ ranges, to: at, epsilons: [], others, unless: ranges, origin });
    }
    return at;
  }

  #repeat(repetition: Repetition, to: number, origin: number, isLast: boolean): number {
    const { of, min, max } = repetition;
    if (max === 0) return to;
    if (min === 0 && max === 1) {
      return this.#add({ epsilons: [to, this.#build(of, to, origin, isLast)], origin });
    }
    const copies = Math.max(min, max ?? 1);
    const isCopied = copies === 1 || this.#nodes.size(of) * copies <= COPY_STATES_MAX;
    if (!isCopied) return this.#call(repetition, to, origin);
    let at = to;
    if (max === null) {
      at = this.#add({ epsilons: [to], origin });
      const again = this.#build(of, at, origin, false);
      this.states[at]!.epsilons.push(again);
      if (min === 1) at = again;
    }
    for (let i = min; i < (max ?? 0); i++) {
      at = this.#add({ epsilons: [to, this.#build(of, at, origin, false)], origin });
    }
    for (let i = max === null && min === 1 ? 1 : 0; i < min; i++)
      at = this.#build(of, at, origin, false);
    return at;
  }

  #call({ of, min, max }: Repetition, to: number, origin: number): number {
    const content = this.#nodes.at(of);
    const called = content.kind === "rule" ? this.#nodes.rule(content.rule) : { body: of, origin };
    const key = `${called.body} ${min} ${max} ${to}`;
    const known = this.#calls.get(key);
    if (known !== undefined) return known;
    const isNullable = this.#nodes.isNullable(called.body);
    const state = this.#add({
      call: { body: called.body, min: isNullable ? 1 : Math.max(1, min), max, to },
      epsilons: isNullable || min === 0 ? [to] : [],
      origin: called.origin,
    });
    this.#calls.set(key, state);
    return state;
  }

  #byte(ranges: readonly ByteRange[], to: number, origin: number): number {
    return this.#add({ ranges, to, epsilons: [], origin });
  }

  #add(state: NfaState): number {
    this.#budget.spend(1 + ((state.ranges?.length ?? 0) >>> 2), state.origin);
    return this.states.push(state) - 1;
  }

  #remember(key: number, state: number): number {
    this.#built.set(key, state);
    return state;
  }
}
