/**
 * JSON Schemas of replies, from the TypeScript interfaces that the code is checked against, with their comments as
 * descriptions. A type that valibot infers is a reference to the schema of that name.
 */
import { join } from "node:path";
import {
  BaseType,
  createFormatter,
  createParser,
  createProgram,
  SchemaGenerator,
  DEFAULT_CONFIG,
  ts,
  type CompletedConfig,
  type SubNodeParser,
  type SubTypeFormatter,
} from "ts-json-schema-generator";
import type { JsonSchema } from "./schemas.ts";

const SHARED = join(import.meta.dirname, "../../shared");

/** @returns the schemas of these exported types of shared/, and of those that they refer to, by name */
export function replySchemas(names: readonly string[]): Record<string, JsonSchema> {
  const config: CompletedConfig = {
    ...DEFAULT_CONFIG,
    path: join(SHARED, "*.ts"),
    tsconfig: join(SHARED, "../tsconfig.json"),
    jsDoc: "extended",
    // `tsc` of this repository checks them; the generator's own one may be older.
    skipTypeCheck: true,
  };
  const program = createProgram(config);
  const parser = createParser(program, config, (chain) => {
    chain.addNodeParser(inferredParser);
  });
  const formatter = createFormatter(config, (chain) => {
    chain.addTypeFormatter(inferredFormatter);
  });
  const generator = new SchemaGenerator(program, parser, formatter, config);
  return Object.assign(
    {},
    ...names.map((name) => generator.createSchema(name).definitions),
  ) as Record<string, JsonSchema>;
}

/** What valibot infers from the schema of that name. */
class InferredType extends BaseType {
  readonly name: string;

  constructor(name: string) {
    super();
    this.name = name;
  }

  getId(): string {
    return `inferred-${this.name}`;
  }
}

/** A type that shares its name with a schema is found as the schema's declaration; another one by what it is set to. */
const inferredParser: SubNodeParser = {
  supportsNode: (node) =>
    ts.isVariableDeclaration(node) ||
    (ts.isTypeReferenceNode(node) && node.typeName.getText() === "v.InferOutput"),
  createType: (node) => {
    const named = ts.isVariableDeclaration(node) ? node : node.parent;
    if (ts.isVariableDeclaration(named) || ts.isTypeAliasDeclaration(named)) {
      return new InferredType(named.name.getText());
    }
    throw new Error(`Expected a name for ${node.getText()}`);
  },
};

const inferredFormatter: SubTypeFormatter = {
  supportsType: (type) => type instanceof InferredType,
  getDefinition: (type) => ({ $ref: `#/definitions/${(type as InferredType).name}` }),
  getChildren: () => [],
};
