/** A JSON Schema document: finds the schemas that `$ref` points to. */
import { GrammarError, type Path } from "../rules/grammar-error.ts";

export type Schema = Readonly<Record<string, unknown>>;

export function isObject(value: unknown): value is Schema {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A schema, or its negation, at a place of a document. */
export interface Claim {
  readonly schema: unknown;
  /** Keys from the top of the request. */
  readonly path: Path;
  /** The innermost schema around it that has an `$id`, or the top of the document. */
  readonly resource: unknown;
  readonly isNegated: boolean;
}

/** Keywords whose values are no schemas, even if they look so. */
const CONSTANTS = new Set(["enum", "const", "default", "example", "examples"]);
/** The base of documents without an `$id`. */
const BASE = "schema:///";

/** Drafts in which the keywords beside a `$ref` are ignored. */
const OLD_DRAFT = /json-schema\.org\/draft-0[1-7]\b/u;

export class Document {
  readonly top: Claim;
  /** As it is in the request. */
  readonly #top: Claim;
  /** By schemas of old drafts with `$ref`: schemas with nothing else. */
  readonly #references = new Map<Schema, Schema>();
  /** By absolute URI without a fragment: the resource and its path. */
  #resources: Map<string, Claim> | null = null;
  /** By URI with a plain-name fragment. */
  readonly #anchors = new Map<string, Claim>();
  readonly #bases = new Map<unknown, string>();

  /** @param path keys from the top of the request to the schema */
  constructor(schema: unknown, path: Path) {
    this.#top = { schema, path, resource: schema, isNegated: false };
    this.top = this.#effective(this.#top);
  }

  /** The schema at keys below a claim. */
  child(claim: Claim, keys: readonly string[], isNegated = false): Claim {
    return this.#effective(this.#below(claim, keys, isNegated));
  }

  /** The keywords that count: beside a `$ref` none, if `$schema` names a draft up to 7. */
  #effective(claim: Claim): Claim {
    const { schema } = claim;
    if (!isObject(schema) || typeof schema["$ref"] !== "string") return claim;
    if (Object.keys(schema).length === 1 || !this.#isOldDraft(claim)) return claim;
    const alone = this.#references.get(schema) ?? { $ref: schema["$ref"] };
    this.#references.set(schema, alone);
    return { ...claim, schema: alone };
  }

  #isOldDraft({ resource }: Claim): boolean {
    const named = [resource, this.#top.schema].map((each) => isObject(each) && each["$schema"]);
    const draft = named.find((each) => typeof each === "string");
    return typeof draft === "string" && OLD_DRAFT.test(draft);
  }

  /** As `child`, as it is in the request. */
  #below({ schema, path, resource }: Claim, keys: readonly string[], isNegated = false): Claim {
    let found = schema;
    for (const key of keys) found = (found as Schema)[key];
    const inside = { schema: found, path: [...path, ...keys], isNegated };
    return { ...inside, resource: idOf(found) === null ? resource : found };
  }

  /** The target of the claim's `$ref`. @throws GrammarError */
  target(claim: Claim): Claim {
    const at = [...claim.path, "$ref"];
    const reference = (claim.schema as Schema)["$ref"];
    if (typeof reference !== "string") throw new GrammarError(at, "must be a string");
    const [uri, fragment] = splitFragment(reference);
    const resource = this.#resource(uri, claim, at);
    const { isNegated } = claim;
    if (fragment === "") return this.#effective({ ...resource, isNegated });
    if (!fragment.startsWith("/")) return this.#anchor(resource, fragment, claim, at);
    const keys = pointerKeys(fragment, at);
    // Some generators give every schema an id, and point from the top of the document all the same.
    const found = this.#find(resource, keys) ?? (uri === "" ? this.#find(this.#top, keys) : null);
    if (!found) throw new GrammarError(at, "points to a schema that does not exist");
    return this.#effective({ ...found, isNegated });
  }

  #resource(uri: string, claim: Claim, at: Path): Claim {
    if (uri === "" && claim.resource === this.#top.schema) return this.#top;
    const resources = (this.#resources ??= this.#index());
    const base = this.#bases.get(claim.resource) ?? BASE;
    const absolute = uri === "" ? base : resolved(uri, base);
    const found = absolute === null ? undefined : resources.get(absolute);
    if (found) return found;
    throw new GrammarError(at, "points outside of the schema, which is not supported", {
      unsupported: true,
    });
  }

  #anchor(resource: Claim, name: string, claim: Claim, at: Path): Claim {
    this.#resources ??= this.#index();
    const base = this.#bases.get(resource.schema) ?? BASE;
    const found = this.#anchors.get(`${base}#${name}`);
    if (!found) throw new GrammarError(at, "points to an anchor that does not exist");
    return this.#effective({ ...found, isNegated: claim.isNegated });
  }

  #find(from: Claim, keys: readonly string[]): Claim | null {
    let claim = from;
    for (const key of keys) {
      const { schema } = claim;
      const isInside = typeof schema === "object" && schema !== null && Object.hasOwn(schema, key);
      if (!isInside) return null;
      claim = this.#below(claim, [key]);
    }
    return claim;
  }

  /** All resources and anchors of the document. */
  #index(): Map<string, Claim> {
    const resources = new Map<string, Claim>();
    const open: { claim: Claim; base: string }[] = [{ claim: this.#top, base: BASE }];
    for (let next = open.pop(); next; next = open.pop()) {
      const { claim } = next;
      const id = idOf(claim.schema);
      const base = id === null ? next.base : (resolved(id, next.base) ?? next.base);
      const isTop = claim === this.#top;
      if (isTop || id !== null) {
        resources.set(base, claim);
        this.#bases.set(claim.schema, base);
      }
      if (isTop) resources.set(BASE, claim);
      const anchor = anchorOf(claim.schema);
      if (anchor !== null) this.#anchors.set(`${base}#${anchor}`, claim);
      if (typeof claim.schema !== "object" || claim.schema === null) continue;
      for (const key of Object.keys(claim.schema)) {
        if (!CONSTANTS.has(key)) open.push({ claim: this.#below(claim, [key]), base });
      }
    }
    return resources;
  }
}

/** `$id`, or `id` of older drafts, without a fragment; null if there is none. */
function idOf(schema: unknown): string | null {
  if (!isObject(schema)) return null;
  const id = schema["$id"] ?? schema["id"];
  if (typeof id !== "string") return null;
  const [uri] = splitFragment(id);
  return uri === "" ? null : uri;
}

function anchorOf(schema: unknown): string | null {
  if (!isObject(schema)) return null;
  const anchor = schema["$anchor"];
  if (typeof anchor === "string") return anchor;
  const id = schema["$id"] ?? schema["id"];
  return typeof id === "string" && /^#[^/]/.test(id) ? id.slice(1) : null;
}

function splitFragment(reference: string): [uri: string, fragment: string] {
  const at = reference.indexOf("#");
  return at < 0 ? [reference, ""] : [reference.slice(0, at), reference.slice(at + 1)];
}

function resolved(uri: string, base: string): string | null {
  return URL.canParse(uri, base) ? splitFragment(new URL(uri, base).href)[0] : null;
}

function pointerKeys(pointer: string, at: Path): string[] {
  try {
    return decodeURIComponent(pointer)
      .split("/")
      .slice(1)
      .map((key) => key.replaceAll("~1", "/").replaceAll("~0", "~"));
  } catch {
    throw new GrammarError(at, "is not a JSON pointer");
  }
}
