/** `npm run openapi`: writes the OpenAPI document that the edge serves; after every change of the contract. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openapiDocument } from "./document.ts";

const FILE = join(import.meta.dirname, "../../edge/openapi.json");
/** A line for each call, schema, parameter and so on: a change of one is a change of its line. */
const LEVELS = 3;

await writeFile(FILE, `${linesOf(openapiDocument(), LEVELS)}\n`);
console.log(`written to ${FILE}`);

function linesOf(value: object, levels: number): string {
  const entries = Object.entries(value) as [string, unknown][];
  const members = entries.map(([name, member]) => {
    const isOpen = levels > 1 && typeof member === "object" && !Array.isArray(member);
    return `${JSON.stringify(name)}: ${isOpen ? linesOf(member as object, levels - 1) : JSON.stringify(member)}`;
  });
  return `{\n${members.join(",\n")}\n}`;
}
