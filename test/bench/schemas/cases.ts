/** The cases of MaskBench: schemas with instances that are valid or not. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseJson } from "../../../shared/api/json-text.ts";
import { keysInOrder, numberText } from "../../../shared/api/json-source.ts";

export interface SchemaCase {
  /** The file without its extension: the collection, three hyphens, and the schema's name. */
  readonly name: string;
  readonly schema: Readonly<Record<string, unknown>>;
  readonly instances: readonly { readonly text: string; readonly isValid: boolean }[];
}

/** Reads a folder of MaskBench's files, or of plain schemas, which then have no instances. */
export function* readCases(folder: string): Generator<SchemaCase> {
  for (const file of readdirSync(folder).toSorted()) {
    if (!file.endsWith(".json")) continue;
    const value = parseJson(readFileSync(join(folder, file), "utf8"), file) as {
      schema?: SchemaCase["schema"];
      tests?: { valid: boolean; data: unknown }[];
    };
    const { tests = [] } = value;
    const isCase = "schema" in value && "tests" in value;
    yield {
      name: file.replace(/\.json$/, ""),
      schema: isCase ? value.schema! : value,
      instances: tests.map((test) => ({ text: written(test, "data"), isValid: test.valid })),
    };
  }
}

/** A member as JSON on one line, with the spaces that Python writes: the form in which MaskBench gives instances to engines. */
function written(container: object, key: string | number): string {
  const value = (container as Record<string | number, unknown>)[key];
  if (typeof value === "number") return numberText(container, key);
  if (Array.isArray(value)) return `[${value.map((_, i) => written(value, i)).join(", ")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const members = keysInOrder(value).map(
    (name) => `${JSON.stringify(name)}: ${written(value, name)}`,
  );
  return `{${members.join(", ")}}`;
}
