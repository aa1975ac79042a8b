/** Writes "a character of a set, then a rule". The characters beyond ASCII are mostly all or none, and then shared by all edges. */
import { sequence, type Rules } from "../rules/expressions.ts";
import type { Expression } from "../rules/grammar.ts";
import { ANY_CHARACTER, ESCAPED, IN_JSON, PLAIN, setOf, type Alphabet } from "./characters.ts";
import type { Meter } from "./meter.ts";
import type { CharSet } from "refa";

const NOT_ASCII = ANY_CHARACTER.without(setOf([{ min: 0, max: 0x7f }]));
/** The characters of a JSON string that take more than one byte. */
const RARE_IN_JSON = NOT_ASCII.union(ESCAPED);
const RARE_CHARACTER = PLAIN(NOT_ASCII)!;
const RARE_CHARACTER_IN_JSON = IN_JSON(RARE_IN_JSON)!;

/** Steps of writing a set as an expression, beside one for two of its ranges. */
const CHARACTER_STEPS = 2;

export class Edges {
  readonly #alphabet: Alphabet;
  readonly #rare: CharSet;
  readonly #rareCharacter: Expression;
  readonly #rules: Rules;
  readonly #meter: Meter;
  readonly #written = new Map<CharSet, { character: Expression | null; hasAllRare: boolean }>();
  /** By the rule that follows: a rare character and then the rule. */
  readonly #shared = new Map<Expression, Expression>();

  constructor(alphabet: Alphabet, rules: Rules, meter: Meter) {
    this.#alphabet = alphabet;
    const isJson = alphabet === IN_JSON;
    this.#rare = isJson ? RARE_IN_JSON : NOT_ASCII;
    this.#rareCharacter = isJson ? RARE_CHARACTER_IN_JSON : RARE_CHARACTER;
    this.#rules = rules;
    this.#meter = meter;
  }

  /** @param next a reference to a rule */
  write(set: CharSet, next: Expression): Expression[] {
    this.#meter.spend(2);
    const options: Expression[] = [];
    const { character, hasAllRare } = this.#written.get(set) ?? this.#character(set);
    if (character !== null) options.push(sequence(character, next));
    if (hasAllRare) options.push(this.#afterRare(next));
    return options;
  }

  #character(set: CharSet) {
    this.#meter.spend(CHARACTER_STEPS + (set.ranges.length >>> 1));
    const hasAllRare = set.isSupersetOf(this.#rare);
    const common = hasAllRare ? set.without(this.#rare) : set;
    const written = { hasAllRare, character: this.#alphabet(common) };
    this.#written.set(set, written);
    return written;
  }

  #afterRare(next: Expression): Expression {
    const known = this.#shared.get(next);
    if (known !== undefined) return known;
    const { reference, define } = this.#rules.reserve(this.#meter.path);
    define(sequence(this.#rareCharacter, next));
    this.#shared.set(next, reference);
    return reference;
  }
}
