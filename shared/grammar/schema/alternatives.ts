/**
 * Resolves the keywords that combine schemas: `$ref`, allOf, anyOf, oneOf, not, if, and the dependencies. The result is a list of
 * alternatives, each a list of parts that must all hold and that have no such keywords.
 */
import { keysInOrder } from "../../api/json-source.ts";
import { GrammarError, type Path } from "../rules/grammar-error.ts";
import type { Constants } from "./constants.ts";
import { isObject, type Claim, type Document, type Schema } from "./document.ts";
import { listOf, namesOf, requireSupported, schemasOf } from "./keywords.ts";
import { widthOf } from "./allowed-types.ts";
import { closedNegation, isWhollyNegated, negations } from "./negation.ts";

/** A schema without keywords that combine others, or only some of its keywords. */
export interface Part {
  /** Its schema has only keywords that combine no others, or others that are not for this part. */
  readonly claim: Claim & { readonly schema: Schema };
  /** Strings that do not match, and strings that are not allowed. */
  readonly notPatterns?: readonly string[];
  readonly notStrings?: ReadonlySet<string>;
  /** Parts whose properties count as evaluated, for unevaluatedProperties. */
  readonly evaluated?: readonly Part[];
  /** Whether its schema is the negation of a keyword at its path. */
  readonly isNegation?: boolean;
}

/** All of the parts must hold. */
export type Alternative = readonly Part[];

/** Schema of all objects. */
const OBJECT: Schema = { type: "object" };

/** Alternatives of one schema, and references within each other, at most. */
const ALTERNATIVES_MAX = 1_000;
const DEPTH_MAX = 100;
/** Parts that are copied in one step. */
const PARTS_PER_STEP = 32;

/** Keywords that are resolved here. */
const COMBINING = new Set(["$ref", "allOf", "anyOf", "oneOf", "not", "if"]);
const DEPENDENCIES = new Set(["dependencies", "dependentRequired", "dependentSchemas"]);
const isOwn = (keyword: string) => !COMBINING.has(keyword) && !DEPENDENCIES.has(keyword);

/** How `oneOf` finds out whether two schemas have no value in common. */
export type AreDisjoint = (a: readonly Claim[], b: readonly Claim[]) => boolean;

interface Known {
  readonly alternatives: readonly Alternative[];
  readonly areWhole: boolean;
}

export class Alternatives {
  readonly constants: Constants;
  readonly #document: Document;
  readonly #spend: (steps: number, path: Path) => void;
  readonly #areDisjoint: AreDisjoint;
  /** By schema, of schemas and of negated ones. */
  readonly #known = [new Map<unknown, Known>(), new Map<unknown, Known>()] as const;
  #depth = 0;
  /** Whether the alternatives that are being found have every value that is allowed, so far. */
  #areWhole = true;

  constructor(
    document: Document,
    constants: Constants,
    spend: (steps: number, path: Path) => void,
    areDisjoint: AreDisjoint,
  ) {
    this.#document = document;
    this.constants = constants;
    this.#spend = spend;
    this.#areDisjoint = areDisjoint;
  }

  /** The alternatives in which all claims hold. @throws GrammarError */
  ofAll(claims: readonly Claim[]): readonly Alternative[] {
    return claims.reduce<readonly Alternative[]>(
      (all, claim) => this.#product(all, this.of(claim), claim.path),
      [[]],
    );
  }

  /** As `ofAll`; null if a negation had to leave out values that are allowed. @throws GrammarError */
  wholeOfAll(claims: readonly Claim[]): readonly Alternative[] | null {
    const outer = this.#areWhole;
    this.#areWhole = true;
    try {
      const alternatives = this.ofAll(claims);
      return this.#areWhole ? alternatives : null;
    } finally {
      this.#areWhole = outer;
    }
  }

