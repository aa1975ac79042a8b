/** The grammars of the latest response formats and tools: clients and batches send the same ones again and again. */
import { lostNothing } from "../api/json-source.ts";
import { AppError } from "../api/errors.ts";
import type { Grammar } from "../grammar/rules/grammar.ts";
import type { Parts } from "../grammar/rules/parts.ts";
import { outputRulesParts, type OutputRules } from "../tools/grammar.ts";

/** Characters of JSON of all grammars and formats together: about 12 MB of memory. */
const CHARS_MAX = 2_000_000;
/** Added to the JSON of each entry, so that many small ones have a bound too. */
const ENTRY_CHARS = 1_000;

/** The error of a refused format, without its stack. */
type Refusal = Pick<AppError, "code" | "message" | "param">;

interface Known {
  readonly result: { readonly grammar: Grammar | null } | { readonly refusal: Refusal };
  readonly chars: number;
}

interface TenantFormats {
  readonly tenant: string;
  /** By content, the one that was used last at the end. */
  readonly known: Map<string, Known>;
  chars: number;
}

export class OutputGrammars {
  /** By tenant, the one that was here last at the end. */
  readonly #tenants = new Map<string, TenantFormats>();
  #chars = 0;

  /**
   * @param compile does the work
   * @throws AppError as `outputRulesParts`, and the errors of `compile`
   */
  async get(
    tenant: string,
    rules: OutputRules,
    compile: (work: Parts<Grammar | null>) => Promise<Grammar | null>,
  ): Promise<Grammar | null> {
    // The order of keys and exact numbers are not in the content.
    if (!lostNothing(rules)) return compile(outputRulesParts(rules));
    const key = JSON.stringify([rules.format, rules.tools]);
    const known = this.#find(tenant, key);
    if (known) return resultOf(known);
    try {
      const grammar = await compile(outputRulesParts(rules));
      this.#keep(tenant, key, { grammar });
      return grammar;
    } catch (error) {
      if (error instanceof AppError && REFUSALS.has(error.code)) {
        const { code, message, param } = error;
        this.#keep(tenant, key, { refusal: { code, message, param } });
      }
      throw error;
    }
  }

  #find(tenant: string, key: string): Known | undefined {
    const formats = this.#tenants.get(tenant);
    const known = formats?.known.get(key);
    if (formats && known) {
      moveToEnd(formats.known, key, known);
      moveToEnd(this.#tenants, tenant, formats);
    }
    return known;
  }

  #keep(tenant: string, key: string, result: Known["result"]): void {
    const formats = this.#tenants.get(tenant) ?? { tenant, known: new Map(), chars: 0 };
    if (formats.known.has(key)) return;
    const chars = key.length + JSON.stringify(result).length + ENTRY_CHARS;
    if (chars > CHARS_MAX / 2) return;
    formats.known.set(key, { result, chars });
    formats.chars += chars;
    this.#chars += chars;
    moveToEnd(this.#tenants, tenant, formats);
    while (this.#chars > CHARS_MAX) this.#dropOne(formats);
  }

  /**
   * Drops the oldest format of the tenant that uses most. The new format stays: if it is more than any other tenant has, the tenant
   * that has been away for longest makes room. So one tenant cannot take more than half from the others.
   */
  #dropOne(newest: TenantFormats): void {
    const tenants = [...this.#tenants.values()];
    const largest = tenants.reduce((most, other) => (other.chars > most.chars ? other : most));
    const formats = largest === newest && newest.known.size === 1 ? tenants[0]! : largest;
    const [key, { chars }] = formats.known.entries().next().value!;
    formats.known.delete(key);
    formats.chars -= chars;
    this.#chars -= chars;
    if (formats.known.size === 0) this.#tenants.delete(formats.tenant);
  }
}

/** @throws AppError of its own for each caller */
function resultOf({ result }: Known): Grammar | null {
  if ("grammar" in result) return result.grammar;
  const { code, message, param } = result.refusal;
  throw new AppError(code, message, param === null ? {} : { param });
}

function moveToEnd<K, V>(map: Map<K, V>, key: K, value: V): void {
  map.delete(key);
  map.set(key, value);
}

/** The errors of a format itself: another try gives the same. */
const REFUSALS: ReadonlySet<string> = new Set(["invalid_request", "unsupported_parameter"]);
