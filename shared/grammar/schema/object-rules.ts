/**
 * The rules of an object. The declared properties come in their order, each at most once; then come others. The rules follow the
 * keys character by character, so that the next byte always tells which property it belongs to.
 */
import { choice, NEVER, sequence, type Rules } from "../rules/expressions.ts";
import type { Expression } from "../rules/grammar.ts";
import { IN_JSON } from "../text/characters.ts";
import { COLON, COMMA } from "../text/json.ts";
import type { Meter } from "../text/meter.ts";
import type { TextDfa } from "../text/text-dfa.ts";
import { textRules } from "../text/text-rules.ts";
import { characterList, firstBytes, KeyDifferences, mayBeShared } from "./key-differences.ts";
import { isPlain, keyTree, type KeyNode } from "./keys.ts";

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

/** A place between two properties. */
interface Place {
  /** The first declared property that may come next; one more than their number after another property. */
  readonly next: number;
  /** The last declared property that may come next: the first required one from `next` on. */
  readonly last: number;
  /** Properties that count towards the minimum: other keys may be equal, so all of them count as one. */
  readonly distinct: number;
  /** Properties up to now, if there is a maximum. */
  readonly all: number;
  /** Whether a property that is not declared may come next. */
  readonly hasOthers: boolean;
  /** Places of the same kind differ only in the declared properties that may come next. */
  readonly kind: number;
}

export class ObjectRules {
  readonly #content: ObjectContent;
  readonly #rules: Rules;
  readonly #meter: Meter;
  readonly #tree: KeyNode;
  readonly #differences: KeyDifferences;
  /** For each index: the first required property from there on; the number of properties if there is none. */
  readonly #required: number[] = [];
  readonly #otherEnds = new Map<string, Expression>();
  readonly #places = new Map<string, Place>();
  /** By `next`, of an object without a minimum and a maximum. */
  readonly #simplePlaces: (Place | undefined)[] = [];
  readonly #kinds = new Map<string, number>();
  readonly #afters = new Map<Place, Expression>();
  /** By node: the rules of its rest of a key. */
  readonly #keys: (Map<number, Expression> | undefined)[] = [];
  /** By place: the rules of the other keys' automaton. */
  readonly #others = new Map<string, readonly Expression[]>();
  /** By the kind of the place, and the characters after a node. */
  readonly #nearKeys = new Map<string, Expression>();
  /** Rules whose expressions are not written yet: not by recursion, which could exhaust the stack. */
  readonly #open: (() => void)[] = [];

  constructor(content: ObjectContent, rules: Rules, meter: Meter) {
    this.#content = content;
    this.#rules = rules;
    this.#meter = meter;
    const { properties, otherKeys } = content;
    const names = properties.map(({ name }) => name);
    meter.spend(names.join("").length);
    this.#tree = keyTree(names, otherKeys, meter);
    this.#differences = new KeyDifferences(otherKeys, meter);
    let required = properties.length;
    for (let i = properties.length; i >= 0; i--) {
      if (properties[i]?.isRequired) required = i;
      this.#required[i] = required;
    }
    this.#required.push(properties.length);
  }

  expression(): Expression {
    const start = this.#placeAt(0, 0, 0);
    const options: Expression[] = this.#mayEnd(start) ? ["}"] : [];
    if (this.#mayContinue(start)) options.push(sequence('"', this.#key(this.#tree, start)));
    for (let write = this.#open.pop(); write; write = this.#open.pop()) write();
    return sequence("{", choice(options));
  }

  #mayEnd({ last, distinct }: Place): boolean {
    return distinct >= this.#content.min && last === this.#content.properties.length;
  }

  #mayContinue({ all }: Place): boolean {
    return this.#content.max === null || all < this.#content.max;
  }

  #place(next: number, { next: before, distinct, all }: Place): Place {
    const { min, max, properties } = this.#content;
    if (min === 0 && max === null) return (this.#simplePlaces[next] ??= this.#placeAt(next, 0, 0));
    const isFurtherOther = before > properties.length;
    const counted = Math.min(min, distinct + Number(!isFurtherOther));
    return this.#placeAt(next, counted, max === null ? 0 : all + 1);
  }