  of(claim: Claim): readonly Alternative[] {
    const { schema, path, isNegated } = claim;
    this.#spend(1, path);
    if (typeof schema === "boolean") return schema === isNegated ? [] : [[]];
    if (!isObject(schema)) throw new GrammarError(path, "must be a schema: an object or true");
    const known = this.#known[Number(isNegated) as 0 | 1];
    const before = known.get(schema);
    if (before) {
      this.#areWhole &&= before.areWhole;
      return before.alternatives;
    }
    if (this.#depth >= DEPTH_MAX) throw new GrammarError(path, "refers to itself without end");
    requireSupported(schema, path);
    const outer = this.#areWhole;
    this.#areWhole = !isNegated || isWhollyNegated(schema);
    this.#depth++;
    try {
      const alternatives = isNegated
        ? negations({ ...claim, schema }, this.#document, this)
        : this.#positive(claim, schema);
      known.set(schema, { alternatives, areWhole: this.#areWhole });
      return alternatives;
    } finally {
      this.#depth--;
      this.#areWhole &&= outer;
    }
  }

  /**
   * In the order of the keywords, which decides the order of the properties: those of allOf come first if it is written before
   * `properties`. Dependencies declare none.
   */
  #positive(claim: Claim, schema: Schema): readonly Alternative[] {
    let all: readonly Alternative[] = [[]];
    const add = (alternatives: readonly Alternative[]) => {
      all = this.#product(all, alternatives, claim.path);
    };
    const keywords = keysInOrder(schema);
    const own = "properties" in schema ? "properties" : keywords.find(isOwn);
    for (const keyword of keywords) {
      if (keyword === own) add([[{ claim: { ...claim, schema } }]]);
      else if (!DEPENDENCIES.has(keyword)) add(this.#combined(keyword, claim, schema) ?? [[]]);
    }
    for (const keyword of keywords.filter((keyword) => DEPENDENCIES.has(keyword))) {
      add(this.#dependencies(claim, schema, keyword));
    }
    if (!("unevaluatedProperties" in schema)) return all;
    return all.map((parts) => [...parts, { claim: { ...claim, schema }, evaluated: parts }]);
  }

  #combined(keyword: string, claim: Claim, schema: Schema): readonly Alternative[] | null {
    const child = (...keys: string[]) => this.#document.child(claim, keys);
    switch (keyword) {
      case "$ref":
        return this.of(this.#document.target(claim));
      case "allOf":
        return this.ofAll(this.branches(claim, "allOf"));
      case "anyOf":
        return this.union(this.branches(claim, "anyOf"));
      case "oneOf":
        return this.#oneOf(this.branches(claim, "oneOf"));
      case "not":
        return this.of({ ...child("not"), isNegated: true });
      case "if":
        return this.#condition(claim, schema);
      default:
        return null;
    }
  }

  /** The schemas of a keyword that is a list. */
  branches(claim: Claim, keyword: string, isNegated = false): Claim[] {
    const branches = listOf(claim.schema as Schema, keyword, claim.path);
    return branches.map((_, i) => this.#document.child(claim, [keyword, String(i)], isNegated));
  }

  union(claims: readonly Claim[]): readonly Alternative[] {
    return this.#checked(
      claims.flatMap((claim) => this.of(claim)),
      claims[0]?.path ?? [],
    );
  }

  /** Exactly one: each branch, and none of those that could hold at the same time. */
  #oneOf(branches: readonly Claim[]): readonly Alternative[] {
    const overlaps = new Map<string, boolean>();
    const overlap = (i: number, k: number): boolean => {
      const key = `${Math.min(i, k)} ${Math.max(i, k)}`;
      const known = overlaps.get(key) ?? !this.#areDisjoint([branches[i]!], [branches[k]!]);
      overlaps.set(key, known);
      return known;
    };
    return branches.flatMap((branch, i) => {
      const others = branches.filter((_, k) => k !== i && overlap(i, k));
      const asObject = [branch, { ...branch, schema: OBJECT, isNegated: false }];
      const overlapping = others.filter((other) => !this.#areDisjoint(asObject, [other]));
      if (overlapping.length === others.length) return this.#only([branch], others);
      // Without `type`, schemas of objects have all other values in common.
      const notObject = [branch, { ...branch, schema: OBJECT, isNegated: true }];
      const objects = this.#only(asObject, overlapping);
      const rest = this.#unlessUnsupported(() => this.#only(notObject, others), objects.length > 0);
      return [...objects, ...rest];
    });
  }

  /** The claims hold, and none of the others. */
  #only(claims: readonly Claim[], others: readonly Claim[]): readonly Alternative[] {
    const all = this.ofAll(claims);
    return others.reduce<readonly Alternative[]>((left, other) => {
      this.#spend(Math.floor(widthOf(all[0] ?? []) / 8), other.path);
      const outside = closedNegation(all, this.wholeOfAll([other]) ?? []);
      const negated = this.#unlessUnsupported(
        () => this.of({ ...other, isNegated: true }),
        outside.length > 0,
      );
      return this.#product(left, [...negated, ...outside], other.path);
    }, all);
  }

  /** @param isOptional whether there are other alternatives if these cannot be written */
  #unlessUnsupported(
    make: () => readonly Alternative[],
    isOptional: boolean,
  ): readonly Alternative[] {
    try {
      return make();
    } catch (error) {
      if (!isOptional || !(error instanceof GrammarError) || !error.unsupported) throw error;
      this.#areWhole = false;
      return [];
    }
  }

  #condition(claim: Claim, schema: Schema): readonly Alternative[] {
    const child = (keyword: string, isNegated = false): Claim[] =>
      keyword in schema ? [this.#document.child(claim, [keyword], isNegated)] : [];
    if (!("then" in schema) && !("else" in schema)) return [[]];
    return [
      ...this.ofAll([...child("if"), ...child("then")]),
      ...this.ofAll([...child("if", true), ...child("else")]),
    ];
  }

  #dependencies(claim: Claim, schema: Schema, keyword: string): readonly Alternative[] {
    const dependencies = schemasOf(schema, keyword, claim.path);
    let all: readonly Alternative[] = [[]];
    for (const name of keysInOrder(dependencies)) {
      const at = { ...claim, path: [...claim.path, keyword, name] };
      const without: Schema = { properties: { [name]: false } };
      const dependency = dependencies[name];
      const held = Array.isArray(dependency)
        ? [[{ claim: { ...at, schema: { required: [name, ...namesOf(dependency, at.path)] } } }]]
        : this.#product(
            [[{ claim: { ...at, schema: { required: [name] } } }]],
            this.of(this.#document.child(claim, [keyword, name])),
            at.path,
          );
      all = this.#product(all, [[{ claim: { ...at, schema: without } }], ...held], at.path);
    }
    return all;
  }

  #product(
    left: readonly Alternative[],
    right: readonly Alternative[],
    path: Path,
  ): readonly Alternative[] {
    const [only] = right;
    if (only?.length === 0 && right.length === 1) return left;
    if (left[0]?.length === 0 && left.length === 1) return right;
    const copied = (left[0]?.length ?? 0) + (right[0]?.length ?? 0);
    this.#spend(left.length * right.length * (1 + Math.floor(copied / PARTS_PER_STEP)), path);
    return this.#checked(
      left.flatMap((a) => right.map((b) => [...a, ...b])),
      path,
    );
  }

  #checked(alternatives: readonly Alternative[], path: Path): readonly Alternative[] {
    if (alternatives.length <= ALTERNATIVES_MAX) return alternatives;
    throw new GrammarError(path, `has more than ${ALTERNATIVES_MAX} combinations of alternatives`);
  }
}
