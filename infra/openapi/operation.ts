/** How a call of the API is written down. */
import type { ParameterName } from "./parameters.ts";
import type { JsonSchema } from "./schemas.ts";

/** A schema by name, or itself. */
export type SchemaOf = string | JsonSchema;

export interface Reply {
  readonly description: string;
  readonly schema?: SchemaOf;
  /** Server-sent events, whose data this is. */
  readonly stream?: string;
  /** Whether `[DONE]` comes last. */
  readonly isDone?: boolean;
  /** Where it is not JSON. */
  readonly mediaType?: string;
  readonly headers?: readonly string[];
}

export interface Operation {
  readonly tag: string;
  readonly summary: string;
  readonly description?: string;
  /** Without an API key. */
  readonly isPublic?: true;
  /** A ticket serves as well. */
  readonly takesTicket?: true;
  /** It makes jobs. */
  readonly submits?: true;
  readonly parameters?: readonly ParameterName[];
  /** Schemas of which the body fits one, each with an example that works. */
  readonly body?: Readonly<Record<string, JsonSchema>>;
  /** Schema of a multipart form. */
  readonly form?: string;
  readonly replies: Readonly<Record<number, Reply>>;
  /** Statuses of errors beside those that follow from the rest. */
  readonly errors?: readonly number[];
}

export const ref = (name: string): JsonSchema => ({ $ref: `#/definitions/${name}` });
export const object = (properties: Readonly<Record<string, JsonSchema>>): JsonSchema => ({
  type: "object",
  properties,
  required: Object.keys(properties),
  additionalProperties: false,
});
export const STRING = { type: "string" };
export const is = (value: string | boolean): JsonSchema => ({ const: value });

export const list = (of: string, more: Readonly<Record<string, JsonSchema>> = {}): JsonSchema =>
  object({ object: is("list"), data: { type: "array", items: ref(of) }, ...more });
export const HAS_MORE = { has_more: { type: "boolean" } };

export const deleted = (kind: string): Reply => ({
  description: "It is deleted.",
  schema: object({ id: STRING, object: is(kind), deleted: is(true) }),
});
