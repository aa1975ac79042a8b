/**
 * The rules of an object. The declared properties come in their order, each at most once; then come others. The rules follow the
 * keys character by character, so that the next byte always tells which property it belongs to.
 */
import { choice, NEVER, sequence, type Rules } from "../rules/expressions.ts";
import type { Expression } from "../rules/grammar.ts";
import { IN_JSON, setOf } from "../text/characters.ts";
import { Edges, RARE_IN_JSON } from "../text/edges.ts";
import { COLON, COMMA } from "../text/json.ts";
import type { Meter } from "../text/meter.ts";
import type { TextDfa, TextState } from "../text/text-dfa.ts";
import { textRules } from "../text/text-rules.ts";
import { keyTree, type KeyNode } from "./keys.ts";

export interface Property {
  readonly name: string;
  readonly isRequired: boolean;
  /** Null if no value is allowed: the property must be absent. */
  readonly value: Expression | null;
}

export interface ObjectContent {
  readonly properties: readonly Property[];
  /** The keys of other properties; the outcome k + 1 belongs to the value k. */
  readonly otherKeys: TextDfa;
  readonly otherValues: readonly Expression[];
  readonly min: number;
  readonly max: number | null;
}

/** Steps of finding the characters after a node, beside those of each character. */
const DIFFERENT_STEPS = 16;

/** A place between two properties. */
interface Place {
  /** The first declared property that may come next; one more than their number after another property. */
  readonly next: number;
  /** Properties that count towards the minimum: other keys may be equal, so all of them count as one. */
  readonly distinct: number;
  /** Properties up to now, if there is a maximum. */
  readonly all: number;
}

export class ObjectRules {
  readonly #content: ObjectContent;
  readonly #rules: Rules;
  readonly #meter: Meter;
  readonly #edges: Edges;
  readonly #tree: KeyNode;
  /** For each index: the first required property from there on; the number of properties if there is none. */
  readonly #required: number[] = [];
  readonly #written = new Map<string, Expression>();
  /** By place: the rules of the other keys' automaton. */
  readonly #others = new Map<string, readonly Expression[]>();
  /** By the characters after a node: most names have few different ones. */
  readonly #differentByCodes = new Map<string, TextState["edges"]>();
  readonly #differentByNode = new Map<KeyNode, TextState["edges"]>();
  /** Rules whose expressions are not written yet: not by recursion, which could exhaust the stack. */
  readonly #open: (() => void)[] = [];

  constructor(content: ObjectContent, rules: Rules, meter: Meter) {
    this.#content = content;
    this.#rules = rules;
    this.#meter = meter;
    this.#edges = new Edges(IN_JSON, rules, meter);
    const { properties, otherKeys } = content;
    const names = properties.map(({ name }) => name);
    meter.spend(names.join("").length);
    this.#tree = keyTree(names, otherKeys, meter);
    let required = properties.length;
    for (let i = properties.length; i >= 0; i--) {
      if (properties[i]?.isRequired) required = i;
      this.#required[i] = required;
    }
    this.#required.push(properties.length);
  }

  expression(): Expression {
    const start = { next: 0, distinct: 0, all: 0 };
    const options: Expression[] = this.#mayEnd(start) ? ["}"] : [];
    if (this.#mayContinue(start)) options.push(sequence('"', this.#key(this.#tree, start)));
    for (let write = this.#open.pop(); write; write = this.#open.pop()) write();
    return sequence("{", choice(options));
  }

  #mayEnd({ next, distinct }: Place): boolean {
    return (
      distinct >= this.#content.min && this.#required[next] === this.#content.properties.length
    );
  }

  #mayContinue({ all }: Place): boolean {
    return this.#content.max === null || all < this.#content.max;
  }

