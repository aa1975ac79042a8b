/** Proves that no value meets several schemas at once, as far as a short look shows: `oneOf` needs it. */
import { GrammarError } from "../rules/grammar-error.ts";
import { allowedTypes, widthOf } from "./allowed-types.ts";
import type { Alternative } from "./alternatives.ts";
import { arrayDemand, itemClaims } from "./arrays.ts";
import type { Claim, Document } from "./document.ts";
import { numberDemand } from "./numbers.ts";
import { objectDemand, propertyClaims } from "./objects.ts";
import type { Validator } from "./valid.ts";
import type { Type } from "./keywords.ts";
import { stringDemand } from "./strings.ts";

/** Properties of properties are looked at to this depth. */
const DEPTH_MAX = 3;

/** Steps of a look at an alternative, beside those of its keywords. */
const LOOK_STEPS = 8;

export class Emptiness {
  readonly #document: Document;
  readonly #validator: Validator;
  readonly #alternativesOf: (claims: readonly Claim[]) => readonly Alternative[] | null;

  /** @param alternativesOf all alternatives; null if values that are allowed may be missing, so that nothing is proven */
  constructor(
    document: Document,
    validator: Validator,
    alternativesOf: (claims: readonly Claim[]) => readonly Alternative[] | null,
  ) {
    this.#document = document;
    this.#validator = validator;
    this.#alternativesOf = alternativesOf;
  }

  /** Whether no value can meet all claims. False if that is not sure. */
  isEmpty(claims: readonly Claim[], depth = 0): boolean {
    try {
      const alternatives = this.#alternativesOf(claims);
      return alternatives?.every((parts) => this.#isImpossible(parts, depth)) ?? false;
    } catch (error) {
      if (error instanceof GrammarError && error.unsupported) return false;
      throw error;
    }
  }

  #isImpossible(parts: Alternative, depth: number): boolean {
    const steps = LOOK_STEPS + (widthOf(parts) >>> 1);
    this.#validator.spend(steps, parts[0]?.claim.path ?? []);
    const values = this.#validator.constants(parts);
    if (values) return values.length === 0;
    return allowedTypes(parts).types.every((type) => this.#isImpossibleType(type, parts, depth));
  }

  #isImpossibleType(type: Type, parts: Alternative, depth: number): boolean {
    switch (type) {
      case "null":
      case "boolean":
        return false;
      case "number": {
        const { min, max } = numberDemand(parts, []).bounds;
        const order = min && max ? min.at.compare(max.at) : -1;
        return order > 0 || (order === 0 && (min!.isExclusive || max!.isExclusive));
      }
      case "string": {
        const { min, max } = stringDemand(parts, []);
        return max !== null && max < min;
      }
      case "array":
        return this.#isImpossibleArray(parts, depth);
      case "object":
        return this.#isImpossibleObject(parts, depth);
    }
  }

  #isImpossibleArray(parts: Alternative, depth: number): boolean {
    const demand = arrayDemand(parts, this.#document);
    const { min, max } = demand;
    if (max !== null && max < min) return true;
    if (min === 0 || depth >= DEPTH_MAX) return false;
    return this.isEmpty(itemClaims(demand, 0, this.#document), depth + 1);
  }

  #isImpossibleObject(parts: Alternative, depth: number): boolean {
    const demand = objectDemand(parts, this.#document);
    if (demand.max !== null && demand.max < demand.required.size) return true;
    if (depth >= DEPTH_MAX) return false;
    return [...demand.required].some((name) => {
      this.#validator.spend(parts.length >>> 3, parts[0]?.claim.path ?? []);
      const claims = propertyClaims(
        demand,
        name,
        (pattern, { claim }) =>
          this.#validator.matches(name, pattern, [...claim.path, "patternProperties", pattern]),
        this.#document,
      );
      return this.isEmpty(claims, depth + 1);
    });
  }
}
