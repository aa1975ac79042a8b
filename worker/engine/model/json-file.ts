/** Reads a JSON file. */
import { readFileSync } from "node:fs";
import { refusePointer } from "../graph/lfs-pointer.ts";

/** @throws Error with file and reason */
export function readJson(file: string): unknown {
  try {
    refusePointer(file);
    return JSON.parse(readFileSync(file, "utf8")) as unknown;
  } catch (error) {
    throw new Error(`${file}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}
