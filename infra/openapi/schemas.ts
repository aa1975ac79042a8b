/**
 * Converts valibot schemas to the JSON Schemas of the OpenAPI document. A schema that shared/api exports with a capital letter
 * becomes a component with that name. This file knows no route.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { toJsonSchema, type ConversionConfig } from "@valibot/to-json-schema";
import type * as v from "valibot";

export type JsonSchema = Readonly<Record<string, unknown>>;
/** Whether a schema describes what is sent to the API or what the API sends. */
export type Direction = "input" | "output";

/** Every file of shared/api is imported, so that a new one cannot be forgotten. */
const API_FOLDER = join(import.meta.dirname, "../../shared/api");
const MODULES = await Promise.all(
  readdirSync(API_FOLDER).map(
    (file) => import(join(API_FOLDER, file)) as Promise<Readonly<Record<string, unknown>>>,
  ),
);

/** The members of a valibot schema that contain other schemas or that the conversion reads. */
interface SchemaNode {
  readonly kind: string;
  readonly type: string;
  readonly pipe?: readonly SchemaNode[];
  readonly entries?: Readonly<Record<string, SchemaNode>>;
  readonly options?: readonly (SchemaNode | string)[];
  readonly items?: readonly SchemaNode[];
  readonly item?: SchemaNode;
  readonly rest?: SchemaNode;
  readonly wrapped?: SchemaNode;
  readonly value?: SchemaNode;
  readonly metadata?: Readonly<Record<string, unknown>>;
}

/** Stands for a named schema inside another one. */
interface ReferenceNode extends SchemaNode {
  readonly kind: "schema";
  readonly type: "reference";
  readonly name: string;
}

const NAMES: ReadonlyMap<SchemaNode, string> = new Map(
  MODULES.flatMap((module) => Object.entries(module as Record<string, unknown>)).flatMap(
    ([name, value]) => (/^[A-Z]/.test(name) && isSchema(value) ? [[value, name] as const] : []),
  ),
);

/** Collects the named schemas that converted ones refer to. */
export class SchemaComponents {
  readonly #schemas = new Map<string, JsonSchema>();
  readonly #directions = new Map<string, Direction>();

  /** The named schemas so far, by name. */
  get schemas(): Record<string, JsonSchema> {
    return Object.fromEntries([...this.#schemas].sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  /** The schema as JSON: a reference if it has a name. */
  convert(schema: v.GenericSchema, direction: Direction): JsonSchema {
    return this.#convert(this.#reference(schema, direction), direction);
  }

  /** Adds a component whose name is not an export of shared/api. @returns a reference to it */
  add(name: string, schema: JsonSchema): JsonSchema {
    this.#set(name, schema);
    return { $ref: `#/components/schemas/${name}` };
  }

  #convert(node: SchemaNode, direction: Direction): JsonSchema {
    const config: ConversionConfig = { ...CONFIG, typeMode: direction };
    const { $schema: _, ...json } = toJsonSchema(node as unknown as v.GenericSchema, config);
    return json;
  }

  /** A reference to the node if it has a name; otherwise the node, with references to the named schemas in it. */
  #reference(node: SchemaNode, direction: Direction): SchemaNode {
    const name = NAMES.get(node);
    if (name === undefined) return this.#referenceInside(node, direction);
    // Otherwise the schema is already converted, or is being converted now because it contains itself.
    if (this.#directions.get(name) !== direction) {
      this.#directions.set(name, direction);
      const json = this.#convert(this.#referenceInside(node, direction), direction);
      this.#set(name, this.#nameBranches(name, json));
    }
    return { kind: "schema", type: "reference", name } as ReferenceNode;
  }

  /**
   * The converter can make references too, but it copies a named schema that a field pipes into its own description. With
   * these references, the field has the reference and its description.
   */
  #referenceInside(node: SchemaNode, direction: Direction): SchemaNode {
    const one = (inner: SchemaNode) => this.#reference(inner, direction);
    const many = (inner: readonly SchemaNode[]) =>
      inner.map((item) => (isSchema(item) ? one(item) : item));
    return {
      ...node,
      ...(node.pipe && {
        pipe: many(node.pipe).map((item) => this.#convertContent(item, direction)),
      }),
      ...(node.entries && {
        entries: Object.fromEntries(
          Object.entries(node.entries).map(([name, entry]) => [name, one(entry)]),
        ),
      }),
      ...(node.options && { options: many(node.options as readonly SchemaNode[]) }),
      ...(node.items && { items: many(node.items) }),
      ...(node.item && { item: one(node.item) }),
      ...(node.rest && { rest: one(node.rest) }),
      ...(node.wrapped && { wrapped: one(node.wrapped) }),
      ...(isSchema(node.value) && { value: one(node.value) }),
    };
  }

  /** A text whose content has a schema names it in its metadata, where the converter would not convert it. */
  #convertContent(item: SchemaNode, direction: Direction): SchemaNode {
    const { contentSchema } = item.metadata ?? {};
    if (!isSchema(contentSchema)) return item;
    const converted = this.#convert(this.#reference(contentSchema, direction), direction);
    return { ...item, metadata: { ...item.metadata, contentSchema: converted } };
  }

