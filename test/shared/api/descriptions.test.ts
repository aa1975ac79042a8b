/** The schemas of shared/api describe themselves: the API document is made from them. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { expect, test } from "vitest";
import { ERRORS } from "../../../shared/api/error-codes.ts";

const API = join(import.meta.dirname, "../../../shared/api");

interface Field {
  /** Name of the schema and of the members, with dots. */
  readonly path: string;
  readonly schema: v.GenericSchema;
  readonly description: string | undefined;
  readonly notes: Readonly<Record<string, unknown>>;
}

const isSchema = (value: unknown): value is v.GenericSchema =>
  typeof value === "object" && value !== null && "kind" in value && value.kind === "schema";

/** The public schemas: those exported under a capital letter. */
async function publicSchemas(): Promise<[string, v.GenericSchema][]> {
  const modules = await Promise.all(
    readdirSync(API).map((file) => import(join(API, file)) as Promise<Record<string, unknown>>),
  );
  return modules.flatMap((module) =>
    Object.entries(module).filter((entry): entry is [string, v.GenericSchema] => {
      const [name, value] = entry;
      return /^[A-Z]/.test(name) && isSchema(value);
    }),
  );
}

/** The schemas directly inside one that is no object: items, options, wrapped schemas, the parts of a pipe. */
function innerSchemas(schema: v.GenericSchema): v.GenericSchema[] {
  const { pipe, items, options, wrapped, item, value } = schema as unknown as Record<
    string,
    unknown
  >;
  const lists = [pipe, items, options].flatMap((list) =>
    Array.isArray(list) ? (list as unknown[]) : [],
  );
  return [...lists, wrapped, item, value].filter(isSchema);
}

function toField(path: string, schema: v.GenericSchema): Field {
  const { type, wrapped } = schema as unknown as { type: string; wrapped: v.GenericSchema };
  // A partial object wraps the described fields of another one.
  const isPartial = type === "optional" && v.getDescription(schema) === undefined;
  const described = isPartial ? wrapped : schema;
  return {
    path,
    schema,
    description: v.getDescription(described),
    notes: v.getMetadata(described),
  };
}

/** The fields of a schema and of the schemas inside it, each once. */
function fieldsOf(path: string, schema: v.GenericSchema, seen: Set<unknown>): Field[] {
  if (seen.has(schema)) return [];
  seen.add(schema);
  const { entries = {} } = schema as { readonly entries?: Record<string, v.GenericSchema> };
  const fresh = Object.entries(entries).filter(([, entry]) => !seen.has(entry));
  return [
    ...fresh.map(([name, entry]) => toField(`${path}.${name}`, entry)),
    ...fresh.flatMap(([name, entry]) => fieldsOf(`${path}.${name}`, entry, seen)),
    ...innerSchemas(schema).flatMap((inner) => fieldsOf(path, inner, seen)),
  ];
}

async function allFields(): Promise<Field[]> {
  const seen = new Set<unknown>();
  return (await publicSchemas()).flatMap(([name, schema]) => fieldsOf(name, schema, seen));
}

test("every field of the API has a description", async () => {
  const fields = await allFields();
  expect(fields.length).toBeGreaterThan(300);
  expect(fields.filter(({ description }) => !description).map(({ path }) => path)).toEqual([]);
});

test("every description of a field or an error is made of full sentences", async () => {
  const fields = (await allFields()).map(({ path, description }) => `${path}: ${description}`);
  const errors = Object.entries(ERRORS).map(([code, error]) => `${code}: ${error.description}`);
  const isSentence = (text: string) => /: [A-Z`].*\.$/su.test(text);
  expect([...fields, ...errors].filter((text) => !isSentence(text))).toEqual([]);
});

test("the examples and the default of every field are valid", async () => {
  const isValid = ({ schema, notes: { examples = [], default: value } }: Field) =>
    [...(examples as unknown[]), ...(value === undefined ? [] : [value])].every((each) =>
      v.is(schema, each),
    );
  const wrong = (await allFields()).filter((field) => !isValid(field));
  expect(wrong.map(({ path }) => path)).toEqual([]);
});
