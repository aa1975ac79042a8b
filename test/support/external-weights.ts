/** Writes a graph whose weights are in a separate file, as in all models above 2 GB. */
import { copyFileSync, writeFileSync } from "node:fs";
import { readModelFile } from "../../worker/engine/graph/model-file.ts";

/** @param graph a graph with its weights inside; it is replaced @param data the file for its weights, in the same folder */
export function moveWeights(graph: string, data: string): void {
  copyFileSync(graph, data);
  writeFileSync(graph, readModelFile(data));
}