  /** Gives the branches of a union names from their `type`. Generators of clients would number them. */
  #nameBranches(name: string, schema: JsonSchema): JsonSchema {
    const branches = schema["oneOf"] as readonly JsonSchema[] | undefined;
    if (branches === undefined) return schema;
    const named = branches.map((branch) => {
      const { type } = (branch["properties"] ?? {}) as { readonly type?: JsonSchema };
      const value = type?.["const"];
      return typeof value === "string" ? this.add(name + pascalCase(value), branch) : branch;
    });
    return { ...schema, oneOf: named };
  }

  /** @throws Error if the name has another schema already */
  #set(name: string, schema: JsonSchema): void {
    const known = this.#schemas.get(name);
    if (known !== undefined && !isDeepStrictEqual(known, schema)) {
      throw new Error(`${name}: two different schemas have this name`);
    }
    this.#schemas.set(name, schema);
  }
}

const CONFIG: ConversionConfig = {
  target: "draft-2020-12",
  // Rules that are code, such as v.check, are written in descriptions.
  errorMode: "ignore",
  // Browsers accept more URLs than the standard behind this format.
  ignoreActions: ["url"],
  overrideSchema: ({ valibotSchema, jsonSchema }) => toStrict(valibotSchema, jsonSchema),
};

/** Replaces results of the converter that are missing, or that strict tools do not accept. */
function toStrict(
  schema: { readonly type: string; readonly literal?: unknown; readonly name?: unknown },
  json: object,
): object | undefined {
  switch (schema.type) {
    case "reference":
      return { $ref: `#/components/schemas/${String(schema.name)}` };
    case "literal":
      // A constant boolean becomes a string in clients of openapi-generator.
      if (typeof schema.literal === "boolean") return { type: "boolean" };
      return { type: typeof schema.literal, ...json };
    case "nullable":
    case "nullish":
      return describeUnion(json as JsonSchema);
    case "null":
      return { ...json, type: ["string", "null"], enum: [null] };
    case "strict_tuple":
      return boundTuple(json as JsonSchema);
    case "custom":
      return { ...json, type: "object" };
    case "blob":
    case "file":
      return { ...json, type: "string", format: "binary" };
    default:
      return undefined;
  }
}

/** `items: false` says the same, but generators of clients expect an object there. */
function boundTuple(json: JsonSchema): JsonSchema {
  const { items: _items, ...tuple } = json;
  return { ...tuple, maxItems: tuple["minItems"] };
}

/** Moves the text of the only branch beside null up to the union. */
function describeUnion({ anyOf, ...rest }: JsonSchema): JsonSchema {
  const [branch, none] = anyOf as readonly [JsonSchema, JsonSchema];
  const { description, examples, ...bare } = branch;
  return {
    ...rest,
    anyOf: [bare, none],
    ...(description !== undefined && { description }),
    ...(examples !== undefined && { examples }),
  };
}

/** `json_schema` -> `JsonSchema` */
export function pascalCase(words: string): string {
  return words.replaceAll(/(?:^|_)([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function isSchema(value: unknown): value is SchemaNode {
  return typeof value === "object" && value !== null && "kind" in value && value.kind === "schema";
}
