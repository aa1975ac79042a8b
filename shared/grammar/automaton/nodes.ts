/** The expressions of a grammar as numbered nodes: equal expressions are one node. */
import type { Budget } from "../rules/budget.ts";
import type { ByteRange, Expression, Grammar } from "../rules/grammar.ts";
import { numberKey } from "./number-key.ts";

export type Node =
  /** The ranges of each byte, as states have them. */
  | { readonly kind: "text"; readonly ranges: readonly (readonly ByteRange[])[] }
  | { readonly kind: "byte"; readonly ranges: readonly ByteRange[] }
  | { readonly kind: "all"; readonly parts: readonly number[] }
  | { readonly kind: "any"; readonly parts: readonly number[] }
  | {
      readonly kind: "repeat";
      readonly of: number;
      readonly min: number;
      readonly max: number | null;
    }
  | {
      readonly kind: "unless";
      /** The ranges of each byte of the text. */
      readonly ranges: readonly (readonly ByteRange[])[];
      readonly first: number;
      readonly others: number;
      readonly unless: readonly ByteRange[];
    }
  | { readonly kind: "rule"; readonly rule: number };

/** The ranges that hold exactly one byte, by the byte. */
const EXACT = Array.from({ length: 256 }, (_, byte): ByteRange[] => [[byte, byte]]);

const encoder = new TextEncoder();
const isAscii = (text: string) => /^[\0-\x7f]*$/.test(text);

/** The ranges of each byte of a text in UTF-8. */
function exactBytes(text: string): (readonly ByteRange[])[] {
  const result: (readonly ByteRange[])[] = [];
  if (isAscii(text)) {
    for (let i = 0; i < text.length; i++) result.push(EXACT[text.charCodeAt(i)]!);
  } else for (const byte of encoder.encode(text)) result.push(EXACT[byte]!);
  return result;
}

/** The nodes of a grammar, with the size of each and whether it matches the empty text. A node is a number from 0. */
export class Nodes {
  readonly #nodes: Node[] = [];
  readonly #byContent = new Map<string, number>();
  /** The node of each rule. */
  readonly #rules: readonly number[];
  /** The origin of each rule. */
  readonly #origins: readonly number[];
  /** Of the rules up to now: states of a copy, and whether the empty text is among the texts. */
  readonly #ruleSizes: number[];
  readonly #ruleNullable: boolean[];
  readonly #sizes = new Map<number, number>();
  readonly #nullable = new Map<number, boolean>();
  /** Whether the sizes of all rules are known. */
  #isComplete = false;
  /** Nodes that were looked at. */
  #looked = 0;

