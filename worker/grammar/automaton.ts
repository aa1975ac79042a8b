/**
 * A grammar as an automaton over bytes: each rule a net of states, in which a call to a rule is an edge. Texts that need a
 * stack (brackets within brackets) keep it in the matcher.
 */
import type { ByteRange, Expression, Grammar } from "../../shared/grammar.ts";

export interface State {
  /** Where a byte leads. */
  readonly bytes: { readonly ranges: readonly ByteRange[]; readonly to: number }[];
  /** States that are reached without a byte. */
  readonly skips: number[];
  /** Rules that may be read here, and where they lead. */
  readonly calls: { readonly rule: number; readonly to: number }[];
  /** Whether the rule that the state is of may end here. */
  isEnd: boolean;
}

export interface Automaton {
  readonly states: readonly State[];
  /** The first state of each rule. */
  readonly starts: readonly number[];
}

export function automatonOf({ rules }: Grammar): Automaton {
  const net = new Net();
  const starts = rules.map((rule) => {
    const start = net.add();
    net.states[net.build(rule, start)]!.isEnd = true;
    return start;
  });
  return { states: net.states, starts };
}

class Net {
  readonly states: State[] = [];

  add(): number {
    return this.states.push({ bytes: [], skips: [], calls: [], isEnd: false }) - 1;
  }

  /** Adds what reads the expression from a state on; returns the state after it. */
  build(expression: Expression, from: number): number {
    if (typeof expression === "string") {
      let at = from;
      for (const byte of new TextEncoder().encode(expression)) at = this.#byte([[byte, byte]], at);
      return at;
    }
    if ("byte" in expression) return this.#byte(expression.byte, from);
    if ("rule" in expression) {
      const to = this.add();
      this.states[from]!.calls.push({ rule: expression.rule, to });
      return to;
    }
    if ("all" in expression) return expression.all.reduce((at, part) => this.build(part, at), from);
    if ("any" in expression) {
      const to = this.add();
      for (const part of expression.any) this.#skip(this.build(part, from), to);
      return to;
    }
    return this.#repeat(expression, from);
  }

  #byte(ranges: readonly ByteRange[], from: number): number {
    const to = this.add();
    this.states[from]!.bytes.push({ ranges, to });
    return to;
  }

  #repeat({ of, min, max }: { of: Expression; min: number; max: number | null }, from: number) {
    let at = from;
    for (let i = 0; i < min; i++) at = this.build(of, at);
    if (max === null) {
      // A state of its own to come back to: others may lead on from the one before.
      const loop = this.add();
      this.#skip(at, loop);
      this.#skip(this.build(of, loop), loop);
      return loop;
    }
    const to = this.add();
    for (let i = min; i < max; i++) {
      this.#skip(at, to);
      at = this.build(of, at);
    }
    this.#skip(at, to);
    return to;
  }

  #skip(from: number, to: number): void {
    this.states[from]!.skips.push(to);
  }
}
