/** `npm run openapi`: writes the OpenAPI document that the edge serves. Run it after every change of the API. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openapiDocument } from "./document.ts";

const FILE = join(import.meta.dirname, "../../edge/docs/openapi.json");
/** Objects down to this depth have a line for each member, so that a diff shows which of them changed. */
const OPEN_LEVELS = 3;

await writeFile(FILE, `${format(openapiDocument(), OPEN_LEVELS)}\n`);
console.log(`written to ${FILE}`);

function format(value: object, openLevels: number): string {
  const members = Object.entries(value).map(([name, member]: [string, unknown]) => {
    const isOpen = openLevels > 1 && typeof member === "object" && !Array.isArray(member);
    const text = isOpen ? format(member as object, openLevels - 1) : JSON.stringify(member);
    return `${JSON.stringify(name)}: ${text}`;
  });
  return `{\n${members.join(",\n")}\n}`;
}