  /** @param origins the origin of each rule: the part of the format that it comes from, as the budget numbers it */
  constructor({ rules }: Grammar, origins: readonly number[], budget: Budget) {
    this.#origins = origins;
    this.#rules = rules.map((rule, i) => this.#intern(rule, budget, origins[i]!));
    this.#ruleSizes = rules.map(() => Infinity);
    // The start rule refers to the others, and the others mostly to earlier ones.
    const order = [...rules.keys()].slice(1).concat(0);
    for (const rule of order) this.#ruleSizes[rule] = this.#sizeOf(this.#rules[rule]!);
    this.#ruleNullable = rules.map(() => false);
    for (let changed = true; changed;) {
      changed = false;
      for (const rule of order) {
        this.#looked = 0;
        const isNullable = this.#ruleNullable[rule]! || this.#isNullableNow(this.#rules[rule]!);
        budget.spend(1 + (this.#looked >>> 3), origins[rule]!);
        if (this.#ruleNullable[rule] || !isNullable) continue;
        changed = this.#ruleNullable[rule] = true;
      }
    }
    this.#isComplete = true;
  }

  at(node: number): Node {
    return this.#nodes[node]!;
  }

  /** The node of a rule, and its origin. */
  rule(rule: number): { readonly body: number; readonly origin: number } {
    return { body: this.#rules[rule]!, origin: this.#origins[rule]! };
  }

  /** States that a copy of the node takes; infinite for a rule that may contain itself. */
  size(node: number): number {
    return this.#sizeOf(node);
  }

  /** Whether the empty text matches the node. */
  isNullable(node: number): boolean {
    const isNullable = this.#nullable.get(node) ?? this.#isNullableNow(node);
    this.#nullable.set(node, isNullable);
    return isNullable;
  }

  /** Whether that is so by the rules that are known to match it up to now. */
  #isNullableNow(node: number): boolean {
    this.#looked++;
    const content = this.#nodes[node]!;
    switch (content.kind) {
      case "text":
        return content.ranges.length === 0;
      case "byte":
        return false;
      case "all":
        return content.parts.every((part) => this.#isNullableNow(part));
      case "any":
        return content.parts.some((part) => this.#isNullableNow(part));
      case "repeat":
        return content.min === 0 || this.#isNullableNow(content.of);
      case "unless":
        if (this.#isNullableNow(content.others)) return true;
        return content.ranges.length === 0 && this.#isNullableNow(content.first);
      case "rule":
        return this.#ruleNullable[content.rule]!;
    }
  }

  #sizeOf(node: number): number {
    const known = this.#sizes.get(node);
    if (known !== undefined) return known;
    const content = this.#nodes[node]!;
    // Not remembered by node: it is known only after the rule.
    if (content.kind === "rule") return this.#ruleSizes[content.rule]!;
    const size = this.#sizeOfContent(content);
    if (size !== Infinity || this.#isComplete) this.#sizes.set(node, size);
    return size;
  }

  #sizeOfContent(content: Exclude<Node, { kind: "rule" }>): number {
    switch (content.kind) {
      case "text":
        return content.ranges.length;
      case "byte":
        return 1;
      case "all":
      case "any":
        return content.parts.reduce((sum, part) => sum + this.#sizeOf(part), 1);
      case "repeat":
        return 1 + this.#sizeOf(content.of) * Math.max(1, content.min, content.max ?? 0);
      case "unless":
        return (
          1 + content.ranges.length + this.#sizeOf(content.first) + this.#sizeOf(content.others)
        );
    }
  }

  #intern(expression: Expression, budget: Budget, origin: number): number {
    if (typeof expression === "string") {
      budget.spend(1 + (expression.length >>> 2), origin);
      return this.#add(`t${expression}`, () => ({
        kind: "text",
        ranges: exactBytes(expression),
      }));
    }
    budget.spend(1, origin);
    if ("rule" in expression) {
      const { rule } = expression;
      return this.#add(`r${rule}`, () => ({ kind: "rule", rule }));
    }
    if ("byte" in expression) {
      const ranges = expression.byte;
      budget.spend(ranges.length, origin);
      return this.#add(`b${numberKey(ranges.flat())}`, () => ({ kind: "byte", ranges }));
    }
    if ("of" in expression) {
      const { min, max } = expression;
      const of = this.#intern(expression.of, budget, origin);
      return this.#add(`n${of} ${min} ${max}`, () => ({ kind: "repeat", of, min, max }));
    }
    if ("text" in expression) {
      const { text, unless } = expression;
      budget.spend((text.length >>> 2) + unless.length, origin);
      const first = this.#intern(expression.first, budget, origin);
      const others = this.#intern(expression.others, budget, origin);
      const key = `u${first} ${others} ${numberKey(unless.flat())} ${text}`;
      return this.#add(key, () => ({
        kind: "unless",
        ranges: exactBytes(text),
        first,
        others,
        unless,
      }));
    }
    const kind = "all" in expression ? "all" : "any";
    const list = "all" in expression ? expression.all : expression.any;
    const parts = list.map((item) => this.#intern(item, budget, origin));
    return this.#add(`${kind} ${numberKey(parts)}`, () => ({ kind, parts }));
  }

  #add(key: string, make: () => Node): number {
    const known = this.#byContent.get(key);
    if (known !== undefined) return known;
    this.#byContent.set(key, this.#nodes.length);
    return this.#nodes.push(make()) - 1;
  }
}
