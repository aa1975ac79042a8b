/** Reads JSON files. */
import { readFileSync } from "node:fs";
import { refusePointer } from "../graph/lfs-pointer.ts";

/** @throws Error with file and reason */
export const readJson = (file: string): unknown => parseJson(file, readText(file));

/** @throws Error with file and reason */
export function readText(file: string): string {
  return ofFile(file, () => {
    refusePointer(file);
    return readFileSync(file, "utf8");
  });
}

/** @param text the file's @throws Error with file and reason */
export const parseJson = (file: string, text: string): unknown =>
  ofFile(file, () => JSON.parse(text) as unknown);

function ofFile<T>(file: string, use: () => T): T {
  try {
    return use();
  } catch (error) {
    throw new Error(`${file}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}
