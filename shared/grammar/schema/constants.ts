/** The values that `enum` and `const` list. Each list is read once, and values are found in it by their keys. */
import type { Rules } from "../rules/expressions.ts";
import { GrammarError, type Path } from "../rules/grammar-error.ts";
import { Decimal } from "../text/decimal.ts";
import type { Schema } from "./document.ts";
import { exactValue, isValueObject, type Value } from "./values.ts";

/** Steps that a value counts as, and characters of its key that count as another one. */
const VALUE_STEPS = 2;
const CHARS_PER_STEP = 16;

export interface Listed {
  readonly values: readonly Value[];
  has(value: Value): boolean;
}

export class Constants {
  readonly #rules: Rules;
  readonly #lists = { enum: new Map<Schema, Listed>(), const: new Map<Schema, Listed>() };
  readonly #keys = new Map<Value, string>();
  /** Numbers of arrays and objects, by the keys of what is in them: a key that repeated these would double with each level. */
  readonly #numbers = new Map<string, number>();
  /** Characters of all keys up to now. */
  #chars = 0;

  constructor(rules: Rules) {
    this.#rules = rules;
  }

  /** @throws GrammarError if `enum` is no array, and if the budget is exceeded */
  listed(schema: Schema, keyword: "enum" | "const", path: Path): Listed {
    const lists = this.#lists[keyword];
    const known = lists.get(schema);
    if (known) return known;
    const at = [...path, keyword];
    const list = keyword === "enum" ? schema["enum"] : [schema["const"]];
    if (!Array.isArray(list)) throw new GrammarError(at, "must be an array of values");
    const keys = new Set<string>();
    const values = list.map((_, i) => {
      const value =
        keyword === "enum" ? exactValue(list, i, path) : exactValue(schema, "const", path);
      const before = this.#chars;
      const key = this.key(value);
      const chars = this.#chars - before + key.length;
      this.#rules.spend(VALUE_STEPS + Math.ceil(chars / CHARS_PER_STEP), at);
      keys.add(key);
      return value;
    });
    const listed = { values, has: (value: Value) => keys.has(this.key(value)) };
    lists.set(schema, listed);
    return listed;
  }

  /** A text that only equal values have. */
  key(value: Value): string {
    if (typeof value === "string") return `"${value}`;
    const known = this.#keys.get(value);
    if (known !== undefined) return known;
    const key = this.#made(value);
    this.#keys.set(value, key);
    return key;
  }

  #made(value: Exclude<Value, string>): string {
    if (value instanceof Decimal) return `${value.digits}/${value.scale}`;
    if (Array.isArray(value))
      return this.#numbered(
        "[",
        value.map((item: Value) => this.key(item)),
      );
    if (value === null || typeof value === "boolean") return JSON.stringify(value);
    if (!isValueObject(value)) throw new Error("Expected a value of JSON");
    const members = Array.from(value.members, ([name, member]) => [name, this.key(member)]);
    return this.#numbered(
      "{",
      members.toSorted(([a = ""], [b = ""]) => (a < b ? -1 : 1)),
    );
  }

  #numbered(kind: "[" | "{", content: readonly unknown[]): string {
    const text = kind + JSON.stringify(content);
    this.#chars += text.length;
    const number = this.#numbers.get(text) ?? this.#numbers.size;
    this.#numbers.set(text, number);
    return `#${number}`;
  }
}