  #place(next: number, { next: before, distinct, all }: Place): Place {
    const { min, max, properties } = this.#content;
    const isFurtherOther = before > properties.length;
    return {
      next,
      distinct: Math.min(min, distinct + Number(!isFurtherOther)),
      all: max === null ? 0 : all + 1,
    };
  }

  /** A rule that is written once. */
  #rule(key: string, write: () => Expression): Expression {
    const known = this.#written.get(key);
    if (known !== undefined) return known;
    const { reference, define } = this.#rules.reserve(this.#meter.path);
    this.#written.set(key, reference);
    this.#open.push(() => define(write()));
    return reference;
  }

  /** The expression of the text after the value of a property. */
  #after(place: Place): Expression {
    const { next, distinct, all } = place;
    return this.#rule(`after ${next} ${distinct} ${all}`, () => {
      const options: Expression[] = this.#mayEnd(place) ? ["}"] : [];
      if (this.#mayContinue(place)) {
        options.push(sequence(COMMA, '"', this.#key(this.#tree, place)));
      }
      return choice(options);
    });
  }

  /** The rest of a key, from a node of the tree on, its value, and the rest of the object. */
  #key(node: KeyNode, place: Place): Expression {
    const hasOthers = this.#hasOthers(place) && node.state >= 0;
    const [from, to] = this.#window(node, place);
    if (from === to && !hasOthers) return NEVER;
    if (!hasOthers) {
      const [text, end] = this.#common(node, place);
      if (text !== "") return sequence(text, this.#key(end, place));
    }
    // Places that allow the same of the names below the node share a rule.
    const key = `${node.id} ${from} ${to} ${hasOthers} ${place.distinct} ${place.all} ${place.next > this.#content.properties.length}`;
    return this.#rule(key, () => {
      this.#meter.spend(2 + node.children.size);
      const options: Expression[] = [];
      for (const [character, child] of node.children) {
        const rest = this.#key(child, place);
        if (rest !== NEVER) options.push(sequence(spelled(character), rest));
      }
      if (hasOthers) {
        const others = this.#otherRules(place);
        for (const { set, to } of this.#different(node)) {
          options.push(...this.#edges.write(set, others[to]!));
        }
      }
      options.push(this.#end(node, from < to, hasOthers, place));
      return choice(options);
    });
  }

  /** The characters that lead from a node to other keys only. */
  #different(node: KeyNode): TextState["edges"] {
    const known = this.#differentByNode.get(node);
    if (known) return known;
    const codes = Array.from(node.children.keys(), (character) => character.codePointAt(0)!);
    const key = `${node === this.#tree} ${node.state} ${codes.join()}`;
    const different = this.#differentByCodes.get(key) ?? this.#withoutChildren(node, codes);
    this.#differentByCodes.set(key, different);
    this.#differentByNode.set(node, different);
    return different;
  }

  #withoutChildren(node: KeyNode, codes: readonly number[]): TextState["edges"] {
    const declared = setOf(codes.map((code) => ({ min: code, max: code })));
    // After the first character, only common characters may make a difference: each would cost several states more.
    const children = node === this.#tree ? declared : declared.union(RARE_IN_JSON);
    const { edges } = this.#content.otherKeys.states[node.state]!;
    this.#meter.spend(DIFFERENT_STEPS + (edges.length + codes.length) * 4);
    return edges
      .map(({ set, to }) => ({ set: set.without(children), to }))
      .filter(({ set }) => !set.isEmpty);
  }

  /** The text that all possible keys have in common after a node, and the node where they differ or one ends. */
  #common(node: KeyNode, place: Place): readonly [string, KeyNode] {
    let [text, at] = ["", node];
    for (;;) {
      let only: readonly [string, KeyNode] | undefined;
      let [count, seen] = [0, 0];
      for (const child of at.children) {
        seen++;
        const [from, to] = this.#window(child[1], place);
        if (from === to) continue;
        only ??= child;
        if (++count > 1) break;
      }
      this.#meter.spend(Math.ceil(seen / 4));
      const isEnd = at.name >= 0 && at.name >= place.next && at.name <= this.#required[place.next]!;
      if (!only || count > 1 || isEnd) return [text, at];
      text += spelled(only[0]);
      [, at] = only;
    }
  }

  /** The end of a key at a node. */
  #end(node: KeyNode, hasNames: boolean, hasOthers: boolean, place: Place): Expression {
    if (node.name >= 0) {
      const { value } = this.#content.properties[node.name]!;
      const [from, to] = this.#window({ ...node, below: [node.name] }, place);
      if (!hasNames || from === to || value === null) return NEVER;
      return sequence('"', COLON, value, this.#after(this.#place(node.name + 1, place)));
    }
    const outcome = hasOthers ? this.#content.otherKeys.states[node.state]!.outcome : 0;
    return outcome === 0 ? NEVER : this.#otherEnd(outcome, place);
  }

  /** The names below a node that may come next: from the first to the second of their positions (exclusive). */
  #window({ below }: KeyNode, { next }: Place): readonly [number, number] {
    const last = this.#required[next]!;
    const from = firstFrom(below, next);
    return [from, firstFrom(below, last + 1, from)];
  }

  #hasOthers({ next }: Place): boolean {
    return (
      this.#content.otherValues.length > 0 &&
      this.#required[next] === this.#content.properties.length
    );
  }

  #otherRules(place: Place): readonly Expression[] {
    const after = this.#place(this.#content.properties.length + 1, place);
    const key = `${after.distinct} ${after.all}`;
    const known = this.#others.get(key);
    if (known) return known;
    const rules = textRules(
      this.#content.otherKeys,
      IN_JSON,
      (outcome) => this.#otherEnd(outcome, place),
      { rules: this.#rules, meter: this.#meter },
    );
    this.#others.set(key, rules);
    return rules;
  }

  #otherEnd(outcome: number, place: Place): Expression {
    const after = this.#place(this.#content.properties.length + 1, place);
    return this.#rule(`other ${outcome} ${after.distinct} ${after.all}`, () =>
      sequence('"', COLON, this.#content.otherValues[outcome - 1]!, this.#after(after)),
    );
  }
}

/** The position of the first number that is not less than another one, among numbers in ascending order. */
function firstFrom(numbers: readonly number[], least: number, start = 0): number {
  let [low, high] = [start, numbers.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (numbers[middle]! < least) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** A character of a key, as JSON.stringify writes it. */
const spelled = (character: string) => JSON.stringify(character).slice(1, -1);