  #placeAt(next: number, distinct: number, all: number): Place {
    const key = `${next} ${distinct} ${all}`;
    const place = this.#places.get(key) ?? this.#createPlace(next, distinct, all);
    this.#places.set(key, place);
    return place;
  }

  #createPlace(next: number, distinct: number, all: number): Place {
    const { properties, otherValues } = this.#content;
    const last = this.#required[next]!;
    const hasOthers = otherValues.length > 0 && last === properties.length;
    const key = `${hasOthers} ${distinct} ${all} ${next > properties.length}`;
    const kind = this.#kinds.get(key) ?? this.#kinds.size;
    this.#kinds.set(key, kind);
    return { next, last, distinct, all, hasOthers, kind };
  }

  /** A rule whose expression is written later. */
  #reserve(write: () => Expression): Expression {
    const { reference, define } = this.#rules.reserve(this.#meter.path);
    this.#open.push(() => define(write()));
    return reference;
  }

  /** The expression of the text after the value of a property. */
  #after(place: Place): Expression {
    const known = this.#afters.get(place) ?? this.#reserve(() => this.#afterRule(place));
    this.#afters.set(place, known);
    return known;
  }

  #afterRule(place: Place): Expression {
    const options: Expression[] = this.#mayEnd(place) ? ["}"] : [];
    if (this.#mayContinue(place)) {
      options.push(sequence(COMMA, '"', this.#key(this.#tree, place)));
    }
    return choice(options);
  }

  /** The rest of a key, from a node of the tree on, its value, and the rest of the object. */
  #key(node: KeyNode, place: Place): Expression {
    const hasOthers = place.hasOthers && node.state >= 0;
    const from = firstFrom(node.below, place.next);
    const to = firstFrom(node.below, place.last + 1, from);
    if (from === to && !hasOthers) return NEVER;
    if (!hasOthers) {
      const [text, end] = this.#common(node, place);
      if (text !== "") return sequence(text, this.#key(end, place));
    }
    // Places that allow the same of the names below the node share a rule.
    const rules = (this.#keys[node.id] ??= new Map<number, Expression>());
    const size = this.#content.properties.length + 1;
    const key = (place.kind * size + from) * size + to;
    const known = rules.get(key);
    if (known !== undefined) return known;
    const rule = this.#reserve(() => this.#keyRule(node, from < to, hasOthers, place));
    rules.set(key, rule);
    return rule;
  }

  #keyRule(node: KeyNode, hasNames: boolean, hasOthers: boolean, place: Place): Expression {
    if (hasOthers && this.#differences.mayDiffer(node))
      return this.#keyOrOther(node, hasNames, place);
    this.#meter.spend(2 + node.children.size);
    return choice(this.#options(node, hasNames, hasOthers, place));
  }

  #options(node: KeyNode, hasNames: boolean, hasOthers: boolean, place: Place): Expression[] {
    const options: Expression[] = [];
    for (const child of node.children.values()) {
      const rest = this.#key(child, place);
      if (rest !== NEVER) options.push(sequence(child.text, rest));
    }
    const end = this.#end(node, hasNames, hasOthers, place);
    if (end !== NEVER) options.push(end);
    return options;
  }

  /** A declared name, or another key. */
  #keyOrOther(node: KeyNode, hasNames: boolean, place: Place): Expression {
    let [text, at] = ["", node];
    for (;;) {
      const [child, ...others] = at.children.values();
      if (!child || others.length > 0 || at.name >= 0 || child.state !== at.state) break;
      if (!isPlain(child.text) || !this.#differences.mayDiffer(child)) break;
      text += child.text;
      at = child;
    }
    this.#meter.spend(2 + (text.length >>> 2) + at.children.size);
    const bytes = firstBytes(at);
    const options = this.#options(at, hasNames, false, place);
    if (bytes.some(mayBeShared)) options.push(this.#nearKey(at, place));
    if (at.name >= 0) bytes.push(QUOTE);
    return {
      text,
      first: choice(options),
      others: this.#otherRules(place)[at.state]!,
      unless: bytes.toSorted((a, b) => a - b).map((byte) => [byte, byte]),
    };
  }

  /** The rest of a key that is not declared, whose next character begins with the same byte as that of a declared name. */
  #nearKey(node: KeyNode, place: Place): Expression {
    const key = `${place.kind} ${node.state} ${characterList(node)}`;
    const known =
      this.#nearKeys.get(key) ??
      this.#reserve(() => {
        const others = this.#otherRules(place);
        const near = this.#differences.near(node);
        return choice(near.map(({ character, to }) => sequence(character, others[to]!)));
      });
    this.#nearKeys.set(key, known);
    return known;
  }

  /** The text that all possible keys have in common after a node, and the node where they differ or one ends. */
  #common(node: KeyNode, place: Place): readonly [string, KeyNode] {
    let [text, at] = ["", node];
    for (;;) {
      let only: KeyNode | undefined;
      let [count, seen] = [0, 0];
      for (const child of at.children.values()) {
        seen++;
        if (!hasName(child, place)) continue;
        only ??= child;
        if (++count > 1) break;
      }
      this.#meter.spend(Math.ceil(seen / 4));
      if (!only || count > 1 || isPossible(at.name, place)) return [text, at];
      text += only.text;
      at = only;
    }
  }

  /** The end of a key at a node. */
  #end(node: KeyNode, hasNames: boolean, hasOthers: boolean, place: Place): Expression {
    if (node.name >= 0) {
      const { value } = this.#content.properties[node.name]!;
      if (!hasNames || !isPossible(node.name, place) || value === null) return NEVER;
      return sequence('"', COLON, value, this.#after(this.#place(node.name + 1, place)));
    }
    const outcome = hasOthers ? this.#content.otherKeys.states[node.state]!.outcome : 0;
    return outcome === 0 ? NEVER : this.#otherEnd(outcome, place);
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
    const key = `${outcome} ${after.distinct} ${after.all}`;
    const value = this.#content.otherValues[outcome - 1]!;
    const known =
      this.#otherEnds.get(key) ??
      this.#reserve(() => sequence('"', COLON, value, this.#after(after)));
    this.#otherEnds.set(key, known);
    return known;
  }
}

const QUOTE = 0x22;

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

/** Whether a declared property may come next. */
const isPossible = (name: number, { next, last }: Place) =>
  name >= 0 && name >= next && name <= last;

/** Whether one of the names below a node may come next. */
function hasName({ below }: KeyNode, { next, last }: Place): boolean {
  const first = below[firstFrom(below, next)];
  return first !== undefined && first <= last;
}
