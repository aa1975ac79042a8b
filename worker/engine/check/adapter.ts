/** Checks the adapter of an expert, and whether its antiexpert's graph can hold it. */
import { statSync } from "node:fs";
import { join } from "node:path";
import { productsOf } from "../graph/adapter-modules.ts";
import { inspectGraph } from "../graph/inspect.ts";
import { producersByValue } from "../graph/nodes.ts";
import { ADAPTER_FILES, readAdapter } from "../model/lora-adapter.ts";
import type { AdapterReport, GraphReport } from "./report.ts";

/** @throws Error with the reason if a worker would refuse it */
export function checkAdapter(folder: string, { file, form }: GraphReport): AdapterReport {
  const { modules, config } = readAdapter(folder);
  if (form.variant === "original") {
    throw new Error(`${file}: it can have no adapters as it runs as exported (${form.reason})`);
  }
  const { nodes, innerNodes } = inspectGraph(file);
  const all = [...nodes, ...innerNodes];
  try {
    productsOf(modules.keys(), all, producersByValue(all));
  } catch (error) {
    throw new Error(`${file}: ${(error as Error).message}`, { cause: error });
  }
  const ranks = Array.from(modules.values(), ({ rank }) => rank);
  return {
    folder,
    modules: modules.size,
    rankMax: Math.max(...ranks),
    bytes: statSync(join(folder, ADAPTER_FILES.weights)).size,
    trainedOn: config.base_model_name_or_path,
  };
}
