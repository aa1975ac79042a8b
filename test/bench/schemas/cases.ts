/** The cases of MaskBench: schemas with instances that are valid or not. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseJson } from "../../../shared/api/json-text.ts";
import { keysInOrder } from "../../../shared/api/json-source.ts";

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
    const text = readFileSync(join(folder, file), "utf8");
    const value = parseJson(text, file) as {
      schema?: SchemaCase["schema"];
      tests?: { valid: boolean; data: unknown }[];
    };
    const { tests = [] } = value;
    const { tests: numbers = [] } = numbersOf(text) as { tests?: object[] };
    const isCase = "schema" in value && "tests" in value;
    yield {
      name: file.replace(/\.json$/, ""),
      schema: isCase ? value.schema! : value,
      instances: tests.map((test, i) => ({
        text: written(test, numbers[i]!, "data"),
        isValid: test.valid,
      })),
    };
  }
}

/** The same values, with each number as its text: 1.0 is no integer in old drafts. */
const numbersOf = (text: string): unknown =>
  JSON.parse(text, (_key, value, context?: { source?: string }) =>
    typeof value === "number" ? context!.source! : value,
  );

/** A member as JSON on one line, with the spaces that Python writes: the form in which MaskBench gives instances to engines. */
function written(container: object, numbers: object, key: string | number): string {
  const value = (container as Record<string | number, unknown>)[key];
  const texts = (numbers as Record<string | number, unknown>)[key];
  if (typeof value === "number") return texts as string;
  if (Array.isArray(value))
    return `[${value.map((_, i) => written(value, texts as object, i)).join(", ")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const members = keysInOrder(value).map(
    (name) => `${JSON.stringify(name)}: ${written(value, texts as object, name)}`,
  );
  return `{${members.join(", ")}}`;
}
